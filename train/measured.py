"""Pairs to numbers: what the boosted trees see of each pair, remembered in a file."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from proxy import guards
from proxy.encoder.encoder import Encoder
from proxy.verifier.features import NAMES, features, side
from train.corpus import Pair

CHUNK = 128


@dataclass(frozen=True, slots=True)
class Measured:
    """Numbers, label and whether a hard guard forbids it, a row for each pair."""

    numbers: np.ndarray
    labels: np.ndarray
    vetoed: np.ndarray


def measured(pairs: Sequence[Pair], encoder: Encoder) -> Measured:
    """The numbers of each of *pairs*."""
    parse = lru_cache(65536)(guards.parse)
    rows = np.empty((len(pairs), len(NAMES)), dtype=np.float32)
    vetoed = np.zeros(len(pairs), dtype=bool)
    for begin in range(0, len(pairs), CHUNK):
        part = pairs[begin : begin + CHUNK]
        texts = list(dict.fromkeys(text for pair in part for text in (pair.a, pair.b)))
        read = dict(zip(texts, encoder.read(texts), strict=True))
        for at, pair in enumerate(part, begin):
            one, other = parse(pair.b), parse(pair.a)
            fired = guards.fired(one, other)
            vetoed[at] = bool(guards.vetoes(one, other, fired))
            cosine = float(read[pair.b].vector @ read[pair.a].vector)
            rows[at] = features(
                side(encoder, read[pair.b], one), side(encoder, read[pair.a], other), cosine=cosine, fired=fired
            )
    return Measured(rows, np.array([pair.label for pair in pairs]), vetoed)
