"""LiteLLM's ``cache`` field in a request body: read, and cut out octet by octet before anybody else sees the body."""

from collections.abc import Mapping

from proxy.members import members
from proxy.model import RawFields

NAME = "cache"


def cut(body: bytes) -> tuple[bytes, RawFields] | None:
    """*body* without its field ``cache``, and what that asked for in our own header fields.

    None where there is no such field, it stands twice, it is not an object, or the body is not JSON: then it is a field
    like any other. Everything else stays as it stood, white space and all.
    """
    if b'"cache"' not in body:
        return None
    try:
        text = body.decode("utf-8")
        found = list(members(text))
    except (ValueError, RecursionError, IndexError):
        return None
    named = [at for at, (name, _, _, _) in enumerate(found) if name == NAME]
    if len(named) != 1:
        return None
    at = named[0]
    _, start, end, value = found[at]
    if not isinstance(value, dict):
        return None
    if at + 1 < len(found):
        end = found[at + 1][1]
    elif at > 0:
        start = found[at - 1][2]
    return (text[:start] + text[end:]).encode("utf-8"), _asked(value)


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
