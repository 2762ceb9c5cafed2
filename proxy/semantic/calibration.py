"""From which score on an answer may be served, so that errors per hit stay under a limit. Pure."""

import json
import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import resources

from proxy.values import value

Z = 1.3
"""How many standard errors the bound lies above what was seen: nine times in ten the truth is below."""

PRIOR_WEIGHT = 400.0
"""What the pairs count that it was developed on, in labels. With 150 nothing would be served before the first label."""

FADES_AT = 50.0
"""At so many labels the prior counts half, for it may be wrong about the traffic here."""

PRIOR_NEAR_MISSES = 0.20
"""The share of the prior that counts as different: what was made to learn from holds more near misses than traffic. One
neighbour in five that no guard forbids is a cautious guess; what is learned in operation replaces it."""

REFIT_EVERY = 40
PLENTY, THINNED = 500, 4
"""With so many labels, only one in so many is kept of those that cost nothing: the dear ones are not crowded out."""

MAX_LABELS = 2000
"""Older ones are forgotten: traffic changes."""

EXPLORE_FIRST, EXPLORE_LATER, FIRST_LABELS = 0.10, 0.025, 60
"""What share of the answers that could be served is asked anew all the same, until so many were, and afterwards."""

BANDS = 20


@value
class Label:
    """A pair of questions whose answers were compared."""

    score: float
    right: bool
    weight: float = 1.0
    """How many pairs it stands for: one over the chance with which it was looked at."""


@value
class Counts:
    """What was served, by band, and how often it was explored."""

    served: tuple[int, ...] = (0,) * BANDS
    explored: int = 0


@dataclass(slots=True)
class Band:
    """What is known of one twentieth of the scale, for people to look at."""

    right: float = 0.0
    wrong: float = 0.0
    served: int = 0


