"""Labelled questions from a directory of JSON Lines: pairs, and a stream in its order."""

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STREAM = "stream"


@dataclass(frozen=True, slots=True)
class Pair:
    """Two questions, and whether the answer to the first may be given to the second."""

    first: str
    second: str
    same: bool
    group: str
    """What kind of pair it is; a row of its own in the table."""


@dataclass(frozen=True, slots=True)
class Item:
    """A question of a stream."""

    text: str
    meaning: str
    """Questions with the same one have the same answer."""


def pair_sets(directory: Path) -> Mapping[str, Path]:
    """The files of pairs by name."""
    return {path.stem.removeprefix("pairs_"): path for path in sorted(directory.glob("pairs_*.jsonl"))}


def streams(directory: Path) -> Mapping[str, Path]:
    """The streams by name."""
    return {path.stem: path for path in sorted(directory.glob("stream_*.jsonl"))}


def pairs(path: Path, *, most: int, seed: int) -> Sequence[Pair]:
    """At most *most* pairs of a file, drawn by *seed* and kept in their order."""
    found = [
        Pair(row["a"], row["b"], bool(row["label"]), str(row.get("test") or row.get("op") or row.get("change") or ""))
        for row in _rows(path)
    ]
    if len(found) <= most:
        return found
    chosen = sorted(random.Random(seed).sample(range(len(found)), most))
    return [found[at] for at in chosen]


def stream(path: Path, *, most: int) -> Sequence[Item]:
    """The first *most* questions of a stream."""
    return [Item(row["text"], row["cls"]) for row, _ in zip(_rows(path), range(most), strict=False)]


def _rows(path: Path) -> Iterator[Mapping[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)
