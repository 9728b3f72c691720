"""Where the ranks of a launch write, and what of it is shown."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

from torch.distributed.elastic.multiprocessing import LogsDest, LogsSpecs


class RankLogs(LogsSpecs):
    """A folder for each launch, in it one for each start of the ranks, in it two files for each rank.

    The agent repeats its own numbers of attempts when machines come and go; these never repeat.

    Attributes:
        folder: of the latest start.
    """

    def __init__(self, root: Path):
        super().__init__(str(root))
        self.launch = root / f"{time.strftime('%Y%m%d-%H%M%S')}-{socket.gethostname()}-{os.getpid()}"
        self.attempt = -1

    @property
    def root_log_dir(self) -> str:
        return str(self.launch)

    @property
    def folder(self) -> Path:
        return self.launch / f"attempt_{self.attempt}"

    def reify(self, envs: dict[int, dict[str, str]]) -> LogsDest:
        self.attempt += 1
        self.folder.mkdir(parents=True)
        ranks = {local: env["RANK"] for local, env in envs.items()}
        outs = {local: str(self.folder / f"rank_{rank}.out") for local, rank in ranks.items()}
        errs = {local: str(self.folder / f"rank_{rank}.err") for local, rank in ranks.items()}
        shown = [local for local, rank in ranks.items() if rank == "0"]
        return LogsDest(
            stdouts=outs,
            stderrs=errs,
            tee_stdouts={local: outs[local] for local in shown},
            tee_stderrs={local: errs[local] for local in shown},
            error_files={local: str(self.folder / f"rank_{rank}.json") for local, rank in ranks.items()},
        )
