"""A text as the model sees it: its vector, and the states of its tokens."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from proxy.encoder import weights
from proxy.encoder.bert import LAYERS, MIDDLE, WIDTH, Bert, Layers, bert, padded
from proxy.encoder.graph import Graph
from proxy.encoder.weights import Array
from proxy.encoder.wordpiece import Tokens, WordPiece
from proxy.errors import ModelError

MAX_TOKENS = 254
"""Of one text. The model was trained on 128 word pieces; beyond that a question is not one question any more."""

MAX_REMEMBERED_BYTES = 48 * 1024 * 1024
"""Readings kept, so that the cached side of a pair is read once. A question of twelve words takes some 25 KB."""

ROW_TOKENS = 2048
"""Tokens that go through the network at once: more would only wait in each other's cache lines."""

Half = NDArray[np.float16]


class Network(Protocol):
    """Layers at work, whatever computes them."""

    def through(self, x: Array, mask: Array) -> tuple[Array, ...]:
        """See :meth:`proxy.encoder.bert.Layers.through`."""
        ...


class Opening(Protocol):
    """Makes of layers ones that work."""

    def __call__(self, layers: Layers, *, rough: bool = False) -> Network:
        """*rough*: a hundredth of a state may be given up for time, where what comes of it is a score."""
        ...


def _as_they_are(layers: Layers, *, rough: bool = False) -> Network:
    # numpy has no faster products of whole numbers.
    return layers


BACKENDS: dict[str, Opening] = {"numpy": _as_they_are, "onnxruntime": Graph}
"""What may do the work, by name."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What the model made of one text."""

    tokens: Tokens
    vector: Array = field(repr=False)
    """The mean of the last states, of length 1."""
    middle: Half = field(repr=False)
    """A row of length 1 for each token, after the third layer."""
    last: Half = field(repr=False)
    """The same after the last layer."""

    @property
    def bytes_used(self) -> int:
        """What keeping it takes, roughly."""
        return 4 * self.vector.size + 2 * (self.middle.size + self.last.size) + 8 * len(self.tokens.ids) + 600


class Encoder:
    """The model with its tokenizer and a bounded memory of what it has read. Any thread may use it.

    ``network`` holds the matrices, ``open`` makes of layers ones that work.
    """

    def __init__(self, network: Bert, pieces: WordPiece, *, backend: str = "numpy") -> None:
        self.network = network
        self.pieces = pieces
        self.open = BACKENDS[backend]
        self._working = self.open(Layers(network.layers, wanted=(MIDDLE, LAYERS)))
        self._remembered: OrderedDict[str, Reading] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Encoder, {len(self._remembered)} texts remembered>"

    def read(self, texts: Sequence[str]) -> list[Reading]:
        """A reading of each of *texts*, in order."""
        found = {text: reading for text in texts if (reading := self._recall(text)) is not None}
        new = sorted(
            ((self.pieces.tokens(text, limit=MAX_TOKENS), text) for text in dict.fromkeys(texts) if text not in found),
            key=lambda pair: len(pair[0].ids),
        )
        while new:
            # Shortest first and those of about one length together, so that little of a row is filling.
            longest = len(new[0][0].ids) + 2
            count = 0
            for tokens, _ in new:
                width = len(tokens.ids) + 2
                if count and (width > longest * 2 or width * (count + 1) > ROW_TOKENS):
                    break
                count += 1
            for text, reading in self._pass(new[:count]):
                found[text] = reading
                self._remember(text, reading)
            new = new[count:]
        return [found[text] for text in texts]

    def vectors(self, texts: Sequence[str]) -> Array:
        """A row of length 1 for each of *texts*."""
        return np.stack([reading.vector for reading in self.read(texts)])

    def _pass(self, batch: Sequence[tuple[Tokens, str]]) -> list[tuple[str, Reading]]:
        ids, mask = padded([(self.pieces.start, *tokens.ids, self.pieces.end) for tokens, _ in batch])
        middle, last = self._working.through(self.network.embedded(ids), mask)
        means = (last * mask[:, :, None]).sum(axis=1)
        means /= np.linalg.norm(means, axis=1, keepdims=True)
        made = []
        for row, (tokens, text) in enumerate(batch):
            inner = slice(1, 1 + len(tokens.ids))
            made.append((text, Reading(tokens, means[row].copy(), _unit(middle[row, inner]), _unit(last[row, inner]))))
        return made

    def _recall(self, text: str) -> Reading | None:
        with self._lock:
            reading = self._remembered.get(text)
            if reading is not None:
                self._remembered.move_to_end(text)
            return reading

    def _remember(self, text: str, reading: Reading) -> None:
        with self._lock:
            if text not in self._remembered:
                self._remembered[text] = reading
                self._bytes += reading.bytes_used + 2 * len(text)
            while self._bytes > MAX_REMEMBERED_BYTES:
                old, gone = self._remembered.popitem(last=False)
                self._bytes -= gone.bytes_used + 2 * len(old)


def _unit(rows: Array) -> Half:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Half = (rows / np.maximum(lengths, np.float32(1e-6))).astype(np.float16)
    return unit


def load(directory: Path, *, backend: str = "numpy") -> Encoder:
    """The encoder whose files lie in *directory*: the right ones by their hash, and working on *backend*.

    Raises:
        ModelError: what is wrong, and what to try.
    """
    if wrong := weights.fault(directory):
        raise ModelError(f"{wrong}; `askonce model fetch` brings {weights.MODEL}")
    network = bert(weights.tensors(directory / "model.safetensors"))
    encoder = Encoder(network, WordPiece(weights.vocabulary(directory / "tokenizer.json")), backend=backend)
    check(encoder)
    return encoder


PROBES = ("how do I reset my password", "i forgot my password, how can i get a new one", "what is the capital of Chile")


def check(encoder: Encoder) -> None:
    """See that the network does what it should: a broken one gives vectors, too, and all of them alike.

    Raises:
        ModelError: it does not.
    """
    first, near, far = encoder.vectors(PROBES)
    for vector in (first, near, far):
        if vector.shape != (WIDTH,) or abs(float(np.linalg.norm(vector)) - 1.0) > 1e-3:
            raise ModelError("the model's vectors do not have length 1")
    if not (0.6 < float(first @ near) < 0.95 and float(first @ far) < 0.3):
        raise ModelError("the model does not tell a paraphrase from another question: it is damaged")
