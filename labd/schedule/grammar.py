"""Reads a requirement's text: a recursive-descent parser with limits, whose errors name the column.

    either    = both {"or" both}
    both      = negation {"and" negation}
    negation  = "not" negation | comparison
    comparison = value {("==" | "!=" | "<" | "<=" | ">" | ">=" | "in" | "not in") value}
    value     = number | "text" | 'text' | true | false | name | list | tag("text") | "(" either ")"
    list      = "[" [value {"," value}] "]"

It is not Python, and nothing of it is ever run as Python.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache

from labd.schedule.expression import AllOf, AnyOf, Comparison, Expression, ExpressionError, Literal, Name, Not, Op, Tag

LENGTH_MAX = 1000
"""Longest text, characters."""
DEPTH_MAX = 32
"""Most brackets and `not`s around one another."""


class _Kind(Enum):
    NUMBER = auto()
    TEXT = auto()
    WORD = auto()
    SIGN = auto()
    END = auto()


@dataclass(frozen=True, slots=True)
class _Token:
    kind: _Kind
    text: str
    column: int


_TOKEN = re.compile(
    r"""\s*(?:
        (?P<NUMBER>-?\d[\d_]*(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w.]))
      | (?P<TEXT>"[^"\x00-\x1f]*"|'[^'\x00-\x1f]*')
      | (?P<WORD>[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*)
      | (?P<SIGN>==|!=|<=|>=|<|>|\(|\)|\[|\]|,)
      | (?P<END>\Z)
    )""",
    re.VERBOSE | re.ASCII,
)
_SPACES = " \t\n\r\f\v"
"""What `\\s` is in ASCII; Python's own idea of space is wider."""
_SLIPS = {"=": "write == to compare", "&": "write and", "|": "write or", "!": "write not, or != to compare"}
_QUOTES = "close the quotes; a text has no line ends"
_WORDS = frozenset({"and", "or", "not", "in"})
_TRUTHS = {"true": True, "True": True, "false": False, "False": False}
_SIGNS = {op.value: op for op in Op}


@lru_cache(maxsize=4096)
def parse(text: str, where: str = "params.require") -> Expression:
    """The expression that `text` stands for.

    Args:
        text: Up to `LENGTH_MAX` characters.
        where: Field that an error names.

    Raises:
        ExpressionError: the text cannot be read; the message has the column, counted from 1.
    """
    if len(text) > LENGTH_MAX:
        message = f"has {len(text)} characters, and may have {LENGTH_MAX}"
        raise ExpressionError(message, where=where, remedy="ask for less, or give the boards a tag for it")
    return _Reader(_tokens(text, where), where).whole()


def canonical(text: str, where: str = "params.require") -> str:
    """The text in the one form that all texts of the same tree have. Raises `ExpressionError` as `parse`."""
    return str(parse(text, where))


def _tokens(text: str, where: str) -> list[_Token]:
    tokens: list[_Token] = []
    place = 0
    while not tokens or tokens[-1].kind is not _Kind.END:
        found = _TOKEN.match(text, place)
        if found is None:
            rest = text[place:].lstrip(_SPACES)
            column = len(text) - len(rest) + 1
            remedy = _QUOTES if rest[0] in "\"'" else _SLIPS.get(rest[0], "write a name, a number or a text in quotes")
            raise ExpressionError(f"column {column}: {rest[:12]!r} means nothing here", where=where, remedy=remedy)
        assert found.lastgroup is not None, "a match is always by one of the groups"
        tokens.append(_Token(_Kind[found.lastgroup], found[found.lastgroup], found.start(found.lastgroup) + 1))
        place = found.end()
    return tokens


