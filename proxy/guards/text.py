"""A text cut into words: what they are in lower case, their stems, how they were written."""

import re
from dataclasses import dataclass

from proxy.guards.stems import stem

SHORT_WORDS = 25
"""Up to here a text is one plain question, and a word that differs is the difference."""

MAX_WORDS = 400
"""Words that are looked at; a longer text is never decided by a guard."""

MAX_CHARS = 8000

_WORD = re.compile(
    r"""
    (?P<address> https?://\S+ | [\w.+-]+@[\w-]+\.[\w.-]+ )                  # addresses of pages and people
    | (?P<path> (?:[A-Za-z]:\\|~?/|\.{1,2}/)[\w.\-/\\]{2,} )                # paths
    | (?P<number> (?<![A-Za-z_]) [-+]?\d+(?:[.,:/]\d+)*(?:st|nd|rd|th)?(?![A-Za-z_\d-]) )
    | (?P<mixed> \w+(?:[-_.]\w+)*\d[\w.-]*\w | \w*\d\w*(?:[-_.]\w+)* | \w+_\w+ )  # letters with digits, or joined by _
    | (?P<word> [^\W\d_]+(?:['’][^\W\d_]+)*(?:[+]{2}|\#)? )
    | (?P<sign> [$€£¥₹%°&@] )
    """,
    re.VERBOSE,
)

_SENTENCE = re.compile(r"[.?!:]['\")]*\s+$|\n\s*$")

_NOT = re.compile(r"n['’]?t$")

_EXPANDED = {
    "cant": ("can", "not"),
    "dont": ("do", "not"),
    "doesnt": ("does", "not"),
    "didnt": ("did", "not"),
    "isnt": ("is", "not"),
    "arent": ("are", "not"),
    "wasnt": ("was", "not"),
    "werent": ("were", "not"),
    "wont": ("will", "not"),
    "wouldnt": ("would", "not"),
    "shouldnt": ("should", "not"),
    "couldnt": ("could", "not"),
    "hasnt": ("has", "not"),
    "havent": ("have", "not"),
    "hadnt": ("had", "not"),
    "mustnt": ("must", "not"),
    "neednt": ("need", "not"),
    "aint": ("is", "not"),
    "cannot": ("can", "not"),
    "whats": ("what", "is"),
    "wheres": ("where", "is"),
    "whos": ("who", "is"),
    "hows": ("how", "is"),
    "whens": ("when", "is"),
    "im": ("i", "am"),
    "ive": ("i", "have"),
}

_COUNTED = re.compile(r"[€$£]?(\d+(?:[.,]\d+)*)-?([a-z]+)")

_COUNTS = {
    **{
        unit: unit
        for unit in ("day", "days", "week", "month", "year", "hour", "minute", "second", "foot", "inch", "mile")
    },
    **{
        unit: unit
        for unit in ("km", "cm", "mm", "kg", "mg", "ml", "lb", "lbs", "gb", "mb", "tb", "kb", "pm", "am", "usd", "eur")
    },
    "k": "thousand",
    "h": "hour",
    "hr": "hour",
    "hrs": "hour",
    "min": "minute",
    "mins": "minute",
    "yr": "year",
    "yrs": "year",
    "ft": "foot",
    "m": "m",
    "g": "g",
    "l": "l",
}
"""What may follow a number without a space, and how it is written with one."""

_ENDINGS = {"s": "is", "re": "are", "ve": "have", "ll": "will", "d": "would", "m": "am"}


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a text."""

    lower: str
    stem: str
    raw: str
    kind: str
    """``word``, ``number``, ``mixed`` (letters and digits), ``address``, ``path`` or ``sign``."""
    opens: bool
    """It begins a sentence, so that a capital says nothing."""


def words_of(text: str) -> tuple[Word, ...]:
    """The words of *text*, contractions taken apart: ``don't`` is ``do`` and ``not``."""
    found: list[Word] = []
    opens = True
    end = 0
    text = text[:MAX_CHARS].replace("’", "'")
    for match in _WORD.finditer(text):
        if found and _SENTENCE.search(text[end : match.start()]):
            opens = True
        end = match.end()
        kind = str(match.lastgroup)
        raw = match.group()
        lower = raw.lower()
        if kind == "word":
            for part in _parts(lower):
                found.append(Word(part, stem(part), raw, kind, opens))
        elif kind == "mixed" and (joined := _COUNTED.fullmatch(lower)) and joined.group(2) in _COUNTS:
            # "30-day", "5k", "12h": a number and what it counts.
            count = _COUNTS[joined.group(2)]
            found.append(Word(joined.group(1), joined.group(1), raw, "number", opens))
            found.append(Word(count, stem(count), raw, "word", False))
        else:
            if kind in ("address", "path", "mixed"):
                lower = lower.rstrip(".,;:-")
            found.append(Word(lower, lower, raw, kind, opens))
        opens = False
        if len(found) >= MAX_WORDS:
            break
    return tuple(found)


def _parts(lower: str) -> tuple[str, ...]:
    bare = lower.replace("'", "")
    if bare in _EXPANDED:
        return _EXPANDED[bare]
    if "'" not in lower:
        return (lower,)
    head, _, tail = lower.partition("'")
    if _NOT.search(lower):
        return (_NOT.sub("", lower).rstrip("'") or "do", "not")
    if tail in _ENDINGS:
        # A possessive and a short "is" look alike; neither changes what a guard looks for.
        return (head,) if tail == "s" else (head, _ENDINGS[tail])
    return (bare,)
