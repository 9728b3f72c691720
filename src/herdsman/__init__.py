"""Herdsman raises a herd of language models from raw web pages, the way Llama 3 was raised."""

import os

__version__ = "0.1.0"

# Threads that spin while they wait make small models many times slower on shared cores. OpenMP reads this when torch is
# loaded, so it has to be set before, wherever torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