class Calibration:
    """One pooled curve of errors over scores, and the threshold that it allows.

    *prior* are development pairs: a belief of ``PRIOR_WEIGHT`` that fades before labels and has no uncertainty.
    Without them nothing is served before enough was learned. *judge_error* is how often the judge of answers sees a
    difference where there is none; it is taken off the errors that were seen, not off the prior's.
    """

    def __init__(self, prior: Iterable[Label], *, limit: float, judge_error: float) -> None:
        self._prior = _believed(prior)
        self._limit = limit
        self._judge_error = judge_error
        self._labels: deque[Label] = deque(maxlen=MAX_LABELS)
        self._unwritten: deque[Label] = deque(maxlen=MAX_LABELS)
        """Those of them that nobody else knows of; they stand at the end."""
        self._dumped = 0
        """How many of these the last dump had."""
        self._since_fit = 0
        self._passed = 0
        self._served = [0] * BANDS
        self.explored = 0
        self._written = self._dumped_counts = Counts()
        """What others know of the rest, and what they are to be told."""
        self._restored: object = None
        self._dumped_labels: object = None
        """The labels that others know of, as they were read last."""
        self.threshold = math.inf
        self.bound = 0.0
        """The upper bound of errors per hit at the threshold."""
        self.fit()

    def __repr__(self) -> str:
        return f"<Calibration from {self.threshold:.3f} on, {len(self._labels)} labels>"

    @property
    def labels(self) -> int:
        """How many pairs were compared here, of those that are not forgotten."""
        return len(self._labels)

    @property
    def right(self) -> int:
        """In how many of these the answers agreed."""
        return sum(label.right for label in self._labels)

    @property
    def served_ever(self) -> int:
        """How many were served, by all who share what is learned."""
        return sum(self._served)

    @property
    def exploring(self) -> float:
        """With what chance an answer that could be served is asked anew."""
        return EXPLORE_FIRST if self.explored < FIRST_LABELS else EXPLORE_LATER

    def add(self, label: Label) -> bool:
        """Learn from one more pair; True where the threshold was fitted anew."""
        self._since_fit += 1
        if label.weight == 1 and label.score < self.threshold and len(self._labels) >= PLENTY:
            self._passed += 1
            if self._passed % THINNED:
                return False
            label = replace(label, weight=float(THINNED))
        self._labels.append(label)
        self._unwritten.append(label)
        # One that was wrong above the threshold does not wait for its turn.
        if self._since_fit < REFIT_EVERY and (label.right or label.score < self.threshold):
            return False
        self.fit()
        return True

    def served(self, score: float) -> None:
        """One was served."""
        self._served[_band(score)] += 1

    def fit(self) -> None:
        """Find the lowest score from which on the bound keeps to the limit."""
        self._since_fit = 0
        self.threshold, self.bound = math.inf, 0.0
        # In the order of their scores; a threshold never cuts through equal ones.
        points = sorted(
            [(p.score, p.right, p.weight, True) for p in self._prior]
            + [(p.score, p.right, p.weight, False) for p in self._labels],
            key=lambda point: -point[0],
        )
        believed = doubted = weight = squares = wrong = 0.0
        for at, (score, right, each, prior) in enumerate(points):
            if prior:
                believed += each
                doubted += 0.0 if right else each
            else:
                weight += each
                squares += each * each
                wrong += 0.0 if right else each
            if at + 1 < len(points) and points[at + 1][0] == score:
                continue
            # Labels that stand for others tell no more than so many that stand for themselves.
            count = weight * weight / squares if squares else 0.0
            seen = count * max(0.0, wrong / weight - self._judge_error) if weight else 0.0
            fading = FADES_AT / (FADES_AT + count)
            total = believed * fading + count
            bound = upper((doubted * fading + seen) / total, total * total / count if count else math.inf)
            if bound <= self._limit and self._limit > 0:
                self.threshold, self.bound = score, bound

    def bands(self) -> Sequence[Band]:
        """Right and wrong by score, prior included, and what was served."""
        found = [Band(served=served) for served in self._served]
        for label in (*self._prior, *self._labels):
            band = found[_band(label.score)]
            if label.right:
                band.right += label.weight
            else:
                band.wrong += label.weight
        return found

    def shown(self) -> dict[str, object]:
        """As JSON."""
        right, served = self.right, self.served_ever
        return {
            "threshold": None if math.isinf(self.threshold) else round(self.threshold, 4),
            "bound": round(self.bound, 5),
            "labels": {"right": right, "wrong": len(self._labels) - right, "explored": self.explored},
            "served": served,
            "false_hits_at_most": round(served * self.bound, 2),
            "curve": [
                {
                    "from": round(at / BANDS, 2),
                    "right": round(band.right, 1),
                    "wrong": round(band.wrong, 1),
                    "served": band.served,
                }
                for at, band in enumerate(self.bands())
            ],
        }

    def dumped(self) -> object:
        """What was learned, by all who share it, to be read again by ``restore``."""
        labels = [[round(label.score, 5), label.right, round(label.weight, 3)] for label in self._labels]
        self._dumped = len(self._unwritten)
        self._dumped_counts = Counts(served=tuple(self._served), explored=self.explored)
        self._dumped_labels = labels
        return {"labels": labels, "explored": self.explored, "served": list(self._served)}

    def written(self) -> None:
        """What was dumped last is known to others now."""
        for _ in range(min(self._dumped, len(self._unwritten))):
            self._unwritten.popleft()
        self._dumped = 0
        self._written, self._restored = self._dumped_counts, self._dumped_labels

    def restore(self, dumped: object) -> None:
        """Take up what an earlier process learned, or another, and add to it what is known here alone.

        What cannot be read is left out.
        """
        if not isinstance(dumped, dict):
            return
        explored, served = dumped.get("explored"), dumped.get("served")
        read = Counts(
            served=tuple(served)
            if isinstance(served, list) and len(served) == BANDS and all(isinstance(count, int) for count in served)
            else (0,) * BANDS,
            explored=explored if isinstance(explored, int) else 0,
        )
        here = zip(self._served, self._written.served, strict=True)
        self._served = [theirs + ours - before for theirs, (ours, before) in zip(read.served, here, strict=True)]
        self.explored += read.explored - self._written.explored
        self._written = read
        given = dumped.get("labels") or ()
        if given == self._restored:
            return
        self._restored = given
        self._labels.clear()
        self._labels.extend(_read(given))
        self._labels.extend(self._unwritten)
        # What others learned does not put off when this is written down.
        since = self._since_fit
        self.fit()
        self._since_fit = since


def _read(labels: Iterable[object]) -> Iterator[Label]:
    for each in labels:
        match each:
            case [int() | float() as score, bool() as right, int() | float() as weight] if 0 < weight < math.inf:
                yield Label(score=float(score), right=right, weight=float(weight))
            case _:
                pass


def _believed(prior: Iterable[Label]) -> list[Label]:
    """*prior* with the weights that it counts with, the best first."""
    given = sorted(prior, key=lambda label: -label.score)
    weights = {right: sum(label.weight for label in given if label.right is right) for right in (True, False)}
    if not weights[True] or not weights[False]:
        return []
    share = {True: 1 - PRIOR_NEAR_MISSES, False: PRIOR_NEAR_MISSES}
    return [
        Label(score=p.score, right=p.right, weight=p.weight * PRIOR_WEIGHT * share[p.right] / weights[p.right])
        for p in given
    ]


def upper(share: float, count: float) -> float:
    """Wilson's upper bound of a *share* that was seen in *count* trials."""
    middle = share + Z * Z / (2 * count)
    spread = Z * math.sqrt(share * (1 - share) / count + Z * Z / (4 * count * count))
    return (middle + spread) / (1 + Z * Z / count)


def shipped_prior(verifier: str) -> Sequence[Label]:
    """The development pairs that *verifier* was calibrated on; none where it is another that they were scored by."""
    text = (resources.files("proxy") / "data" / "semantic_prior.json").read_text(encoding="utf-8")
    kept = json.loads(text)
    if kept["verifier"] != verifier:
        return ()
    return [Label(score=float(score), right=bool(right)) for score, right in kept["pairs"]]


def _band(score: float) -> int:
    return min(BANDS - 1, max(0, int(score * BANDS)))
