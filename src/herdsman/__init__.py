"""Herdsman raises a herd of language models from raw web pages, the way Llama 3 was raised."""

import os

__version__ = "0.1.0"

# OpenMP reads these when torch is loaded, so they have to be set before, wherever torch is first imported. Threads that
# spin for long while they wait make small models many times slower on shared cores; threads that sleep at once are no
# faster together than one alone, for the pieces of work are shorter than waking up. Spinning for half a millisecond at
# most halves the time of a small model's step on idle cores, and doubles it on busy ones (docs/benchmarks/training.md).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
