"""Commands whose modules are loaded when they are called: a list of them needs their names and a line of help each.

So the start of a program costs what the one command needs that was asked for, and `--help` and the tab key hardly
anything. It is what click's documentation calls a lazy group ("Lazily Loading Subcommands").
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command, get_group


class LazyGroup(TyperGroup):
    """A group with commands, or groups of them, that lie in modules of their own.

    A subclass names them in `places`: by name where each lies, as entry points are written (`package.module:object`),
    and its line in the group's help. The object is a function, or a `typer.Typer` for a group.
    """

    places: ClassVar[Mapping[str, tuple[str, str]]]

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for name, (place, line) in self.places.items():
            self.add_command(LazyCommand(name, place, line))


class LazyCommand(TyperCommand):
    """What stands for a command, or a group, until it is called.

    Args:
        name: Name in its group.
        place: Where it lies.
        line: The first paragraph of its help, in place of its own.
    """

    def __init__(self, name: str, place: str, line: str) -> None:
        super().__init__(name, help=line)
        self._place = place
        self._line = line

    def make_context(self, *arguments: Any, **settings: Any) -> Any:
        """The context of the command itself: from here on this one is out of the way."""
        return self.load().make_context(*arguments, **settings)

    def load(self) -> TyperCommand | TyperGroup:
        """The command itself. Loads its module, and all that it imports."""
        module, _, attribute = self._place.partition(":")
        found = getattr(import_module(module), attribute)
        command: Any
        if isinstance(found, typer.Typer):
            command = get_group(found)
        else:
            alone = typer.Typer(add_completion=False)
            alone.command(self.name)(found)
            command = get_command(alone)
        own = (command.help or "").split("\n\n", 1)[1:]
        command.help = "\n\n".join([self._line, *own])
        loaded: TyperCommand | TyperGroup = command
        return loaded
