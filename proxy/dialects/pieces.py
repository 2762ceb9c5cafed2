"""How the pieces of a streamed value become the value: one rule per member, and no guessing.

A rule takes every value that a member had, in order, and returns the one value that they spell. Where that is
ambiguous (is `"a"`, `"a"` a constant said twice or the text `"aa"`?) it raises `Unfaithful`.
"""

from collections.abc import Callable, Mapping
from typing import TypeAlias

Rule: TypeAlias = Callable[[list[object]], object]


class Unfaithful(ValueError):
    """The other form would have to invent, lose or guess something."""


def text(values: list[object]) -> object:
    """Pieces of one string."""
    said = [value for value in values if value is not None]
    pieces = [value for value in said if isinstance(value, str)]
    if len(pieces) == len(said):
        return "".join(pieces) if pieces else None
    if len(said) == 1:
        return said[0]
    raise Unfaithful("a text arrived in pieces that are not text")


def base64(values: list[object]) -> object:
    """Pieces of one base64 string, where joining them is what they mean: none but the last may be padded."""
    pieces = [value for value in values if isinstance(value, str) and value]
    if any(len(piece) % 4 or piece.endswith("=") for piece in pieces[:-1]):
        raise Unfaithful("each piece of the data was encoded on its own")
    return text(values)


def joined(values: list[object]) -> object:
    """Pieces of one list."""
    lists = [value for value in values if isinstance(value, list)]
    if len(lists) != sum(value is not None for value in values):
        raise Unfaithful("a list arrived in pieces that are not lists")
    return [item for part in lists for item in part] if lists else None


def same(values: list[object]) -> object:
    """A constant that may be said often; null and the empty string are its absence."""
    said = [value for value in values if value is not None]
    full = [value for value in said if value != ""] or said
    if not full:
        return None
    if all(_alike(value, full[0]) for value in full):
        return full[0]
    raise Unfaithful("a constant changed within the stream")


def lone(values: list[object]) -> object:
    """A member that we do not know: certain only where at most one piece says something."""
    said = [value for value in values if value is not None]
    if len(said) > 1 and all(isinstance(value, dict) for value in said):
        return members({}, rest=lone)(said)
    full = [value for value in said if value not in ("", [])] or said[:1]
    match full:
        case []:
            return None
        case [only]:
            return only
        case [bool() | int() | float(), *_]:
            return same(full)
        case _:
            raise Unfaithful("an unknown member came more than once")


def first(values: list[object]) -> object:
    """The first value that is not null, zero or empty; else the first."""
    return next((value for value in values if value), values[0])


def last(values: list[object]) -> object:
    """The last value that is not null."""
    return next((value for value in reversed(values) if value is not None), None)


def members(rules: Mapping[str, Rule], *, rest: Rule) -> Rule:
    """A rule for objects: each member by its own rule, in the order of first appearance."""

    def merge(values: list[object]) -> object:
        found: dict[str, list[object]] = {}
        empty = True
        for value in values:
            if isinstance(value, dict):
                empty = False
                for name, member in value.items():
                    found.setdefault(name, []).append(member)
            elif value is not None:
                raise Unfaithful("an object arrived in pieces that are not objects")
        return None if empty else {name: rules.get(name, rest)(said) for name, said in found.items()}

    return merge


def by_index(rule: Rule, *, keep_index: bool) -> Rule:
    """A rule for lists whose items come in pieces and say by ``index`` which item they belong to."""

    def merge(values: list[object]) -> object:
        pieces = joined(values)
        if not isinstance(pieces, list):
            return None
        groups: dict[int, list[object]] = {}
        for piece in pieces:
            groups.setdefault(index_of(piece), []).append(piece if keep_index else _without_index(piece))
        return [rule(groups[index]) for index in sorted(groups)]

    return merge


def index_of(piece: object) -> int:
    """The ``index`` of *piece*."""
    index = piece.get("index") if isinstance(piece, dict) else None
    if isinstance(index, int) and not isinstance(index, bool):
        return index
    raise Unfaithful("a piece does not say what it is a piece of")


def _without_index(piece: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in piece.items() if name != "index"}


def _alike(one: object, other: object) -> bool:
    # True == 1 == 1.0 in Python, and none of them is another in JSON.
    return type(one) is type(other) and one == other
