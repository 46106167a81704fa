"""The requirement language: what a job asks of a board, such as `memory_kb >= 256 and fpu and not tag("old")`.

A parsed expression is a tree of frozen nodes. It is held against a board's facts, can say why a board does not meet it,
and its `str` is canonical: two texts that differ in spaces, brackets or quotes only have the same one.

A name that the board has no fact of makes its comparison false; nothing that an expression says can raise.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from functools import partial

from labd.config.derived import BoardFacts, Fact
from labd.errors import RequestError


class ExpressionError(RequestError):
    """A requirement that cannot be read, or that speaks of something no board has."""


class Op(StrEnum):
    """How two values are compared."""

    EQ = "=="
    NE = "!="
    LT = "<"
    LE = "<="
    GT = ">"
    GE = ">="
    IN = "in"
    NOT_IN = "not in"


@dataclass(frozen=True, slots=True)
class Literal:
    """A number, a text in quotes, `true` or `false`, or a list of such."""

    value: Fact

    def __str__(self) -> str:
        return _written(self.value)


@dataclass(frozen=True, slots=True)
class Name:
    """What a board says under a name; alone it asks that this is neither false, nor zero, nor empty."""

    name: str

    def __str__(self) -> str:
        return self.name


Value = Literal | Name


@dataclass(frozen=True, slots=True)
class Comparison:
    """`first op value op value ...`: all neighbours compare as written."""

    first: Value
    links: tuple[tuple[Op, Value], ...]

    def __str__(self) -> str:
        return " ".join([str(self.first), *(f"{op} {value}" for op, value in self.links)])


@dataclass(frozen=True, slots=True)
class Tag:
    """`tag("m4")`: the board has the tag."""

    tag: str

    def __str__(self) -> str:
        return f"tag({_written(self.tag)})"


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite."""

    part: Expression

    def __str__(self) -> str:
        return f"not ({self.part})" if isinstance(self.part, AllOf | AnyOf) else f"not {self.part}"


@dataclass(frozen=True, slots=True)
class AllOf:
    """`a and b and ...`."""

    parts: tuple[Expression, ...]

    def __str__(self) -> str:
        return " and ".join(f"({part})" if isinstance(part, AnyOf) else str(part) for part in self.parts)


@dataclass(frozen=True, slots=True)
class AnyOf:
    """`a or b or ...`."""

    parts: tuple[Expression, ...]

    def __str__(self) -> str:
        return " or ".join(map(str, self.parts))


Expression = Comparison | Tag | Not | AllOf | AnyOf | Value


def holds(expression: Expression, facts: BoardFacts) -> bool:
    """Whether a board with these facts meets the expression."""
    match expression:
        case AllOf(parts):
            met = all(holds(part, facts) for part in parts)
        case AnyOf(parts):
            met = any(holds(part, facts) for part in parts)
        case Not(part):
            met = not holds(part, facts)
        case Comparison():
            met = _fault(expression, facts) is None
        case Tag(tag):
            met = tag in tags_of(facts)
        case Name() | Literal():
            met = bool(_value(expression, facts))
    return met


def why_not(expression: Expression, facts: BoardFacts) -> str:
    """Why a board does not meet the expression, as what follows its name: `says memory_kb = 128, not >= 256`."""
    return _why(expression, facts, wanted=True)


def names_in(expression: Expression) -> frozenset[str]:
    """All names that the expression speaks of."""
    match expression:
        case AllOf(parts) | AnyOf(parts):
            return frozenset[str]().union(*map(names_in, parts))
        case Not(part):
            return names_in(part)
        case Comparison(first, links):
            return names_in(first).union(*(names_in(value) for _, value in links))
        case Name(name):
            return frozenset({name})
        case Tag() | Literal():
            return frozenset()


def check_names(expression: Expression, known: Collection[str], where: str = "params.require") -> None:
    """Refuse an expression with a name that no board has.

    Args:
        expression: As parsed.
        known: All names of which some board of the lab has a fact.
        where: Field that the error names.

    Raises:
        ExpressionError: with the name, and those that there are.
    """
    for name in sorted(names_in(expression) - set(known)):
        near = get_close_matches(name, sorted(known), n=1)
        said = ", ".join(sorted(known)) or "nothing"
        remedy = f"did you mean {near[0]}?" if near else "use one of these, or add it to the boards' capabilities"
        raise ExpressionError(f"no board says `{name}`; boards say: {said}", where=where, remedy=remedy)


