"""What two texts must not differ in. Text only, in both directions; no vectors, no model."""

from proxy.guards.hints import SOFT
from proxy.guards.parsed import Parsed, parse
from proxy.guards.rules import ALWAYS, HARD
from proxy.guards.stems import stem
from proxy.model import Veto

__all__ = ["HARD_NAMES", "NAMES", "Parsed", "fired", "parse", "vetoes"]

HARD_NAMES = frozenset(HARD)
"""Guards of which each is a reason not to serve, where both texts are short."""

NAMES = (*HARD, *SOFT)
"""Every guard, hard ones first."""


def fired(asked: Parsed, cached: Parsed) -> tuple[Veto, ...]:
    """All guards that fire on the two, with the words they went by."""
    found: list[Veto] = []
    for name, guard in (*HARD.items(), *SOFT.items()):
        conflict = guard(asked, cached)
        if conflict is not None:
            found.append(Veto(guard=name, asked=conflict[0], cached=conflict[1]))
    return tuple(found)


def vetoes(asked: Parsed, cached: Parsed, found: tuple[Veto, ...]) -> tuple[Veto, ...]:
    """Those of the guards *found* that forbid serving: hard ones, where both texts are short and alike.

    In long texts guards fire on four of ten paraphrases (measured on stored questions of thirty words), and in texts
    that share few words on one of three (on our own pairs): what the one says by a word the other says by a turn of
    phrase. There they are features, unless hardly anything but that word differs.
    """
    short = asked.short and cached.short
    return tuple(
        each
        for each in found
        if each.guard in HARD and ((short and each.guard in ALWAYS) or _alike(asked, cached, each, short=short))
    )


LONG_APART = 1
"""How many words, beside those that a guard went by, two long texts may differ in and still be alike."""


def _alike(asked: Parsed, cached: Parsed, veto: Veto, *, short: bool) -> bool:
    """Whether the two share most of their words, beside those that the guard went by."""
    said = {stem(word) for word in f"{veto.asked} {veto.cached}".lower().replace(",", " ").split()}
    mine = {word for word in asked.content if word not in cached.known} - said
    theirs = {word for word in cached.content if word not in asked.known} - said
    apart = max(len(mine), len(theirs))
    shared = len({word for word in asked.content if word in cached.known})
    return shared >= apart if short else apart <= LONG_APART
