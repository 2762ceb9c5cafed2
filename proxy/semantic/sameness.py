"""Do two answers say the same? A judge without a model of its own, that would rather say nothing than guess."""

import re
from collections import Counter

SAME_MEANING = 0.92
"""Answers with equal numbers and names whose embeddings are at least so near say the same."""

OTHER_MEANING = 0.6
"""Below this they do not, whatever their words."""

ERROR_RATE = 0.02
"""How often the judge is taken to see a difference where there is none; subtracted from the errors that were seen. An
assumption and no measurement of this judge: where it was looked into, the judge was the limit below about 2 %."""

SHORT_CHARS = 2000
"""In answers that are together so short every number counts; long ones that are sampled twice differ in some."""

MAX_COMPARED_CHARS = 100_000


def by_text(fresh: str, cached: str) -> bool | None:
    """True: the same but for case, spaces and punctuation. False: other numbers or names. None: that does not tell."""
    one, other = fresh[:MAX_COMPARED_CHARS], cached[:MAX_COMPARED_CHARS]
    if _plain(one) == _plain(other):
        return True
    if not one.strip() or not other.strip():
        return False
    if len(one) + len(other) <= SHORT_CHARS and Counter(_NUMBER.findall(one)) != Counter(_NUMBER.findall(other)):
        return False
    if {_side(one), _side(other)} == {"yes", "no"}:
        return False
    return None


def by_meaning(fresh: str, cached: str, cosine: float) -> bool | None:
    """What two answers say that *by_text* could not tell apart, by the *cosine* of their embeddings."""
    if cosine < OTHER_MEANING:
        return False
    agree = set(_NUMBER.findall(fresh)) == set(_NUMBER.findall(cached)) and _names(fresh) == _names(cached)
    return True if agree and cosine >= SAME_MEANING else None


_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_WORD = re.compile(r"\w+")
_NAME = re.compile(r"(?<![.!?:\n]\s)(?<!^)\b[A-Z][\w-]+", re.MULTILINE)


_SIDES = {"yes": "yes", "yeah": "yes", "true": "yes", "correct": "yes", "no": "no", "false": "no", "nope": "no"}


def _side(text: str) -> str:
    """``yes`` or ``no`` where the answer begins by taking sides."""
    return _SIDES.get(next(iter(_WORD.findall(text[:40].casefold())), ""), "")


def _plain(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _names(text: str) -> set[str]:
    return {name.casefold() for name in _NAME.findall(text)}
