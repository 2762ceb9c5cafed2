"""LiteLLM's ``cache`` field in a request body: read, and cut out octet by octet before anybody else sees the body."""

import json
from collections.abc import Iterator, Mapping

from proxy.model import RawFields

NAME = "cache"

_WHITE = " \t\n\r"
_DECODER = json.JSONDecoder()


def cut(body: bytes) -> tuple[bytes, RawFields] | None:
    """*body* without its field ``cache``, and what that asked for in our own header fields.

    None where there is no such field, it stands twice, it is not an object, or the body is not JSON: then it is a field
    like any other. Everything else stays as it stood, white space and all.
    """
    if b'"cache"' not in body:
        return None
    try:
        text = body.decode("utf-8")
        members = list(_members(text))
    except (ValueError, RecursionError, IndexError):
        return None
    named = [at for at, (name, _, _, _) in enumerate(members) if name == NAME]
    if len(named) != 1:
        return None
    at = named[0]
    _, start, end, value = members[at]
    if not isinstance(value, dict):
        return None
    if at + 1 < len(members):
        end = members[at + 1][1]
    elif at > 0:
        start = members[at - 1][2]
    return (text[:start] + text[end:]).encode("utf-8"), _asked(value)


def _members(text: str) -> Iterator[tuple[str, int, int, object]]:
    """The members of the object in *text*: name, where it begins, where its value ends, and the value."""
    at = _skip(text, 0)
    if text[at] != "{":
        raise ValueError("not an object")
    at = _skip(text, at + 1)
    while text[at] != "}":
        if text[at] != '"':
            raise ValueError("not a name")
        start = at
        name, at = _DECODER.raw_decode(text, at)
        at = _skip(text, at)
        if text[at] != ":":
            raise ValueError("not a member")
        value, at = _DECODER.raw_decode(text, _skip(text, at + 1))
        yield name, start, at, value
        at = _skip(text, at)
        if text[at] == ",":
            at = _skip(text, at + 1)
            if text[at] == "}":
                raise ValueError("a comma and nothing after it")
        elif text[at] != "}":
            raise ValueError("not the end of a member")
    if _skip(text, at + 1) != len(text):
        raise ValueError("something after the object")


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _WHITE:
        at += 1
    return at


def _asked(said: Mapping[str, object]) -> RawFields:
    """What the field's members mean; what is of another type than LiteLLM documents means nothing."""
    asked: list[tuple[bytes, bytes]] = []
    for name in ("no-cache", "no-store"):
        if said.get(name) is True:
            asked.append((b"cache-control", name.encode()))
    for name in ("s-maxage", "s-max-age"):
        if (seconds := _whole(said.get(name))) is not None:
            asked.append((b"cache-control", b"max-age=%d" % seconds))
    if (seconds := _whole(said.get("ttl"))) is not None:
        asked.append((b"x-askonce-ttl", b"%d" % seconds))
    if said.get("use-cache") is True:
        asked.append((b"x-askonce-cache", b"on"))
    namespace = said.get("namespace")
    if isinstance(namespace, str) and namespace:
        asked.append((b"x-askonce-namespace", namespace.encode("utf-8", "surrogatepass")))
    return tuple(asked)


def _whole(value: object) -> int | None:
    return int(value) if type(value) in (int, float) and 0 <= value < 10**10 else None  # type: ignore[operator,call-overload]
