"""Fits the last stage, writes what calibration begins from, and tells the figures.

    python -m train.stack --scores scores.npz --data ../proxy/data

The weights of the last stage and the prior come from pairs of our own that nothing was trained on; every other set is
only told about. With no cross-encoder among the scores, the trees alone are the last stage.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from proxy.verifier.stages import SAME_WORDS

COSINE, VETOED, FAST, FULL, LABEL = range(5)
STREAM_COSINE, STREAM_VETOED, STREAM_FAST, STREAM_FULL, STREAM_SAME = range(2, 7)
LIMITS = (0.01, 0.02, 0.05, 0.10)
RIDGE = 1e-3


def logistic(x: np.ndarray, y: np.ndarray, steps: int = 200) -> np.ndarray:
    """Weights of a logistic regression, intercept first, by Newton's method."""
    x = np.column_stack([np.ones(len(x)), x])
    w = np.zeros(x.shape[1])
    for _ in range(steps):
        p = 1 / (1 + np.exp(-np.clip(x @ w, -30, 30)))
        gradient = x.T @ (p - y) / len(y) + RIDGE * w
        hessian = (x * (p * (1 - p))[:, None]).T @ x / len(y) + RIDGE * np.eye(len(w))
        step = np.linalg.solve(hessian, gradient)
        w -= step
        if np.abs(step).max() < 1e-9:
            break
    return w


def chance(logit: np.ndarray) -> np.ndarray:
    """Log odds as a share."""
    return 1 / (1 + np.exp(-np.clip(logit, -30, 30)))


def told(score: np.ndarray, label: np.ndarray, threshold: float) -> str:
    """Recall and the share of near misses served, at *threshold*."""
    served = score >= threshold
    same, apart = label == 1, label == 0
    recall = served[same].mean() if same.any() else float("nan")
    fhr = served[apart].mean() if apart.any() else float("nan")
    return f"recall {recall:6.1%}  FHR {fhr:6.2%}"


def stream(rows: np.ndarray, score: np.ndarray, threshold: float, repeats: int) -> tuple[float, float, int]:
    """(recall, false hits per hit, hits) where the best of each question's neighbours is served at *threshold*."""
    hits = right = 0
    starts = np.flatnonzero(np.r_[True, rows[1:, 0] != rows[:-1, 0]])
    for begin, end in zip(starts, np.r_[starts[1:], len(rows)], strict=True):
        best = begin + int(np.argmax(score[begin:end]))
        if score[best] >= threshold:
            hits += 1
            right += int(rows[best, STREAM_SAME])
    return right / max(1, repeats), 1 - right / max(1, hits), hits


def at_limit(rows: np.ndarray, score: np.ndarray, limit: float, repeats: int) -> float:
    """The greatest recall at which false hits per hit stay under *limit*."""
    best = 0.0
    for threshold in np.unique(np.round(score[score > 0], 3)):
        recall, wrong, hits = stream(rows, score, float(threshold), repeats)
        if hits and wrong <= limit:
            best = max(best, recall)
    return best


def main() -> None:
    """Fit, write, tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scores", type=Path, nargs="+", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--fast", action="store_true", help="the trees alone")
    given = parser.parse_args()
    scores = {name: table for path in given.scores for name, table in np.load(path).items()}
    own = scores["own"]
    standing = own[:, VETOED] == 0
    if given.fast or not np.any(own[:, FULL]):
        weights = np.array([0.0, 0.0, 1.0, 0.0])
    else:
        weights = logistic(own[standing][:, [COSINE, FAST, FULL]], own[standing][:, LABEL])
    print("intercept, cosine, fast, cross:", np.round(weights, 3))

    def final(table: np.ndarray, numbers: np.ndarray, columns: tuple[int, int, int, int]) -> np.ndarray:
        """The score as ``stages`` makes it."""
        cosine, vetoed, fast, full = (table[:, column] for column in columns)
        logit = weights[0] + weights[1] * cosine + weights[2] * fast + weights[3] * full
        logit = np.where(numbers[:, SAME_WORDS] > 1 - 1e-6, np.maximum(logit, fast), logit)
        return chance(logit) * (vetoed == 0)

    (given.data / "verifier.json").write_text(
        json.dumps(
            {
                "stack": dict(
                    zip(("intercept", "cosine", "fast", "cross"), map(float, np.round(weights, 5)), strict=True)
                )
            }
        )
        + "\n"
    )
    # The package's own name for these weights, taken after they have been written.
    from proxy.verifier.stages import identity

    columns = (COSINE, VETOED, FAST, FULL)
    both = np.concatenate([own, scores["usual"]])
    numbers = np.concatenate([scores["own.numbers"], scores["usual.numbers"]])[both[:, VETOED] == 0]
    both = both[both[:, VETOED] == 0]
    right = both[:, LABEL] == 1
    prior = [
        [float(score), bool(same)]
        for score, same in sorted(zip(final(both, numbers, columns).round(4), right, strict=True), reverse=True)
    ]
    (given.data / "semantic_prior.json").write_text(
        json.dumps({"verifier": identity(), "pairs": prior}, separators=(",", ":")) + "\n"
    )
    from proxy.semantic.calibration import Calibration, shipped_prior

    threshold = Calibration(shipped_prior(identity()), limit=0.02, judge_error=0.0).threshold
    print(f"{identity()}: {len(prior)} pairs in the prior; it serves from {threshold:.4f} on")
    for name in ("own", "usual", "templates", "kmemo", "edits", "qqp"):
        if name not in scores:
            continue
        table = scores[name]
        label = table[:, LABEL]
        mine = final(table, scores[f"{name}.numbers"], columns)
        print(f"{name:10s} {len(table):5d} pairs | shipped: {told(mine, label, threshold)}")
        for cosine in (0.90, 0.95):
            print(f"{'':10s} plain cosine {cosine:.2f}   | {told(table[:, COSINE], label, cosine)}")
    if "stream" in scores:
        rows = scores["stream"]
        repeats = int(scores["stream.repeats"])
        mine = final(rows, scores["stream.numbers"], (STREAM_COSINE, STREAM_VETOED, STREAM_FAST, STREAM_FULL))
        recall, wrong, hits = stream(rows, mine, threshold, repeats)
        print(
            f"stream: {repeats} repeats in other words | shipped: recall {recall:.1%}, {wrong:.1%} of {hits} hits false"
        )
        for what, by in (
            ("cosine", rows[:, STREAM_COSINE]),
            ("trees and guards", chance(rows[:, STREAM_FAST]) * (rows[:, STREAM_VETOED] == 0)),
            ("all stages", mine),
        ):
            print(
                f"  {what:18s}",
                "  ".join(f"recall {at_limit(rows, by, limit, repeats):.1%} at {limit:.0%}" for limit in LIMITS),
            )


if __name__ == "__main__":
    main()
