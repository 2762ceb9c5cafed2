"""Where the members of a JSON object stand in its text: for cutting one out, or putting one in, octet by octet."""

import json
from collections.abc import Iterator

_WHITE = " \t\n\r"
_DECODER = json.JSONDecoder()


def members(text: str, at: int = 0) -> Iterator[tuple[str, int, int, object]]:
    """The members of the object in *text*: name, where it begins, where its value ends, and the value.

    Raises:
        ValueError, IndexError, RecursionError: it is no JSON object.
    """
    at = skip(text, at)
    if text[at] != "{":
        raise ValueError("not an object")
    at = skip(text, at + 1)
    while text[at] != "}":
        if text[at] != '"':
            raise ValueError("not a name")
        start = at
        name, at = _DECODER.raw_decode(text, at)
        at = skip(text, at)
        if text[at] != ":":
            raise ValueError("not a member")
        value, at = _DECODER.raw_decode(text, skip(text, at + 1))
        yield name, start, at, value
        at = skip(text, at)
        if text[at] == ",":
            at = skip(text, at + 1)
            if text[at] == "}":
                raise ValueError("a comma and nothing after it")
        elif text[at] != "}":
            raise ValueError("not the end of a member")
    if skip(text, at + 1) != len(text):
        raise ValueError("something after the object")


def skip(text: str, at: int) -> int:
    """Where the white space ends that begins at *at*."""
    while at < len(text) and text[at] in _WHITE:
        at += 1
    return at
