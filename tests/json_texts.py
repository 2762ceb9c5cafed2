"""JSON values, the many texts that spell each of them, and an oracle for whether two of them are one value."""

import json
import random
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

EXACT_DOUBLES = 2**53
"""Whole numbers up to here are the same read as an integer and as a double."""

LARGEST_SHARED = 10**22
"""Beyond it a number with a fraction or an exponent is never taken for an integer."""

any_text = st.text(alphabet=st.characters(exclude_categories=()), max_size=8)
"""Code points of every kind, lone surrogates included."""

_leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | any_text
_close = st.sampled_from([None, True, False, 0, 1, 0.5, "", "0", "1", "a", "A", "a ", "é", "e\u0301", "null"])


def _nested(leaves: st.SearchStrategy[Any], names: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves,
        lambda below: st.lists(below, max_size=3) | st.dictionaries(names, below, max_size=3),
        max_leaves=8,
    )


def _as_read(value: Any) -> Any:
    # Two lone surrogates in a row are one character once they were JSON.
    return json.loads(json.dumps(value))


values = _nested(_leaves, any_text).map(_as_read)
objects = st.dictionaries(any_text, values, max_size=4).map(_as_read)
"""Request bodies of any content."""

close_objects = st.dictionaries(st.sampled_from(["a", "A", "b"]), _nested(_close, st.sampled_from("ab")), max_size=2)
"""Request bodies from so small a world that two of them are often nearly, and sometimes quite, alike."""


def same(one: Any, other: Any) -> bool:
    """Whether two parsed texts are one JSON value: numbers by value, and nothing else by anything but itself."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(value, other[name]) for name, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if _is_number(one) and _is_number(other):
        return bool(one == other) and (type(one) is type(other) or abs(one) <= LARGEST_SHARED)
    return type(one) is type(other) and bool(one == other)


def spelled(value: Any, choose: random.Random) -> str:
    """One of the texts of *value*: members in any order, any white space, escapes or not, any spelling of a number."""
    gap = _gap(choose)
    match value:
        case dict():
            members = list(value.items())
            choose.shuffle(members)
            inner = ",".join(
                f"{_gap(choose)}{_string(name, choose)}{gap}:{_gap(choose)}{spelled(below, choose)}{_gap(choose)}"
                for name, below in members
            )
            return f"{gap}{{{inner}{gap}}}{_gap(choose)}"
        case list():
            return f"[{gap}{','.join(spelled(item, choose) + gap for item in value)}]"
        case str():
            return _string(value, choose)
        case None | bool():
            return json.dumps(value)
        case _:
            return _number(value, choose)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _gap(choose: random.Random) -> str:
    return "".join(choose.choices(" \t\r\n", k=choose.choice((0, 0, 1, 3))))


def _string(text: str, choose: random.Random) -> str:
    return '"' + "".join(_character(each, choose) for each in text) + '"'


def _character(each: str, choose: random.Random) -> str:
    must = ord(each) < 0x20 or each in '"\\' or 0xD800 <= ord(each) <= 0xDFFF
    short = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f", '"': '\\"', "\\": "\\\\", "/": "\\/"}
    ways = [] if must else [each]
    if each in short:
        ways.append(short[each])
    units = each.encode("utf-16-be", "surrogatepass")
    pairs = [units[at : at + 2].hex() for at in range(0, len(units), 2)]
    ways += ["".join(f"\\u{pair}" for pair in pairs), "".join(f"\\u{pair.upper()}" for pair in pairs)]
    return choose.choice(ways)


def _number(value: float, choose: random.Random) -> str:
    plain = repr(value)
    if choose.random() < 0.3 or (isinstance(value, int) and abs(value) > EXACT_DOUBLES):
        return plain
    sign, digits, exponent = Decimal(plain).as_tuple()
    assert isinstance(exponent, int)
    zeros = choose.randrange(3)
    figures = "".join(map(str, digits)) + "0" * zeros
    exponent -= zeros
    whole = choose.randint(1, len(figures)) if figures[0] != "0" else 1
    if whole < len(figures):
        exponent += len(figures) - whole
        figures = f"{figures[:whole]}.{figures[whole:]}"
    minus = "-" if sign or (value == 0 and choose.random() < 0.5) else ""
    if exponent == 0 and choose.random() < 0.5:
        return f"{minus}{figures}"
    plus = choose.choice(("", "+")) if exponent >= 0 else ""
    return f"{minus}{figures}{choose.choice('eE')}{plus}{exponent}"
