"""Puts members and marks into a JSON text octet by octet: everything else stays as it stood."""

import json
from collections.abc import Iterable

from proxy.prefix.prompt import At

_WHITE = " \t\n\r"
_DECODER = json.JSONDecoder()

Insertion = tuple[int, bytes]
"""Where, in octets of the original, and what."""


class NotThere(ValueError):
    """The text is not what it was taken for."""


class Text:
    """A JSON text in which places are found by their path."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        try:
            self._text = body.decode("utf-8")
        except UnicodeDecodeError as error:
            raise NotThere("not UTF-8") from error
        self._ascii = len(self._text) == len(body)

    def __repr__(self) -> str:
        return f"<Text of {len(self._body)} octets>"

    def member(self, at: At, name: str, value: object) -> list[Insertion]:
        """A further member at the end of the object at *at*, which has members already."""
        start, end = self._span(at)
        if self._text[start] != "{" or self._text[_skip(self._text, start + 1)] == "}":
            raise NotThere("not an object with members")
        return [(self._octet(end - 1), f",{json.dumps(name)}:{_compact(value)}".encode())]

    def wrapped(self, at: At, name: str, value: object) -> list[Insertion]:
        """The string at *at* as a list of one text part that has the member *name*."""
        start, end = self._span(at)
        if self._text[start] != '"':
            raise NotThere("not a string")
        return [
            (self._octet(start), b'[{"type":"text","text":'),
            (self._octet(end), f",{json.dumps(name)}:{_compact(value)}}}]".encode()),
        ]

    def _octet(self, character: int) -> int:
        return character if self._ascii else len(self._text[:character].encode("utf-8"))

    def _span(self, at: At) -> tuple[int, int]:
        """Where the value at *at* begins and ends, in characters."""
        text = self._text
        try:
            start = _skip(text, 0)
            for step in at:
                start = _member(text, start, step) if isinstance(step, str) else _element(text, start, step)
            _, end = _DECODER.raw_decode(text, start)
        except (ValueError, IndexError, RecursionError) as error:
            raise NotThere(f"nothing at {at}") from error
        return start, end


def with_insertions(body: bytes, insertions: Iterable[Insertion]) -> bytes:
    """*body* with all of *insertions*."""
    pieces, done = [], 0
    for at, octets in sorted(insertions, key=lambda each: each[0]):
        pieces += [body[done:at], octets]
        done = at
    return b"".join([*pieces, body[done:]])


def _member(text: str, at: int, wanted: str) -> int:
    """Where the value of the member *wanted* begins, of the object at *at*."""
    if text[at] != "{":
        raise ValueError("not an object")
    at = _skip(text, at + 1)
    while text[at] != "}":
        name, at = _DECODER.raw_decode(text, at)
        at = _skip(text, at)
        if text[at] != ":":
            raise ValueError("not a member")
        at = _skip(text, at + 1)
        if name == wanted:
            return at
        at = _next(text, at)
    raise ValueError("no such member")


def _element(text: str, at: int, wanted: int) -> int:
    """Where the element number *wanted* begins, of the list at *at*."""
    if text[at] != "[":
        raise ValueError("not a list")
    at = _skip(text, at + 1)
    for _ in range(wanted):
        at = _next(text, at)
    if text[at] == "]":
        raise ValueError("no such element")
    return at


def _next(text: str, at: int) -> int:
    """Behind the value at *at* and the comma that follows it."""
    _, at = _DECODER.raw_decode(text, at)
    at = _skip(text, at)
    return _skip(text, at + 1) if text[at] == "," else at


def _skip(text: str, at: int) -> int:
    while text[at] in _WHITE:
        at += 1
    return at


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
