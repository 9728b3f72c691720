"""Exit codes between a training process, its launcher and a scheduler. Every other code but 0 is a failure."""

from __future__ import annotations

EXIT_AGAIN = 75  # checkpointed and wants to go on: told to stop, or out of time (EX_TEMPFAIL of sysexits.h)
EXIT_STOP = 93  # starting again cannot help: a user's mistake, no progress (NVIDIA's resiliency extension uses it too)
EXIT_HARDWARE = 33  # this machine is suspected: go on without it
EXIT_HUNG = 90  # ended by its own watchdog: starting again is worth it

# What ends a launch at once, most telling first: these codes ask for no restart on this machine.
FINAL_EXITS = (EXIT_STOP, EXIT_HARDWARE, EXIT_AGAIN)