class _Reader:
    """Goes through the tokens once, from left to right."""

    def __init__(self, tokens: list[_Token], where: str) -> None:
        self._tokens = tokens
        self._next = 0
        self._depth = 0
        self._where = where

    def whole(self) -> Expression:
        """The expression of all tokens."""
        expression = self._condition(self._either)
        if self._token.kind is not _Kind.END:
            raise self._error(self._token, f"{self._token.text!r} does not belong here", "join conditions by and, or")
        return expression

    def _either(self) -> Expression:
        return self._joined("or", AnyOf, self._both)

    def _both(self) -> Expression:
        return self._joined("and", AllOf, self._negation)

    def _joined(self, word: str, kind: type[AllOf] | type[AnyOf], read: Callable[[], Expression]) -> Expression:
        """Parts joined by `word`; one alone stays as it is, and may be a value in brackets."""
        start = self._next
        first = read()
        if not self._sees(word):
            return first
        parts = [self._checked(start, first)]
        while self._takes(word):
            parts.append(self._condition(read))
        return kind(tuple(inner for part in parts for inner in (part.parts if isinstance(part, kind) else (part,))))

    def _negation(self) -> Expression:
        if not self._takes("not"):
            return self._comparison()
        self._deeper()
        part = self._condition(self._negation)
        self._depth -= 1
        return Not(part)

    def _comparison(self) -> Expression:
        start = self._next
        first = self._primary()
        links: list[tuple[Op, Literal | Name]] = []
        while (op := self._operator()) is not None:
            left = first if not links else links[-1][1]
            self._operand(start, left)
            start = self._next
            links.append((op, self._operand(start, self._primary())))
        return Comparison(self._operand(start, first), tuple(links)) if links else first

    def _operator(self) -> Op | None:
        if self._token.kind is _Kind.WORD and self._token.text == "not":
            ahead = self._tokens[self._next + 1]
            if ahead.kind is _Kind.WORD and ahead.text == "in":
                self._next += 2
                return Op.NOT_IN
            return None
        op = _SIGNS.get(self._token.text) if self._token.kind in (_Kind.SIGN, _Kind.WORD) else None
        if op is not None:
            self._next += 1
        return op

    def _primary(self) -> Expression:
        token = self._token
        self._next += token.kind is not _Kind.END
        found: Expression | None = None
        match token.kind, token.text:
            case _Kind.NUMBER, text:
                found = Literal(self._number(token, text))
            case _Kind.TEXT, text:
                found = Literal(text[1:-1])
            case _Kind.SIGN, "(":
                found = self._bracketed()
            case _Kind.SIGN, "[":
                found = self._list()
            case _Kind.WORD, text if text not in _WORDS:
                found = self._word(token, text)
        if found is None:
            told = "the text ends" if token.kind is _Kind.END else f"{token.text!r} stands"
            raise self._error(token, f"{told} where a value should be", "write a name, a number or a text in quotes")
        return found

    def _word(self, token: _Token, text: str) -> Expression:
        if text in _TRUTHS:
            return Literal(_TRUTHS[text])
        if not self._sees("("):
            return Name(text)
        if text != "tag":
            raise self._error(token, f"there is no function {text}", 'the only one is tag("name")')
        return self._tag()

    def _bracketed(self) -> Expression:
        self._deeper()
        inner = self._either()
        self._expect(")")
        self._depth -= 1
        return inner

    def _list(self) -> Literal:
        items: list[str | int | float | bool] = []
        while not self._sees("]"):
            token = self._token
            item = self._primary() if token.text not in ("[", "(") else None
            if not isinstance(item, Literal) or isinstance(item.value, tuple):
                raise self._error(token, "a list holds numbers and texts only", 'write such as ["m4", "m7"]')
            items.append(item.value)
            if not self._takes(","):
                break
        self._expect("]")
        return Literal(tuple(items))

    def _tag(self) -> Tag:
        self._expect("(")
        token = self._token
        if token.kind is not _Kind.TEXT:
            raise self._error(token, "a tag is a text in quotes", 'write such as tag("m4")')
        self._next += 1
        self._expect(")")
        return Tag(token.text[1:-1])

    def _number(self, token: _Token, text: str) -> int | float:
        digits = text.replace("_", "")
        number = float(digits)
        if not math.isfinite(number):
            raise self._error(token, f"{text} is too large", "write a smaller number")
        # one form for one number: 1e5 is 100000
        return int(number) if number.is_integer() and abs(number) < 1e15 else number

    def _condition(self, read: Callable[[], Expression]) -> Expression:
        start = self._next
        return self._checked(start, read())

    def _checked(self, start: int, expression: Expression) -> Expression:
        """The expression, if it is true or false by itself."""
        if isinstance(expression, Literal) and not isinstance(expression.value, bool):
            message = f"{expression} is a value, where a condition should be"
            raise self._error(self._tokens[start], message, f"compare it: name == {expression}")
        return expression

    def _operand(self, start: int, expression: Expression) -> Literal | Name:
        """The expression, if it is a value that can be compared."""
        if not isinstance(expression, Literal | Name):
            raise self._error(
                self._tokens[start], f"{expression} is a condition, where a value should be", "join it by and, or"
            )
        return expression

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _sees(self, text: str) -> bool:
        return self._token.kind in (_Kind.WORD, _Kind.SIGN) and self._token.text == text

    def _takes(self, text: str) -> bool:
        seen = self._sees(text)
        self._next += seen
        return seen

    def _expect(self, text: str) -> None:
        if not self._takes(text):
            raise self._error(self._token, f"a {text!r} is missing", "close what was opened")

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            message = f"more than {DEPTH_MAX} brackets and nots around one another"
            raise self._error(self._tokens[self._next - 1], message, "write it flatter")

    def _error(self, token: _Token, message: str, remedy: str) -> ExpressionError:
        return ExpressionError(f"column {token.column}: {message}", where=self._where, remedy=remedy)
