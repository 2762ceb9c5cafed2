"""How the verifier fares: pairs apart, and a stream of questions as they would come.

    python -m train.evaluate --model DIR --pairs pairs.json --shared DIR --trees T [--cross C] --out scores.npz

Writes the scores of every stage of every pair; `python -m train.stack` fits the last stage on a part of them and tells
the figures of all others.
"""

import argparse
import json
import random
import time
from functools import lru_cache
from pathlib import Path

import numpy as np

from proxy import guards
from proxy.encoder import encoder as encoding
from proxy.encoder.encoder import Encoder
from proxy.verifier.cross import cross
from proxy.verifier.features import features, side
from proxy.verifier.trees import Trees
from train.corpus import Pair, lines, plain

FLOOR = 0.70
NEAREST = 3
SEED = 7
CHUNK = 64

parse = lru_cache(65536)(guards.parse)


class Scorer:
    """Every stage's word on a pair."""

    def __init__(self, model: Encoder, trees: Path, adapter: Path | None) -> None:
        self.model = model
        loaded = np.load(trees)
        self.trees = Trees(
            feature=loaded["feature"].astype(np.int32),
            threshold=loaded["threshold"],
            left=loaded["left"].astype(np.int32),
            right=loaded["right"].astype(np.int32),
            value=loaded["value"],
            depth=int(loaded["depth"]),
        )
        self.seen: list[np.ndarray] = []
        """What the trees saw, for other trees to be tried on."""
        self.cross = cross(model.network, dict(np.load(adapter)), opened=model.open) if adapter is not None else None

    def score(self, cached: str, asked: str, *, full: bool = True) -> tuple[float, float, float, float]:
        """(cosine, vetoed, the trees' log odds, the cross-encoder's) of one pair."""
        one, other = self.model.read([asked, cached])
        mine, theirs = parse(asked), parse(cached)
        fired = guards.fired(mine, theirs)
        vetoed = bool(guards.vetoes(mine, theirs, fired))
        cosine = float(one.vector @ other.vector)
        numbers = features(side(self.model, one, mine), side(self.model, other, theirs), cosine=cosine, fired=fired)
        self.seen.append(numbers)
        fast = self.trees.logit(numbers)
        logit = self.cross.logit(other, one) if full and self.cross and not vetoed else 0.0
        return cosine, float(vetoed), fast, logit


def sets(shared: Path, gathered: dict[str, object]) -> dict[str, list[Pair]]:
    """The pairs that judge, by name; samples of the large sets, the same each time."""
    dice = random.Random(SEED)

    def some(name: str, count: int) -> list[Pair]:
        pairs = plain(shared / f"pairs_{name}.jsonl", name)
        return dice.sample(pairs, min(count, len(pairs)))

    apart = gathered["apart"]
    assert isinstance(apart, dict)
    return {
        "own": dice.sample([Pair(*row) for row in apart["own"]], min(800, len(apart["own"]))),
        "usual": [Pair(*row) for row in apart["usual"]],
        "templates": dice.sample([Pair(*row) for row in apart["templates"]], 500),
        "kmemo": some("kmemo_tuned", 1000),
        "edits": some("checklist_edits", 500),
        "qqp": some("qqp", 300),
    }


def stream(shared: Path, scorer: Scorer, count: int) -> tuple[np.ndarray, int]:
    """For each question its three nearest earlier ones: (asked, cached, cosine, vetoed, fast, full, same answer).

    Every earlier question counts as kept. The cross-encoder's word is taken for the best by the trees only; the others
    are left out where it spoke, for none of them may score above it. Also: how many questions repeat an earlier one in
    other words.
    """
    rows = list(lines(shared / "stream_nearmiss_20.jsonl"))[:count]
    texts = [str(row["text"]) for row in rows]
    vectors = np.concatenate([scorer.model.vectors(texts[at : at + 256]) for at in range(0, len(texts), 256)])
    found = []
    first: dict[str, int] = {}
    numbers: dict[tuple[int, int], np.ndarray] = {}
    classes: set[str] = set()
    repeats = 0
    for at, text in enumerate(texts):
        known = first.get(text)
        first.setdefault(text, at)
        own = str(rows[at]["cls"])
        repeats += known is None and own in classes
        classes.add(own)
        if known is not None or at == 0:
            continue
        cosines = vectors[:at] @ vectors[at]
        near = np.argsort(-cosines)[: NEAREST * 4]
        seen: list[int] = []
        for other in near:
            if cosines[other] >= FLOOR and all(texts[other] != texts[one] for one in seen):
                seen.append(int(other))
        part = []
        for other in seen[:NEAREST]:
            part.append((at, other, *scorer.score(texts[other], text, full=False)))
            numbers[at, other] = scorer.seen.pop()
        standing = [row for row in part if not row[3]]
        if standing and scorer.cross is not None:
            best = max(standing, key=lambda row: row[4])
            asked, cached = scorer.model.read([text, texts[best[1]]])
            full = scorer.cross.logit(cached, asked)
            part = [(*best[:5], full)]
        found += [(*row, float(rows[int(row[0])]["cls"] == rows[int(row[1])]["cls"])) for row in part]
    scorer.seen = [numbers[int(row[0]), int(row[1])] for row in found]
    return np.array(found), repeats


def main() -> None:
    """Score, and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--trees", type=Path, required=True)
    parser.add_argument("--cross", type=Path)
    parser.add_argument("--stream", type=int, default=1500)
    parser.add_argument("--sets", nargs="*", help="these alone")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    scorer = Scorer(encoding.load(given.model), given.trees, given.cross)
    gathered = json.loads(given.pairs.read_text())
    kept: dict[str, np.ndarray] = {}
    for name, pairs in sets(given.shared, gathered).items():
        if given.sets and name not in given.sets:
            continue
        begun = time.monotonic()
        rows = []
        for at in range(0, len(pairs), CHUNK):
            part = pairs[at : at + CHUNK]
            scorer.model.read([text for pair in part for text in (pair.a, pair.b)])
            rows += [(*scorer.score(pair.a, pair.b), pair.label) for pair in part]
        kept[name] = np.array(rows)
        kept[f"{name}.numbers"] = np.array(scorer.seen)
        scorer.seen.clear()
        kept[f"{name}.kinds"] = np.array([pair.kind for pair in pairs])
        print(name, len(pairs), f"{time.monotonic() - begun:.0f} s", flush=True)
        np.savez(given.out, **kept)
    if given.sets and "stream" not in given.sets:
        return
    questions, repeats = stream(given.shared, scorer, given.stream)
    kept["stream.numbers"] = np.array(scorer.seen)
    kept["stream"], kept["stream.repeats"] = questions, np.array(repeats)
    np.savez(given.out, **kept)


if __name__ == "__main__":
    main()
