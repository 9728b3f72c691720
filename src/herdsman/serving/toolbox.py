"""Which tools of this server a request gets: those the model is offered, and the interpreter of its chat."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from herdsman.errors import HerdsmanError
from herdsman.serving.api_error import ApiError
from herdsman.serving.containers import Container, Containers
from herdsman.serving.options import ServerOptions
from herdsman.serving.places import Place
from herdsman.serving.response_body import AutoContainer, CallerFunction, CodeTool, ResponseBody
from herdsman.tools.by_name import make_tools
from herdsman.tools.tool import Tool
from herdsman.workspace import Workspace

logger = logging.getLogger(__name__)

KINDS = {"code_interpreter": "python", "web_search": "search", "maths": "maths"}
"""Kinds of tools in the API, and their names on this server."""

CALLED = {"code_interpreter": "code_interpreter", "web_search": "brave_search", "maths": "wolfram_alpha"}
"""The same kinds, and the names by which models call them."""

MakeTool = Callable[[str, Place], Tool]
"""A new tool (python, search, maths) for one chat with a model."""


@dataclass(frozen=True)
class Tools:
    """What one turn may use.

    Attributes:
        run_here: tools of this server.
        container: that of the code interpreter among them.
    """

    run_here: Sequence[Tool] = ()
    container: Container | None = None

    def close(self) -> None:
        """Ends those that belong to this turn alone; the interpreter stays for the next one."""
        for tool in self.run_here:
            if self.container is None or tool is not self.container.tool:
                tool.close()
        if self.container is not None:
            self.container.release()


class Toolbox:
    """The tools of a server.

    Args:
        offered: kinds of tools by the name of the model that may use them.
        make: makes a tool.
    """

    def __init__(self, offered: Mapping[str, Sequence[str]], make: MakeTool, containers: Containers):
        self.offered, self._make, self.containers = offered, make, containers

    async def take(self, body: ResponseBody, place: Place, caller: str, previous: str | None) -> Tools:
        """The tools that a request asks for.

        Args:
            previous: id of the container that the response before used.

        Raises:
            ApiError: one is not offered, or its container is gone or in use.
            HerdsmanError: one cannot be started on this machine.
        """
        wanted = {kind_of(tool.type): tool for tool in body.tools if not isinstance(tool, CallerFunction)}
        offered = self.offered.get(place.name, ())
        if missing := [kind for kind in wanted if kind not in offered]:
            there = ", ".join(offered) or "none"
            raise ApiError(400, f"tools: {missing[0]} is not offered for {place.name}; offered: {there}", param="tools")
        if body.tool_choice == "none":
            return Tools()
        container, made = None, []
        try:
            for kind, tool in wanted.items():
                if isinstance(tool, CodeTool):
                    given = None if isinstance(tool.container, AutoContainer) else tool.container
                    container = await self._container(place, caller, given, previous)
                    made.append(container.tool)
                else:
                    made.append(await asyncio.to_thread(self._make, KINDS[kind], place))
        except BaseException:
            Tools(made, container).close()
            raise
        return Tools(made, container)

    async def _container(self, place: Place, caller: str, given: str | None, previous: str | None) -> Container:
        """The one of the id given; else that of the response before, or a new one if it is gone."""
        if given is not None:
            return self.containers.take(given, caller)
        if previous is not None and self.containers.has(previous):
            return self.containers.take(previous, caller)
        return self.containers.add(await asyncio.to_thread(self._make, "python", place), caller)


def stocked_toolbox(places: Iterable[Place], options: ServerOptions) -> Toolbox:
    """The tools that the options name, for each model where they work: search needs documents, Python a sandbox."""
    kinds = [kind for kind, name in KINDS.items() if name in options.tools]
    chatting = [place for place in places if place.chats]
    offered = {place.name: [kind for kind in kinds if _works(KINDS[kind], place)] for place in chatting}
    return Toolbox(offered, _make, Containers(options))


def _make(name: str, place: Place) -> Tool:
    return make_tools([name], Workspace(place.root))[0]


def _works(name: str, place: Place) -> bool:
    try:
        _make(name, place).close()
    except HerdsmanError as error:
        logger.warning("%s is not offered for %s: %s", name, place.name, error)
        return False
    return True


def kind_of(type: str) -> str:
    """The kind of tool that a type in a request means: the search has been called several names."""
    return "web_search" if type.startswith("web_search") else type
