"""The stages of a judgement on the neighbours of one text: guards, boosted trees, cross-encoder."""

import hashlib
import json
import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from io import BytesIO
from typing import Any

import numpy as np

from proxy import guards
from proxy.encoder.encoder import Encoder
from proxy.errors import ModelError
from proxy.guards import Parsed
from proxy.model import Judgement, Neighbour
from proxy.verifier.cross import Cross, cross
from proxy.verifier.features import NAMES, SCHEMA, features, side
from proxy.verifier.trees import Trees

TREES = "verifier_trees.npz"
ADAPTER = "verifier_cross.npz"
STACK = "verifier.json"
"""The files of weights, in the package's data."""

SAME_WORDS = NAMES.index("jaccard content")
"""Which number says that both texts have the same words, but for those that carry little."""

HOPELESS = -2.0
"""Below these log odds of the trees nobody would serve it whatever the cross-encoder said: it is not asked."""


@dataclass(frozen=True, slots=True)
class Stack:
    """How the stages are put together: the log odds are a weighted sum of theirs."""

    intercept: float
    cosine: float
    fast: float
    cross: float

    def logit(self, cosine: float, fast: float, full: float) -> float:
        """The log odds of all stages together."""
        return self.intercept + self.cosine * cosine + self.fast * fast + self.cross * full


@dataclass(frozen=True, slots=True)
class Stages:
    """The weights at work on one encoder."""

    encoder: Encoder
    trees: Trees
    cross: Cross | None
    stack: Stack

    def __repr__(self) -> str:
        return f"<Stages {self.trees!r}, {self.cross!r}>"

    def judge(self, asked: str, neighbours: Sequence[Neighbour], parsed: Sequence[Parsed]) -> tuple[Judgement, ...]:
        """A judgement on each of *neighbours*; *parsed* holds the asked text first, then each neighbour's.

        The cross-encoder is asked about one of them, the best so far; no other one scores above what it says.
        """
        readings = self.encoder.read([asked, *(neighbour.text for neighbour in neighbours)])
        mine = side(self.encoder, readings[0], parsed[0])
        found: list[Judgement] = []
        logits: list[float] = []
        cosines: list[float] = []
        same_words: list[bool] = []
        for reading, theirs in zip(readings[1:], parsed[1:], strict=True):
            fired = guards.fired(parsed[0], theirs)
            vetoes = guards.vetoes(parsed[0], theirs, fired)
            # The model's own cosine, whoever found the neighbour: the trees know no other embedder's.
            cosine = float(readings[0].vector @ reading.vector)
            numbers = features(mine, side(self.encoder, reading, theirs), cosine=cosine, fired=fired)
            cosines.append(cosine)
            same_words.append(bool(numbers[SAME_WORDS] > 1 - 1e-6))
            logit = self.trees.logit(numbers)
            logits.append(-math.inf if vetoes else logit)
            fast = _chance(logit)
            stage = "guards" if vetoes else "fast"
            found.append(Judgement(score=0.0 if vetoes else fast, fast=fast, stage=stage, vetoes=vetoes, fired=fired))
        if found and self.cross is not None:
            best = max(range(len(found)), key=logits.__getitem__)
            if logits[best] > HOPELESS:
                full = self.cross.logit(readings[1 + best], readings[0])
                logit = self.stack.logit(cosines[best], logits[best], full)
                # With the very same words it is their order that differs, to which the cross-encoder is half blind; the
                # guards on routes and roles have looked at that.
                score = _chance(max(logit, logits[best]) if same_words[best] else logit)
                found = [replace(each, score=min(each.score, score)) for each in found]
                found[best] = replace(found[best], score=score, stage="full")
        return tuple(found)


def _chance(logit: float) -> float:
    return 1.0 / (1.0 + math.exp(-max(-30.0, min(30.0, logit))))


@cache
def identity() -> str:
    """Stages, weights and words: scores of another identity are not comparable."""
    digest = hashlib.sha256()
    for name in (TREES, ADAPTER, STACK, "guard_words.txt"):
        digest.update(_octets(name) or b"")
    kind = "full" if _octets(ADAPTER) else "fast"
    return f"{kind}-{SCHEMA}-{digest.hexdigest()[:12]}"


def stages(encoder: Encoder) -> Stages:
    """The shipped weights on *encoder*.

    Raises:
        ModelError: they are missing, or of another make than this code.
    """
    trees, adapter = _arrays(TREES), _arrays(ADAPTER)
    if trees is None:
        raise ModelError(f"the package has no {TREES}")
    if int(trees["schema"]) != SCHEMA or int(trees["features"]) != len(NAMES):
        raise ModelError(f"{TREES} was made for other features than these")
    stacked: dict[str, Any] = json.loads(_octets(STACK) or b"{}")
    return Stages(
        encoder=encoder,
        trees=Trees(
            feature=trees["feature"].astype(np.int32),
            threshold=trees["threshold"].astype(np.float32),
            left=trees["left"].astype(np.int32),
            right=trees["right"].astype(np.int32),
            value=trees["value"].astype(np.float32),
            depth=int(trees["depth"]),
        ),
        cross=cross(encoder.network, adapter, opened=encoder.open) if adapter is not None else None,
        stack=Stack(**stacked["stack"]) if "stack" in stacked else Stack(0.0, 0.0, 1.0, 0.0),
    )


def _octets(name: str) -> bytes | None:
    file = resources.files("proxy").joinpath("data", name)
    return file.read_bytes() if file.is_file() else None


def _arrays(name: str) -> Mapping[str, Any] | None:
    octets = _octets(name)
    if octets is None:
        return None
    try:
        with np.load(BytesIO(octets), allow_pickle=False) as loaded:
            return {key: loaded[key] for key in loaded.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ModelError(f"{name} cannot be read: {error}") from error
