"""All attacks, by what they are aimed at. See `herdsman.tools.sandbox.attack`."""

from __future__ import annotations

from herdsman.tools.sandbox.attack import Attack
from herdsman.tools.sandbox.canaries import CANARIES
from tests.tools.sandbox.attacks.files import DEVICES, FILES
from tests.tools.sandbox.attacks.kernel import KERNEL
from tests.tools.sandbox.attacks.memory import MEMORY
from tests.tools.sandbox.attacks.network import NETWORK
from tests.tools.sandbox.attacks.processes import PROCESSES
from tests.tools.sandbox.attacks.services import JOBS, SESSIONS
from tests.tools.sandbox.attacks.time import OUTPUT, TIME
from tests.tools.sandbox.attacks.verdicts import VERDICTS

ATTACKS: tuple[Attack, ...] = (
    *CANARIES,
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
