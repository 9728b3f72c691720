"""Code interpreters that keep their variables and files from request to request."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from herdsman.serving.api_error import ApiError
from herdsman.serving.options import ServerOptions
from herdsman.serving.shapes import new_id
from herdsman.tools.tool import Tool


@dataclass
class Container:
    """A code interpreter, and who may use it."""

    tool: Tool
    caller: str
    id: str = field(default_factory=lambda: new_id("cntr_"))
    used: float = field(default_factory=time.monotonic)
    busy: bool = False

    def release(self) -> None:
        self.used, self.busy = time.monotonic(), False


class Containers:
    """Containers by id; the idle ones go after a while, or when there are too many. Nothing of one reaches another."""

    def __init__(self, options: ServerOptions):
        self.options = options
        self._kept: dict[str, Container] = {}

    def add(self, tool: Tool, caller: str) -> Container:
        """A new one, in use.

        Raises:
            ApiError: there are as many as may be, all in use.
        """
        self.sweep()
        if len(self._kept) >= self.options.most_containers:
            idle = [container for container in self._kept.values() if not container.busy]
            if not idle:
                tool.close()
                raise ApiError(
                    429,
                    f"{len(self._kept)} code interpreters are at work, which is all this server keeps",
                    code="too_many_containers",
                    retry_seconds=5,
                )
            self._close(min(idle, key=lambda container: container.used))
        container = Container(tool, caller, busy=True)
        self._kept[container.id] = container
        return container

    def has(self, id: str) -> bool:
        self.sweep()
        return id in self._kept

    def take(self, id: str, caller: str) -> Container:
        """
        Raises:
            ApiError: it is gone, somebody else's, or in use.
        """
        self.sweep()
        container = self._kept.get(id)
        if container is None or container.caller != caller:
            raise ApiError(
                404,
                'tools: there is no such container any more; ask for a new one with {"type": "auto"}',
                param="tools",
                code="container_not_found",
            )
        if container.busy:
            raise ApiError(
                409, "tools: the container is at work for another request", param="tools", code="container_busy"
            )
        container.busy = True
        return container

    def sweep(self) -> None:
        """Ends those that nobody has used for a while."""
        oldest = time.monotonic() - self.options.container_seconds
        for container in list(self._kept.values()):
            if not container.busy and container.used < oldest:
                self._close(container)

    def close(self) -> None:
        for container in list(self._kept.values()):
            self._close(container)

    def _close(self, container: Container) -> None:
        del self._kept[container.id]
        container.tool.close()
