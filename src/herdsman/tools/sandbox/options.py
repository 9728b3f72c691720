"""What a sandboxed program may use."""

from __future__ import annotations

from pydantic import Field

from herdsman.options import Options


class Limits(Options):
    """Limits of one sandbox; it has no network whatever they say."""

    memory_bytes: int = Field(
        512 << 20,
        ge=32 << 20,
        description="Memory of one process, as address space, and of all processes together, as they use it.",
    )
    cpu_seconds: int = Field(
        10, ge=1, description="Processor time of one process; the processes of a session have no such limit."
    )
    wall_seconds: float = Field(20.0, gt=0, description="Time by the clock for one call, start and answer included.")
    processes: int = Field(16, ge=1, description="Processes and threads at a time, the sandbox's own two among them.")
    disk_bytes: int = Field(64 << 20, ge=1 << 20, description="All files a program may write; they lie in memory.")
    files: int = Field(1000, ge=1, description="Number of files and folders a program may make.")
    output_bytes: int = Field(64 << 10, ge=256, description="Printed text that is kept; of more the middle is cut out.")
    answer_bytes: int = Field(16 << 20, ge=1 << 10, description="Files and result of a call; more ends the sandbox.")
