"""What is different between two readings of `lab.toml`: a pure comparison, for a reload and for who asked for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import TypeVar

from pydantic import BaseModel

from labd.config.models import LabConfig

FIXED = ("lab", "mqtt", "store", "http", "keep")
"""Sections that a daemon reads when it starts, and never again."""
REPLACED = ("queue", "health", "reservation")
"""Sections that are one table, and may change at any time."""

Row = TypeVar("Row", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Difference:
    """What has become of the tables of one kind, by their names, in the order of the file."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)

    def __str__(self) -> str:
        kinds = (field.name for field in fields(self))
        told = [f"{', '.join(names)} {kind}" for kind in kinds if (names := getattr(self, kind))]
        return ", ".join(told)


@dataclass(frozen=True, slots=True)
class Changes:
    """All that is different.

    Args:
        boards, instruments, firmware, users: Tables of which there can be many.
        sections: Names of tables of which there is one.
    """

    boards: Difference = Difference()
    instruments: Difference = Difference()
    firmware: Difference = Difference()
    users: Difference = Difference()
    sections: tuple[str, ...] = ()

    def __str__(self) -> str:
        """One line for the record: `boards: b3 added, b1 removed; queue changed`; empty if nothing is different."""
        told = [
            f"{field.name}: {getattr(self, field.name)}"
            for field in fields(self)
            if field.name != "sections" and getattr(self, field.name)
        ]
        return "; ".join([*told, *(f"{section} changed" for section in self.sections)])


def changes(old: LabConfig, new: LabConfig) -> Changes:
    """What is different in `new`, but for what only a restart can take up."""
    return Changes(
        boards=_difference(old.board, new.board, lambda board: board.id),
        instruments=_difference(old.instrument, new.instrument, lambda instrument: instrument.id),
        firmware=_difference(old.firmware, new.firmware, lambda build: f"{build.name} for {build.target}"),
        users=_difference(old.user, new.user, lambda user: user.name),
        sections=tuple(key for key in REPLACED if getattr(old, key) != getattr(new, key)),
    )


def fixed_changes(old: LabConfig, new: LabConfig) -> tuple[str, ...]:
    """Keys with another value in `new` that only a restart can take up, such as `lab.name`."""
    return tuple(
        f"{section}.{key}"
        for section in FIXED
        for key in type(getattr(old, section)).model_fields
        if getattr(getattr(old, section), key) != getattr(getattr(new, section), key)
    )


def _difference(old: Iterable[Row], new: Iterable[Row], name: Callable[[Row], str]) -> Difference:
    before, after = {name(row): row for row in old}, {name(row): row for row in new}
    return Difference(
        added=tuple(key for key in after if key not in before),
        removed=tuple(key for key in before if key not in after),
        changed=tuple(key for key, row in after.items() if key in before and before[key] != row),
    )
