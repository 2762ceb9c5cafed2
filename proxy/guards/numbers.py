"""Numbers and what they count: 100 is not 250, and five days are not five weeks."""

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation

from proxy.guards.stems import stem
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

_MEASURES = """
usd: $ usd dollar buck; eur: € eur euro; gbp: £ gbp pound quid; jpy: ¥ jpy yen; inr: ₹ inr rupee; chf: chf franc
1 m: m meter metre; 1000 m: km kilometer kilometre; 0.01 m: cm centimeter centimetre; 0.001 m: mm millimeter millimetre
1609.344 m: mile mi; 0.3048 m: ft foot; 0.0254 m: inch; 0.9144 m: yd yard
1 g: g gram gm; 1000 g: kg kilogram kilo; 0.001 g: mg milligram; 453.59 g: lb lbs; 28.35 g: oz ounce
1 l: l liter litre; 0.001 l: ml milliliter millilitre; 3.785 l: gallon gal
1 s: second sec; 60 s: min minute; 3600 s: hour hr; 86400 s: day; 604800 s: week wk fortnight
1 month: month; 12 month: year yr; 3 month: quarter; 120 month: decade; 1200 month: century
1 kb: kb kilobyte; 1000 kb: mb megabyte; 1000000 kb: gb gigabyte; 1000000000 kb: tb terabyte
0.01 part: % percent pct; celsius: celsius centigrade; fahrenheit: fahrenheit; 1 am: am; 1 pm: pm
"""

UNITS: dict[str, tuple[Decimal, str]] = {}
"""Spelling, by stem, to how much of which measure it is."""

for _entry in _MEASURES.replace("\n", ";").split(";"):
    _measure, _, _spellings = _entry.strip().partition(": ")
    _factor, _, _name = _measure.rpartition(" ")
    for _spelling in _spellings.split():
        UNITS[_spelling] = UNITS[stem(_spelling)] = (Decimal(_factor or 1), _name)

Quantity = tuple[Decimal, str, str]
"""A value in its measure's own unit, the measure (empty where none is named), and the words."""


def numbers_of(words: Sequence[Word]) -> tuple[Quantity, ...]:
    """Each quantity in *words*: two metres and 200 cm are one, 3 pm and 15:00 are."""
    found: list[Quantity] = []
    at = 0
    while at < len(words):
        value, used = _value(words, at)
        if value is None:
            at += 1
            continue
        spelled = " ".join(dict.fromkeys(word.raw for word in words[at : at + used]))
        after, skipped = _following(words, at, used)
        before = words[at - 1] if at else None
        factor, measure = Decimal(1), ""
        if after is not None and after.stem in UNITS:
            factor, measure = UNITS[after.stem]
            used += skipped
        elif before is not None and before.kind == "sign":
            factor, measure = UNITS.get(before.lower, (Decimal(1), ""))
        if not measure and words[at].lower in AMBIGUOUS and used == 1:
            at += used
            continue
        if measure in ("am", "pm"):
            value, measure = _hour(value, measure), "o'clock"
        elif ":" in words[at].lower:
            measure = "o'clock"
        whole = value * factor
        named = f"{spelled} {after.raw}" if measure and after is not None and after.raw not in spelled else spelled
        found.append((whole.normalize(), measure, named))
        at += used
    return tuple(found)


def _following(words: Sequence[Word], at: int, used: int) -> tuple[Word | None, int]:
    """The word that a number counts, and how many words it takes: ``half an hour``, ``a quarter of an hour``."""
    end = at + used
    if words[at].lower in ("half", "quarter"):
        for skip in ("a", "an"), ("of", "a"), ("of", "an"):
            if tuple(word.lower for word in words[end : end + len(skip)]) == skip and end + len(skip) < len(words):
                return words[end + len(skip)], len(skip) + 1
    return (words[end], 1) if end < len(words) else (None, 0)


def _hour(value: Decimal, half: str) -> Decimal:
    return value % 12 + (12 if half == "pm" else 0)


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
        if ":" in plain:
            hours, _, minutes = plain.partition(":")
            return Decimal(hours) + Decimal(minutes) / 60
        if "/" in plain:
            # A fraction; a date of three parts is no number.
            over, _, under = plain.partition("/")
            return Decimal(over) / Decimal(under)
        return Decimal(plain)
    except (InvalidOperation, ZeroDivisionError):
        return None


def _grouped(text: str) -> bool:
    head, *groups = text.partition(".")[0].split(",")
    return bool(groups) and all(len(group) == 3 for group in groups) and 1 <= len(head.lstrip("+-")) <= 3
