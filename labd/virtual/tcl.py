"""As much Tcl as a client of OpenOCD's Tcl port sends: words, braces, quotes, `$name`, `[command]`, `set` and `catch`.

The rules are those of the Tcl language reference (Tcl(n)) for these parts.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
_BLANK = " \t"
_END = "\n;"

Command = Callable[[tuple[str, ...]], Awaitable[str]]
"""Takes its arguments, returns its result or raises `TclError`."""


class TclError(Exception):
    """A command failed.

    Args:
        result: What it leaves as its result.
        code: What `catch` returns for it: 1 for Tcl's own errors, OpenOCD's commands have numbers of their own.
    """

    def __init__(self, result: str, code: int = 1) -> None:
        super().__init__(result)
        self.code = code


class _Cursor:
    """A place in a script."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def take(self) -> str:
        char = self.peek()
        self.at += 1
        return char

    def take_while(self, wanted: Callable[[str], bool]) -> str:
        start = self.at
        while (char := self.peek()) and wanted(char):
            self.at += 1
        return self.text[start : self.at]

    def take_nested(self, opening: str, closing: str) -> str:
        """Take up to the bracket that closes the one before this place."""
        start, depth = self.at, 1
        while char := self.take():
            if char == "\\":
                self.take()
            elif char == opening:
                depth += 1
            elif char == closing:
                depth -= 1
                if depth == 0:
                    return self.text[start : self.at - 1]
        raise TclError(f"missing {closing}")


class Interpreter:
    """Runs scripts.

    Args:
        commands: What it knows beside `set` and `catch`.
    """

    def __init__(self, commands: Mapping[str, Command]) -> None:
        self._commands = {**commands, "set": self._set, "catch": self._catch}
        self._variables: dict[str, str] = {}

    async def run(self, script: str) -> str:
        """Return the result of the script's last command. Raises `TclError`."""
        cursor = _Cursor(script)
        result = ""
        while cursor.peek():
            cursor.take_while(lambda char: char in _BLANK + _END)
            words: list[str] = []
            while (char := cursor.peek()) and char not in _END:
                words.append(await self._word(cursor))
                cursor.take_while(lambda char: char in _BLANK)
            if words:
                result = await self.call(words[0], *words[1:])
        return result

    async def call(self, name: str, *arguments: str) -> str:
        """Return the result of one command. Raises `TclError`."""
        if name not in self._commands:
            raise TclError(f'invalid command name "{name}"')
        return await self._commands[name](arguments)

    async def _word(self, cursor: _Cursor) -> str:
        match cursor.peek():
            case "{":
                cursor.take()
                return cursor.take_nested("{", "}")
            case '"':
                cursor.take()
                word = await self._substituted(cursor, '"')
                if cursor.take() != '"':
                    raise TclError("missing quote")
                return word
            case _:
                return await self._substituted(cursor, _BLANK + _END)

    async def _substituted(self, cursor: _Cursor, stop: str) -> str:
        parts: list[str] = []
        while (char := cursor.peek()) and char not in stop:
            cursor.take()
            match char:
                case "\\":
                    parts.append(_escaped(cursor))
                case "[":
                    parts.append(await self.run(cursor.take_nested("[", "]")))
                case "$":
                    parts.append(self._value(cursor.take_while(lambda char: char.isalnum() or char == "_")))
                case _:
                    parts.append(char)
        return "".join(parts)

    def _value(self, name: str) -> str:
        if name not in self._variables:
            raise TclError(f'can\'t read "{name}": no such variable')
        return self._variables[name]

    async def _set(self, arguments: tuple[str, ...]) -> str:
        name, *value = arguments
        if value:
            self._variables[name] = value[0]
        return self._value(name)

    async def _catch(self, arguments: tuple[str, ...]) -> str:
        script, *name = arguments
        try:
            code, result = "0", await self.run(script)
        except TclError as error:
            code, result = str(error.code), str(error)
        if name:
            self._variables[name[0]] = result
        return code


def _escaped(cursor: _Cursor) -> str:
    char = cursor.take()
    if char == "x":
        start = cursor.at
        cursor.take_while(lambda digit: digit in "0123456789abcdefABCDEF" and cursor.at - start < 2)
        return chr(int(cursor.text[start : cursor.at], 16))
    return _ESCAPES.get(char, char)
