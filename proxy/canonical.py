"""JSON by value: two texts of one value give the same bytes, two values never do."""

import json
from dataclasses import dataclass

from proxy.model import Json, Reason


class _Unfit(ValueError):
    """Raised inside the parser's hooks to leave it with a reason."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    # Readers differ on which of two equal keys counts (RFC 8259 section 4), so there is no one value to compare.
    if len(value) != len(pairs):
        raise _Unfit(Reason.DUPLICATE_KEYS)
    return value


_EXACT_POWER = 1e22
"""The largest power of ten that a double holds exactly. Past it a double is no integer in particular, and written out
as one it would have hundreds of digits."""


def _number(text: str) -> int | float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise _Unfit(Reason.ABSURD_NUMBER)
    if value == 0 and any(digit in "123456789" for digit in text.lower().partition("e")[0]):
        raise _Unfit(Reason.ABSURD_NUMBER)
    # 0, 0.0, -0.0 and 0e0 are one number, and so are 1e2 and 100.
    return int(value) if value.is_integer() and abs(value) <= _EXACT_POWER else value


def _constant(text: str) -> object:
    # Python reads NaN and Infinity; JSON has neither.
    raise _Unfit(Reason.INVALID_JSON)


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_float=_number, parse_constant=_constant)
# What was read from JSON holds no cycles, and looking for them takes as long as the rest.
_ENCODER = json.JSONEncoder(
    check_circular=False, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
)


@dataclass(frozen=True, slots=True)
class Unfit:
    """A body that cannot be compared by value, and why."""

    reason: Reason


def read(body: bytes) -> Json | Unfit:
    """The JSON object in *body* with its numbers by value, or why it cannot be told from another.

    Integers are exact up to 4,300 digits, other numbers are IEEE doubles (whole ones up to 1e22 are integers too),
    strings are code points as they stand (lone surrogates included): nothing is folded, trimmed or normalised.
    """
    try:
        value = _DECODER.decode(body.decode("utf-8"))
    except _Unfit as unfit:
        return Unfit(unfit.reason)
    except RecursionError:
        return Unfit(Reason.TOO_DEEP)
    except (json.JSONDecodeError, UnicodeDecodeError):
        return Unfit(Reason.INVALID_JSON)
    except ValueError:
        # int() refuses texts beyond sys.get_int_max_str_digits(), for their quadratic cost.
        return Unfit(Reason.ABSURD_NUMBER)
    return value if isinstance(value, dict) else Unfit(Reason.INVALID_JSON)


def write(value: object) -> bytes | Unfit:
    """The one spelling of *value*: keys sorted at every level, no white space, ASCII."""
    try:
        return _ENCODER.encode(value).encode("ascii")
    except RecursionError:
        return Unfit(Reason.TOO_DEEP)
