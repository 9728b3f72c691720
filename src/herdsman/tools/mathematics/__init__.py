"""What answers questions of mathematics, inside the sandbox alone: `maths` sends these files there. They import nothing
but SymPy and each other."""
