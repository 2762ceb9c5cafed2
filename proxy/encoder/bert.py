"""BERT's forward pass in numpy: six layers, twelve heads, 384 wide."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from proxy.encoder.weights import Array, Tensors
from proxy.errors import ModelError

LAYERS = 6
HEADS = 12
WIDTH = 384
MIDDLE = 3
"""The layer whose states are kept beside the last: nearer to the words, less mixed with their surroundings. What is
above it can still be bent to compare two texts."""

EPSILON = np.float32(1e-12)

# The normal distribution's cumulative function, as a logistic of an odd polynomial: fitted so that x times it is
# within 2.7e-5 everywhere; a third of the work of an error function.
PHI = (np.float32(1.59498687), np.float32(0.0740375785), np.float32(-0.000707302796))
PHI_BOUND = np.float32(6.0)

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer's matrices, laid out for ``x @ w``; query, key and value in one."""

    qkv: Array
    qkv_bias: Array
    out: Array
    out_bias: Array
    norm: Array
    norm_bias: Array
    up: Array
    up_bias: Array
    down: Array
    down_bias: Array
    last_norm: Array
    last_norm_bias: Array


@dataclass(frozen=True, slots=True)
class Layers:
    """Some layers on top of each other, and after which of them the states are wanted, counted from one."""

    layers: tuple[Layer, ...]
    wanted: tuple[int, ...]

    def __repr__(self) -> str:
        return f"<Layers, {len(self.layers)} of them>"

    def through(self, x: Array, mask: Array) -> tuple[Array, ...]:
        """The states after each of the wanted layers, (n, t, 384) each, where *x* (n, t, 384) goes into the first.

        *mask* is (n, t): 1 where a token stands and 0 where the row is filled up.
        """
        n, t, _ = x.shape
        x = x.reshape(n * t, WIDTH)
        hidden: Array | None = None
        if not mask.all():
            hidden = ((1.0 - mask) * np.float32(-1e9)).astype(np.float32)[:, None, None, :]
        found = []
        for number, layer in enumerate(self.layers, 1):
            x = _layer(layer, x, n, t, hidden)
            if number in self.wanted:
                found.append(x.reshape(n, t, WIDTH))
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Bert:
    """The whole network."""

    words: Array
    positions: Array
    type_: Array
    """Of a first text; each is read alone, so there is no second."""
    norm: Array
    norm_bias: Array
    layers: tuple[Layer, ...]

    def __repr__(self) -> str:
        return f"<Bert, {len(self.layers)} layers>"

    @property
    def longest(self) -> int:
        """How many tokens a sequence may have."""
        return len(self.positions)

    def embedded(self, ids: Ids) -> Array:
        """What goes into the first layer, (n, t, 384), of *ids* (n, t)."""
        n, t = ids.shape
        x = self.words[ids] + self.positions[:t]
        x += self.type_
        return _normal(x.reshape(n * t, WIDTH), self.norm, self.norm_bias).reshape(n, t, WIDTH)


