"""The stages of a judgement on the neighbours of one text."""

from collections.abc import Sequence

from proxy import guards
from proxy.encoder.encoder import Encoder
from proxy.guards import Parsed
from proxy.model import Judgement, Neighbour

IDENTITY = "guards-cosine-0"


def judge(
    encoder: Encoder, asked: str, neighbours: Sequence[Neighbour], parsed: Sequence[Parsed]
) -> tuple[Judgement, ...]:
    """A judgement on each of *neighbours*; *parsed* holds the asked text first, then each neighbour's."""
    found = []
    for neighbour, theirs in zip(neighbours, parsed[1:], strict=True):
        fired = guards.fired(parsed[0], theirs)
        vetoes = guards.vetoes(parsed[0], theirs, fired)
        fast = max(0.0, min(1.0, neighbour.cosine))
        found.append(
            Judgement(
                score=0.0 if vetoes else fast,
                fast=fast,
                stage="guards" if vetoes else "fast",
                vetoes=vetoes,
                fired=fired,
            )
        )
    return tuple(found)