def tags_of(facts: BoardFacts) -> tuple[Fact, ...]:
    """The tags of a board."""
    tags = facts.get("tags", ())
    return tags if isinstance(tags, tuple) else ()


def _why(expression: Expression, facts: BoardFacts, *, wanted: bool) -> str:
    """Why `expression` is not what is wanted of it; the parts at fault, joined."""
    match expression:
        case AllOf(parts) | AnyOf(parts):
            faults = [_why(part, facts, wanted=wanted) for part in parts if holds(part, facts) is not wanted]
            return " and ".join(dict.fromkeys(faults))
        case Not(part):
            return _why(part, facts, wanted=not wanted)
        case Comparison():
            return _why_comparison(expression, facts) if wanted else _says(expression, facts)
        case Tag(tag):
            return f"lacks the tag {tag}" if wanted else f"has the tag {tag}"
        case Name(name):
            return _says(expression, facts) if name in facts else f"does not say {name}"
        case Literal():
            return f"cannot change that {expression} is asked for" if wanted else f"cannot change {expression}"


def _why_comparison(comparison: Comparison, facts: BoardFacts) -> str:
    missing = sorted(name for name in names_in(comparison) if name not in facts)
    if missing:
        return f"does not say {', '.join(missing)}"
    fault = _fault(comparison, facts)
    assert fault is not None, "asked only of a comparison that does not hold"
    left, op, right = fault
    if isinstance(left, Name):
        return f"{_says(left, facts)}, not {op} {_told(right, facts)}"
    return f"{_says(right, facts)}: {left} {op} {right} does not hold"


def _fault(comparison: Comparison, facts: BoardFacts) -> tuple[Value, Op, Value] | None:
    """The first two neighbours that do not compare as written; None if all do."""
    left = comparison.first
    for op, right in comparison.links:
        if not _compare(op, _value(left, facts), _value(right, facts)):
            return left, op, right
        left = right
    return None


def _says(expression: Expression, facts: BoardFacts) -> str:
    """What the board says of all that the expression names."""
    names = sorted(names_in(expression) & facts.keys())
    told = ", ".join(f"{name} = {_written(facts[name])}" for name in names)
    return f"says {told}" if told else f"cannot change {expression}"


def _told(value: Value, facts: BoardFacts) -> str:
    """A value as it is written, with what the board says of it."""
    return f"{value} = {_written(facts[value.name])}" if isinstance(value, Name) else str(value)


def _value(value: Value, facts: BoardFacts) -> Fact | None:
    """What the value is on a board; None if it says nothing of it."""
    return value.value if isinstance(value, Literal) else facts.get(value.name)


def _compare(op: Op, left: Fact | None, right: Fact | None) -> bool:
    """Whether two values compare so; what is missing, or of a kind that does not compare, does not."""
    if left is None or right is None:
        return False
    return _TESTS[op](left, right)


def _equal(left: Fact, right: Fact) -> bool:
    """Equal and of one kind: `true` is not 1."""
    return isinstance(left, bool) is isinstance(right, bool) and left == right


def _ordered(order: Callable[..., bool], left: Fact, right: Fact) -> bool:
    """Texts are ordered by their characters, numbers by their size, and nothing else is."""
    both_texts = isinstance(left, str) and isinstance(right, str)
    return (both_texts or (_is_number(left) and _is_number(right))) and order(left, right)


def _within(left: Fact, right: Fact) -> bool:
    """One of a list, or a part of a text."""
    if isinstance(right, tuple):
        return any(_equal(left, item) for item in right)
    return isinstance(left, str) and isinstance(right, str) and left in right


def _without(left: Fact, right: Fact) -> bool:
    """None of a list, or no part of a text."""
    comparable = isinstance(right, tuple) or (isinstance(left, str) and isinstance(right, str))
    return comparable and not _within(left, right)


def _is_number(value: Fact) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_TESTS: Mapping[Op, Callable[[Fact, Fact], bool]] = {
    Op.EQ: _equal,
    Op.NE: lambda left, right: not _equal(left, right),
    Op.LT: partial(_ordered, operator.lt),
    Op.LE: partial(_ordered, operator.le),
    Op.GT: partial(_ordered, operator.gt),
    Op.GE: partial(_ordered, operator.ge),
    Op.IN: _within,
    Op.NOT_IN: _without,
}


def _written(value: Fact) -> str:
    """A value as the language writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"'{value}'" if '"' in value else f'"{value}"'
    if isinstance(value, tuple):
        return f"[{', '.join(map(_written, value))}]"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return repr(value)
