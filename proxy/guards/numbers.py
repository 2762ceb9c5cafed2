"""Numbers and what they count: 100 is not 250, and five days are not five weeks."""

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation

from proxy.guards.text import Word

_SMALL = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_ORDINALS = {
    "first": 1,
    "second": 2,
    "third": 3,
    "fourth": 4,
    "fifth": 5,
    "sixth": 6,
    "seventh": 7,
    "eighth": 8,
    "ninth": 9,
    "tenth": 10,
    "twelfth": 12,
    "twentieth": 20,
}
_OTHERS: dict[str, int | Decimal] = {
    "dozen": 12,
    "twice": 2,
    "double": 2,
    "triple": 3,
    "half": Decimal("0.5"),
    "quarter": Decimal("0.25"),
}
WORDS: dict[str, Decimal] = {
    **{word: Decimal(at) for at, word in enumerate(_SMALL)},
    **{word: Decimal(20 + 10 * at) for at, word in enumerate(_TENS)},
    **{word: Decimal(value) for word, value in _ORDINALS.items()},
    **{word: Decimal(value) for word, value in _OTHERS.items()},
}

AMBIGUOUS = frozenset({"one", "second", "first", "quarter", "half", "double", "zero"})
"""Numbers that are as often something else: "which one", "a second", "first, open the file"."""

UNITS: dict[str, str] = {
    spelling: spellings.split()[0]
    for spellings in (
        "$ usd dollar buck",
        "€ eur euro",
        "£ gbp pound quid",
        "¥ jpy yen",
        "₹ inr rupee",
        "% percent pct",
        "km kilometer kilometre",
        "m meter metre",
        "cm centimeter centimetre",
        "mm millimeter millimetre",
        "mile mi",
        "ft foot",
        "inch in",
        "yard yd",
        "kg kilogram kilo",
        "g gram gm",
        "mg milligram",
        "lb lbs",
        "oz ounce",
        "l liter litre",
        "ml milliliter millilitre",
        "gallon gal",
        "second sec",
        "minut min minute",
        "hour hr",
        "day",
        "week wk",
        "month",
        "year yr",
        "kb kilobyte",
        "mb megabyte",
        "gb gigabyte",
        "tb terabyte",
        "celsius centigrade",
        "fahrenheit",
        "am",
        "pm",
    )
    for spelling in spellings.split()
}
"""Spelling to one name for each unit, by stem."""


def numbers_of(words: Sequence[Word]) -> tuple[tuple[Decimal, str, str], ...]:
    """(value, unit, the words) of each number; the unit is empty where none is known."""
    found: list[tuple[Decimal, str, str]] = []
    at = 0
    while at < len(words):
        value, used = _value(words, at)
        if value is None:
            at += 1
            continue
        spelled = " ".join(word.raw for word in words[at : at + used])
        after = words[at + used] if at + used < len(words) else None
        before = words[at - 1] if at else None
        unit = ""
        if after is not None and after.stem in UNITS:
            unit = UNITS[after.stem]
        elif before is not None and before.kind == "sign":
            unit = UNITS.get(before.lower, "")
        if used == 1 and words[at].lower in AMBIGUOUS and not unit:
            at += used
            continue
        if used == 1 and words[at].lower == "second" and before is not None and before.lower in ("a", "per", "every"):
            at += used
            continue
        found.append((value, unit, f"{spelled} {after.raw}" if unit and after is not None else spelled))
        at += used
    return tuple(found)


def _value(words: Sequence[Word], at: int) -> tuple[Decimal | None, int]:
    word = words[at]
    if word.kind == "number":
        text = word.lower.rstrip("stndrh")
        value = digits(text)
        if value is None:
            return None, 1
        scale = words[at + 1].stem if at + 1 < len(words) else ""
        if scale in _SCALES:
            return value * _SCALES[scale], 2
        return value, 1
    if word.lower in WORDS:
        value = WORDS[word.lower]
        used = 1
        if value >= 20 and value < 100 and at + 1 < len(words):
            more = WORDS.get(words[at + 1].lower)
            if more is not None and 0 < more < 10:
                value, used = value + more, 2
        while at + used < len(words) and words[at + used].lower in _SCALES:
            value, used = value * _SCALES[words[at + used].lower], used + 1
        return value, used
    if word.lower in _SCALES and at and words[at - 1].lower in ("a", "an"):
        return Decimal(_SCALES[word.lower]), 1
    return None, 1


def digits(text: str) -> Decimal | None:
    """The value of *text*; None where it is no plain number (a date, a time, a range)."""
    plain = text.replace(",", "") if _grouped(text) else text.replace(",", ".")
    try:
        # A time or a fraction is compared as it is written.
        return Decimal(plain) if ":" not in plain and "/" not in plain else None
    except InvalidOperation:
        return None


def _grouped(text: str) -> bool:
    head, *groups = text.partition(".")[0].split(",")
    return bool(groups) and all(len(group) == 3 for group in groups) and 1 <= len(head.lstrip("+-")) <= 3