def _layer(layer: Layer, x: Array, n: int, t: int, hidden: Array | None) -> Array:
    qkv = x @ layer.qkv
    qkv += layer.qkv_bias
    q, k, v = qkv.reshape(n, t, 3, HEADS, WIDTH // HEADS).transpose(2, 0, 3, 1, 4)
    weights = q @ k.transpose(0, 1, 3, 2)
    weights *= np.float32(1.0 / np.sqrt(WIDTH // HEADS))
    if hidden is not None:
        weights += hidden
    weights -= weights.max(axis=-1, keepdims=True)
    np.exp(weights, out=weights)
    weights /= weights.sum(axis=-1, keepdims=True)
    mixed = (weights @ v).transpose(0, 2, 1, 3).reshape(n * t, WIDTH)
    attended = mixed @ layer.out
    attended += layer.out_bias
    attended += x
    x = _normal(attended, layer.norm, layer.norm_bias)
    wide = x @ layer.up
    wide += layer.up_bias
    narrow = gelu(wide) @ layer.down
    narrow += layer.down_bias
    narrow += x
    return _normal(narrow, layer.last_norm, layer.last_norm_bias)


def _normal(x: Array, weight: Array, bias: Array) -> Array:
    """Layer normalisation, in place."""
    x -= x.mean(axis=-1, keepdims=True)
    spread = np.einsum("ij,ij->i", x, x)[:, None]
    spread /= np.float32(x.shape[-1])
    spread += EPSILON
    np.sqrt(spread, out=spread)
    x /= spread
    x *= weight
    x += bias
    return x


def gelu(x: Array) -> Array:
    """x times the normal cumulative distribution at x."""
    bounded = np.clip(x, -PHI_BOUND, PHI_BOUND)
    square = bounded * bounded
    odd = square * PHI[2]
    odd += PHI[1]
    odd *= square
    odd += PHI[0]
    odd *= bounded
    np.negative(odd, out=odd)
    np.exp(odd, out=odd)
    odd += np.float32(1.0)
    np.divide(x, odd, out=odd)
    return odd


def bert(tensors: Tensors) -> Bert:
    """The network out of the *tensors* of a model file, by the names that the reference gives them.

    Raises:
        ModelError: one is missing or has another shape.
    """

    def take(name: str, *shape: int) -> Array:
        found = tensors.get(name)
        if found is None or found.shape != shape:
            raise ModelError(f"the model has no {name} of shape {shape}")
        return found

    def turned(name: str, wide: int, narrow: int) -> Array:
        return np.ascontiguousarray(take(name, wide, narrow).T)

    layers = []
    for number in range(LAYERS):
        at = f"encoder.layer.{number}"
        own = f"{at}.attention.self"
        names = ("query", "key", "value")
        layers.append(
            Layer(
                qkv=np.concatenate([turned(f"{own}.{name}.weight", WIDTH, WIDTH) for name in names], axis=1),
                qkv_bias=np.concatenate([take(f"{own}.{name}.bias", WIDTH) for name in names]),
                out=turned(f"{at}.attention.output.dense.weight", WIDTH, WIDTH),
                out_bias=take(f"{at}.attention.output.dense.bias", WIDTH),
                norm=take(f"{at}.attention.output.LayerNorm.weight", WIDTH),
                norm_bias=take(f"{at}.attention.output.LayerNorm.bias", WIDTH),
                up=turned(f"{at}.intermediate.dense.weight", 4 * WIDTH, WIDTH),
                up_bias=take(f"{at}.intermediate.dense.bias", 4 * WIDTH),
                down=turned(f"{at}.output.dense.weight", WIDTH, 4 * WIDTH),
                down_bias=take(f"{at}.output.dense.bias", WIDTH),
                last_norm=take(f"{at}.output.LayerNorm.weight", WIDTH),
                last_norm_bias=take(f"{at}.output.LayerNorm.bias", WIDTH),
            )
        )
    words = tensors.get("embeddings.word_embeddings.weight")
    if words is None or words.ndim != 2 or words.shape[1] != WIDTH:
        raise ModelError("the model has no word embeddings")
    return Bert(
        words=words,
        positions=take("embeddings.position_embeddings.weight", 512, WIDTH),
        type_=take("embeddings.token_type_embeddings.weight", 2, WIDTH)[0],
        norm=take("embeddings.LayerNorm.weight", WIDTH),
        norm_bias=take("embeddings.LayerNorm.bias", WIDTH),
        layers=tuple(layers),
    )


def padded(rows: Sequence[Sequence[int]]) -> tuple[Ids, Array]:
    """*rows* of token ids filled up to the longest, and the mask that tells filling from text."""
    longest = max(map(len, rows))
    ids = np.zeros((len(rows), longest), dtype=np.int64)
    mask = np.zeros((len(rows), longest), dtype=np.float32)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = row
        mask[number, : len(row)] = 1.0
    return ids, mask
