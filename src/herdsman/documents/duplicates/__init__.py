"""Documents that say what others say, and lines that many repeat."""
