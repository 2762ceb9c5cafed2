"""The cross-encoder: the sentence model's upper layers, bent by an adapter, over both texts in one sequence.

Its lower layers have read each text already, for the vector and the numbers: what they left is taken as it is, so that
a comparison costs the upper half alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from proxy.encoder.bert import MIDDLE, WIDTH, Bert, Layer, Layers, gelu
from proxy.encoder.encoder import Network, Opening, Reading
from proxy.encoder.weights import Array
from proxy.errors import ModelError

MAX_TOKENS = 62
"""Of each text; what is eligible is shorter."""

SCALE = np.float32(10.5)
"""How long a token's states are after the lower layers, on average; a reading keeps their direction alone."""

Halves = Mapping[str, NDArray[np.float16]]


@dataclass(frozen=True, slots=True)
class Linear:
    """x to ``x @ weight + bias``."""

    weight: Array
    bias: Array

    def __call__(self, x: Array) -> Array:
        """*x* (..., a) to (..., b)."""
        y: Array = x @ self.weight
        y += self.bias
        return y


@dataclass(frozen=True, slots=True)
class Cross:
    """The bent layers, what goes into them and what is read off them."""

    network: Network
    marks: Array
    """What stands before the first text and between both."""
    types: Array
    """What tells the first text's tokens from the second's."""
    sharpness: float
    """How much a token takes the best one of the other text for its own, rather than a mean of the better ones."""
    met: Linear
    told: Linear
    hidden: Linear
    last: Linear

    def __repr__(self) -> str:
        return f"<Cross on {self.network!r}>"

    def logit(self, cached: Reading, asked: Reading) -> float:
        """The log odds that the answer to *cached* serves *asked*."""
        one, other = (reading.middle[:MAX_TOKENS].astype(np.float32) for reading in (cached, asked))
        cosines = one @ other.T
        x = np.concatenate(
            [
                self.marks[:1],
                one * SCALE + self.types[0] + self._meeting(one, other, cosines),
                self.marks[1:],
                other * SCALE + self.types[1] + self._meeting(other, one, cosines.T),
            ]
        )[None]
        states = self.network.through(x, np.ones(x.shape[:2], dtype=np.float32))[0][0]
        end = 1 + len(one)
        apart = _mean(states[1:end]) - _mean(states[end + 1 :])
        read = np.concatenate([states[0], states.mean(axis=0), np.abs(apart)])
        return float(self.last(gelu(self.hidden(read)))[0])

    def _meeting(self, one: Array, other: Array, cosines: Array) -> Array:
        """What is told to each token of *one* about what it finds in *other*: how both differ, what they share."""
        if not len(one) or not len(other):
            return np.zeros_like(one)
        best = cosines.max(axis=1, keepdims=True)
        weights = np.exp((cosines - best) * np.float32(self.sharpness))
        weights /= weights.sum(axis=1, keepdims=True)
        found = weights @ other
        return self.told(
            gelu(self.met(np.concatenate([(one - found) * SCALE, one * found * (SCALE * SCALE), best], axis=1)))
        )


def _mean(rows: Array) -> Array:
    mean: Array = rows.sum(axis=0) / np.float32(max(1, len(rows)))
    return mean


def cross(network: Bert, adapter: Halves, *, opened: Opening) -> Cross:
    """The upper layers of *network*, bent by *adapter* and *opened* for work.

    Raises:
        ModelError: the adapter is not one for this network.
    """

    def full(name: str) -> Array:
        return adapter[name].astype(np.float32)

    def linear(name: str) -> Linear:
        return Linear(np.ascontiguousarray(full(f"{name}.weight").T), full(f"{name}.bias"))

    def bent(matrix: Array, number: int, name: str) -> Array:
        # The matrices lie turned, for x @ w.
        return matrix + full(f"{number}.{name}.down").T @ full(f"{number}.{name}.up").T

    try:
        layers: list[Layer] = []
        for number, layer in enumerate(network.layers[MIDDLE:]):
            norm, norm_bias, last_norm, last_norm_bias = full(f"{number}.norms")
            layers.append(
                replace(
                    layer,
                    qkv=bent(layer.qkv, number, "qkv"),
                    out=bent(layer.out, number, "out"),
                    up=bent(layer.up, number, "up"),
                    down=bent(layer.down, number, "down"),
                    norm=norm,
                    norm_bias=norm_bias,
                    last_norm=last_norm,
                    last_norm_bias=last_norm_bias,
                )
            )
        made = Cross(
            network=opened(Layers(tuple(layers), wanted=(len(layers),)), rough=True),
            marks=full("marks"),
            types=full("types"),
            sharpness=float(full("sharpness")),
            met=linear("met"),
            told=linear("told"),
            hidden=linear("hidden"),
            last=linear("last"),
        )
    except (KeyError, ValueError) as error:
        raise ModelError(f"the verifier's weights do not fit the model: {error}") from error
    if made.hidden.weight.shape[0] != 3 * WIDTH or made.told.weight.shape[1] != WIDTH:
        raise ModelError("the verifier's weights do not fit the model")
    return made
