"""All attacks, by what they are aimed at. See `attack.py`."""

from __future__ import annotations

from herdsman.tools.sandbox.attacks.attack import Attack
from herdsman.tools.sandbox.attacks.files import DEVICES, FILES
from herdsman.tools.sandbox.attacks.kernel import KERNEL
from herdsman.tools.sandbox.attacks.memory import MEMORY
from herdsman.tools.sandbox.attacks.network import NETWORK
from herdsman.tools.sandbox.attacks.processes import PROCESSES
from herdsman.tools.sandbox.attacks.services import JOBS, SESSIONS
from herdsman.tools.sandbox.attacks.time import OUTPUT, TIME
from herdsman.tools.sandbox.attacks.verdicts import VERDICTS

ATTACKS: tuple[Attack, ...] = (
    *FILES,
    *DEVICES,
    *NETWORK,
    *PROCESSES,
    *KERNEL,
    *MEMORY,
    *TIME,
    *OUTPUT,
    *SESSIONS,
    *JOBS,
    *VERDICTS,
)
