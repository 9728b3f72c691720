"""A program for test_attacks.py: runs all attacks against one sandbox and prints a line of JSON for each.

python -m tests.tools.sandbox.besieged bubblewrap
"""

from __future__ import annotations

import json
import sys

from herdsman.errors import HerdsmanError
from herdsman.tools.sandbox.bubblewrap import Bubblewrap
from herdsman.tools.sandbox.siege import besiege
from herdsman.tools.sandbox.wasm import Wasm
from tests.tools.sandbox.attacks import ATTACKS

if __name__ == "__main__":
    try:
        sandbox = {"bubblewrap": Bubblewrap, "wasm": Wasm}[sys.argv[1]]()
        for report in besiege(sandbox, ATTACKS):
            name = f"{report.attack.group}: {report.attack.name}"
            print(json.dumps({"attack": name, "held": report.held, "evidence": report.evidence}), flush=True)
    except HerdsmanError as error:
        print(json.dumps({"attack": "", "held": False, "evidence": str(error)}))
