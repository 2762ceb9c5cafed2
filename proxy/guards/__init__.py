"""What two texts must not differ in. Text only, in both directions; no vectors, no model."""

from proxy.guards.parsed import Parsed, parse
from proxy.guards.rules import HARD, SOFT
from proxy.model import Veto

__all__ = ["NAMES", "Parsed", "fired", "parse", "vetoes"]

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
    """Those of the guards *found* that forbid serving: hard ones, where both texts are short.

    In long texts guards fire on four of ten paraphrases (measured on stored questions of thirty words); there they are
    features.
    """
    if not (asked.short and cached.short):
        return ()
    return tuple(each for each in found if each.guard in HARD)
