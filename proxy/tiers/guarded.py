"""Neighbours judged by the guards alone: for policies that go by the cosine."""

from collections.abc import Sequence
from functools import lru_cache

from proxy import guards
from proxy.model import Judgement, Neighbour

PARSED_TEXTS = 4096
"""Texts whose words are remembered, so that the cached side is parsed once."""

parse = lru_cache(PARSED_TEXTS)(guards.parse)


def judge(asked: str, neighbours: Sequence[Neighbour]) -> tuple[Judgement, ...]:
    """A judgement on each of *neighbours*: the cosine for a score, and what forbids it."""
    return tuple(_judge(parse(asked), neighbour) for neighbour in neighbours)


def _judge(asked: guards.Parsed, neighbour: Neighbour) -> Judgement:
    cached = parse(neighbour.text)
    fired = guards.fired(asked, cached)
    vetoes = guards.vetoes(asked, cached, fired)
    score = 0.0 if vetoes else neighbour.cosine
    return Judgement(score=score, fast=score, stage="guards", vetoes=vetoes, fired=fired)
