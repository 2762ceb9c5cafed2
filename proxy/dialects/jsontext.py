"""JSON as it stands in an answer: read strictly, written back with the same numbers, order and strings."""

import json
import math
from typing import NoReturn


def read(text: bytes, *, unique: bool = False) -> object:
    """The value of *text*; a ValueError where it is not JSON in UTF-8 or holds what cannot be written back.

    With *unique*, an object that names a key twice is refused: readers differ on what it says, so re-writing it would
    decide for them.
    """
    try:
        value: object = (_UNIQUE if unique else _PLAIN).decode(text.decode())
    except RecursionError:
        raise ValueError("nests too deep to be read") from None
    return value


def write(value: object) -> bytes:
    """*value* as compact JSON in UTF-8."""
    try:
        text = _LITERAL.encode(value)
    except RecursionError:
        raise ValueError("nests too deep to be written") from None
    try:
        return text.encode()
    except UnicodeEncodeError:
        # A lone surrogate exists in JSON only as an escape. A pair that two deltas split is whole again when read.
        return _ESCAPED.encode(value).encode()


def word(value: object) -> str:
    """*value* where it is a string; else the empty one, which is in no list of words."""
    return value if isinstance(value, str) else ""


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("an object names a key twice")
    return members


def _double(digits: str) -> float:
    number = float(digits)
    if math.isinf(number) or (number == 0 and any(digit in "123456789" for digit in digits.lower().partition("e")[0])):
        raise ValueError("a number is beyond an IEEE double")
    return number


def _not_a_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


# json.loads and json.dumps make a new one for every call, which costs more than the chunk of a stream itself.
_PLAIN = json.JSONDecoder(parse_float=_double, parse_constant=_not_a_number)
_UNIQUE = json.JSONDecoder(parse_float=_double, parse_constant=_not_a_number, object_pairs_hook=_unique)
_LITERAL = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_ESCAPED = json.JSONEncoder(separators=(",", ":"))
