"""What one cosine threshold alone would do, with the same vectors: the comparison, computed in this process."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.semantic.sets import Item, Pair
from proxy.encoder import places
from proxy.encoder.encoder import Encoder, load

THRESHOLDS = (0.70, 0.75, 0.80, 0.85, 0.875, 0.90, 0.925, 0.95, 0.97, 0.98, 0.99, 0.995)
BATCH = 32


@dataclass(slots=True)
class Tally:
    """How often what was served was right, of how much could have been."""

    repeats: int = 0
    """Questions that had an answer of the same meaning."""
    others: int = 0
    """Pairs that must miss; in a stream, questions of a meaning that is new."""
    right: int = 0
    wrong: int = 0

    @property
    def recall(self) -> float:
        """The share of repeats that were served rightly."""
        return self.right / self.repeats if self.repeats else 0.0

    @property
    def false_of_hits(self) -> float:
        """False hits per hit: what a user feels."""
        hits = self.right + self.wrong
        return self.wrong / hits if hits else 0.0

    @property
    def false_of_others(self) -> float:
        """The share of those that must miss and were served."""
        return self.wrong / self.others if self.others else 0.0


def encoder() -> Encoder:
    """The model; a sentence where it is not here."""
    directory = places.find("")
    if directory is None:
        raise SystemExit("the model is not on this machine: askonce model fetch")
    return load(directory)


def vectors(model: Encoder, texts: Sequence[str]) -> NDArray[np.float32]:
    """One row each."""
    unique = sorted(set(texts), key=len)
    rows: dict[str, NDArray[np.float32]] = {}
    for start in range(0, len(unique), BATCH):
        batch = unique[start : start + BATCH]
        rows.update(zip(batch, model.vectors(batch), strict=True))
    return np.stack([rows[text] for text in texts])


def of_pairs(model: Encoder, asked: Sequence[Pair]) -> Iterator[tuple[float, Tally]]:
    """A tally by threshold."""
    first, second = vectors(model, [pair.first for pair in asked]), vectors(model, [pair.second for pair in asked])
    cosines = (first * second).sum(axis=1)
    for threshold in THRESHOLDS:
        tally = Tally()
        for pair, cosine in zip(asked, cosines, strict=True):
            count(tally, same=pair.same, served=bool(cosine >= threshold))
        yield threshold, tally


def of_stream(model: Encoder, asked: Sequence[Item]) -> Iterator[tuple[float, Tally]]:
    """A tally by threshold; exact repeats are left out, every cache serves them."""
    rows = vectors(model, [item.text for item in asked])
    for threshold in THRESHOLDS:
        tally = Tally()
        kept: list[int] = []
        seen: set[str] = set()
        texts: set[str] = set()
        block = np.empty_like(rows)
        for at, item in enumerate(asked):
            if item.text in texts:
                continue
            known = item.meaning in seen
            tally.repeats += known
            tally.others += not known
            near = int(np.argmax(block[: len(kept)] @ rows[at])) if kept else -1
            if near >= 0 and float(block[near] @ rows[at]) >= threshold:
                right = asked[kept[near]].meaning == item.meaning
                tally.right += right
                tally.wrong += not right
            else:
                block[len(kept)] = rows[at]
                kept.append(at)
                texts.add(item.text)
                seen.add(item.meaning)
        yield threshold, tally


def count(tally: Tally, *, same: bool, served: bool) -> None:
    """Count one pair."""
    tally.repeats += same
    tally.others += not same
    tally.right += served and same
    tally.wrong += served and not same
