"""Which prefixes of a prompt its provider writes to its cache, and where it looks for one: a model of it."""

from proxy.prefix.chain import Chain
from proxy.prefix.prompt import Prompt
from proxy.prefix.rules import Rule, Semantics
from proxy.values import value


@value
class Reach:
    """Lengths in blocks; None: every one."""

    written: frozenset[int] | None
    looked_up: frozenset[int] | None


EVERYWHERE = Reach(written=None, looked_up=None)
NOWHERE = Reach(written=frozenset(), looked_up=frozenset())


def reach(prompt: Prompt, chain: Chain, rule: Rule, ours: frozenset[int] = frozenset()) -> Reach:
    """What *rule* says of *prompt*, with marks of *ours* (numbers of segments) beside those of the client."""
    if rule.semantics is not Semantics.BREAKPOINT:
        return EVERYWHERE
    segments, bounds = prompt.segments, chain.bounds
    if not segments:
        return NOWHERE
    last = len(segments) - 1
    marks = {number for number, segment in enumerate(segments) if segment.marked} | ours
    if prompt.auto:
        marks.add(last)
    if not rule.implicit:
        looked = {number - back for number in marks for back in range(rule.lookback + 1) if number - back >= 0}
        return Reach(written=_lengths(marks, bounds), looked_up=_lengths(looked, bounds))
    if prompt.explicit:
        return Reach(written=_lengths(marks, bounds), looked_up=_lengths(marks, bounds))
    ends = [number for number, segment in enumerate(segments) if segment.ends_turn and number >= prompt.head]
    # The end of the developer's messages is looked up though nobody marked it, so it must be written there too.
    given = marks | {prompt.head - 1} if prompt.head else marks
    written = given | ({ends[-1]} if ends else set())
    return Reach(written=_lengths(written, bounds), looked_up=_lengths(given | set(ends[-rule.lookback - 1 :]), bounds))


def _lengths(numbers: set[int], bounds: tuple[int, ...]) -> frozenset[int]:
    return frozenset([bounds[number] for number in numbers])
