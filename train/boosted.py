"""Trains the boosted trees, the first stage of the verifier.

    python -m train.boosted --model DIRECTORY --pairs pairs.json --out trees.npz

Needs lightgbm. Writes the trees as arrays.
"""

import argparse
import json
from pathlib import Path

import lightgbm
import numpy as np

from proxy.encoder import encoder
from proxy.verifier.features import NAMES, SCHEMA
from train.corpus import Pair, chosen
from train.measured import Measured, measured

SEED = 20261125
TREES = 220
LEAVES = 15
SETTINGS = {
    "objective": "binary",
    "num_leaves": LEAVES,
    "learning_rate": 0.06,
    "min_data_in_leaf": 30,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 5.0,
    "max_depth": 8,
    "verbose": -1,
    "seed": SEED,
    "deterministic": True,
    "num_threads": 1,
}
SHARES = {
    "own": 0.85,
    "own+": 0.35,
    "own~": 0.25,
    "mft": 0.6,
    "mock": 0.5,
    "mock+": 0.25,
    "rqe": 0.5,
    "": 0.35,
}
"""How much of each source is taken: reading texts is what takes the time."""


WEIGHTS = {"own": 3.0, **dict.fromkeys(("own+", "own~", "clinc150~", "banking77~", "hwu64~", "mock+"), 0.5)}
"""What was written counts for more than what rules made of it."""

IGNORED = ("first word", "last word")
"""Numbers that tell more of how our rules change a text than of what it means."""


def fitted(data: Measured, weights: np.ndarray) -> lightgbm.Booster:
    """Trees on *data*."""
    return lightgbm.train(
        SETTINGS,
        lightgbm.Dataset(data.numbers, data.labels, weight=weights, feature_name=[n.replace(" ", "_") for n in NAMES]),
        TREES,
    )


def arrays(booster: lightgbm.Booster) -> dict[str, np.ndarray]:
    """The trees as ``proxy.verifier.trees`` reads them."""
    dumped = booster.dump_model()["tree_info"]
    made: list[list[tuple[int, float, int, int, float]]] = []
    deepest = 0

    def walk(node: dict, rows: list, depth: int) -> int:
        nonlocal deepest
        deepest = max(deepest, depth)
        at = len(rows)
        rows.append((0, 0.0, at, at, float(node.get("leaf_value", 0.0))))
        if "split_feature" in node:
            left = walk(node["left_child"], rows, depth + 1)
            right = walk(node["right_child"], rows, depth + 1)
            rows[at] = (node["split_feature"], float(node["threshold"]), left, right, 0.0)
        return at

    for tree in dumped:
        rows: list[tuple[int, float, int, int, float]] = []
        walk(tree["tree_structure"], rows, 0)
        made.append(rows)
    width = max(map(len, made))
    table = np.zeros((5, len(made), width))
    for number, rows in enumerate(made):
        table[:, number, : len(rows)] = np.array(rows).T
    return {
        "feature": table[0].astype(np.int16),
        "threshold": table[1].astype(np.float32),
        "left": table[2].astype(np.int16),
        "right": table[3].astype(np.int16),
        "value": table[4].astype(np.float32),
        "depth": np.array(deepest),
        "schema": np.array(SCHEMA),
        "features": np.array(len(NAMES)),
    }


def main() -> None:
    """Measure, train, write, and tell how the parts kept apart fare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--numbers", type=Path, required=True, help="where the numbers are remembered between runs")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    gathered = json.loads(given.pairs.read_text())
    training = chosen([Pair(*row) for row in gathered["training"]], SHARES, SEED)
    if given.numbers.exists():
        kept = np.load(given.numbers)
        data = Measured(kept["numbers"], kept["labels"], kept["vetoed"])
    else:
        data = measured(training, encoder.load(given.model))
        np.savez(given.numbers, numbers=data.numbers, labels=data.labels, vetoed=data.vetoed)
    for name in IGNORED:
        data.numbers[:, NAMES.index(name)] = 0.0
    weights = np.array([WEIGHTS.get(pair.source, 1.0) for pair in training])
    booster = fitted(data, weights)
    np.savez_compressed(given.out, **arrays(booster))
    gains = sorted(zip(booster.feature_importance("gain"), NAMES, strict=True), reverse=True)
    print(len(training), [(name, round(gain)) for gain, name in gains[:20]])


if __name__ == "__main__":
    main()
