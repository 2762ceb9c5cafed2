"""The ends of a prompt's segments, what kind of place each is, and the chance that what lies before it comes again."""

from proxy.prefix.acting import markable
from proxy.prefix.chain import Chain
from proxy.prefix.learner import Learner, Level
from proxy.prefix.marks import Place
from proxy.prefix.prompt import Part, Prompt
from proxy.prefix.rules import Rule

MAX_AWAITED_PARTS = 3
"""Parts of the first turn, documents as a rule, of which is learned whether they come again."""

MAX_PLACES = 512
"""Of a longer conversation only the ends of this many segments are weighed, the last ones and the system prompt's."""


def kind_of(prompt: Prompt, number: int) -> str:
    """What kind of place the end of segment *number* is."""
    segments = prompt.segments
    if segments[number].part is not Part.TURN:
        return "head" if number == prompt.head - 1 else "within"
    if number == len(segments) - 1:
        return "first turn" if sum([each.ends_turn for each in segments[prompt.head :]]) <= 1 else "last turn"
    return "turn" if segments[number].ends_turn else "part"


def awaited(prompt: Prompt) -> tuple[int, ...]:
    """The segments at whose ends it is worth knowing whether the prefix comes again."""
    head, last = prompt.head, len(prompt.segments) - 1
    parts = []
    for number in range(head, min(last, head + MAX_AWAITED_PARTS)):
        if prompt.segments[number].ends_turn:
            break
        parts.append(number)
    return tuple(sorted({*([head - 1] if head else []), *parts, *([last] if last >= 0 else [])}))


def level_at(learner: Learner, prompt: Prompt, chain: Chain, number: int, *, wide: bytes) -> Level:
    """Where verdicts on the end of segment *number* belong: its kind, whether it is new, its family.

    What is seen for the first time comes again far less often than what has come before; of an application whose system
    prompt changes each time every head is new, and none comes again.
    """
    node = learner.find(chain.digests[chain.bounds[number] - 1]) if chain.bounds[number] else None
    state = "known" if node is not None and node.sightings else "new"
    head = chain.bounds[prompt.head - 1] if prompt.head else 0
    family = chain.digests[head - 1] if head else chain.digests[0]
    return learner.level(wide, family, f"{kind_of(prompt, number)}, {state}")


def places_of(
    learner: Learner, prompt: Prompt, chain: Chain, rule: Rule, *, wide: bytes, now: float
) -> tuple[Place, ...]:
    """Every place of *prompt* that might bear a mark, before it is observed."""
    found: list[Place] = []
    deeper, most = 0.0, 1.0
    start = chain.bounds[prompt.head - 1] if prompt.head else 0
    first = learner.find(chain.digests[start - 1]) if start else None
    if start and (first is None or not first.sightings):
        # Where the system prompt is new each time, nothing that follows it comes again either, whatever others do.
        most = learner.chance(chain.digests[start - 1], level_at(learner, prompt, chain, prompt.head - 1, wide=wide))
    last = len(prompt.segments) - 1
    for number in range(last, -1, -1):
        blocks = chain.bounds[number]
        if not blocks or (last - number > MAX_PLACES and number >= prompt.head):
            continue
        digest = chain.digests[blocks - 1]
        node = learner.find(digest)
        chance = learner.chance(digest, level_at(learner, prompt, chain, number, wide=wide))
        # Whatever comes again brings what lies before it.
        deeper = max(deeper, min(chance, most) if number >= prompt.head - 1 else chance)
        found.append(
            Place(
                number=number,
                octets=chain.ends[blocks - 1],
                chance=deeper,
                live=node is not None and now - node.written <= rule.ttl_s,
                within=prompt.segments[number].part is Part.TURN and not prompt.segments[number].ends_turn,
                markable=bool(rule.mark) and markable(prompt.segments[number], rule.mark),
            )
        )
    return tuple(reversed(found))
