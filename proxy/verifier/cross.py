"""The cross-encoder: the same sentence model, its matrices bent by an adapter, with both texts in one sequence."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from proxy.encoder.bert import WIDTH, Bert, Layer, gelu
from proxy.encoder.encoder import Network
from proxy.encoder.weights import Array
from proxy.encoder.wordpiece import WordPiece
from proxy.errors import ModelError

MAX_TOKENS = 62
"""Of each text; what is eligible is shorter."""

Halves = Mapping[str, NDArray[np.float16]]


@dataclass(frozen=True, slots=True)
class Cross:
    """The bent network and its head."""

    network: Network
    hidden: Array
    hidden_bias: Array
    last: Array
    last_bias: Array

    def __repr__(self) -> str:
        return f"<Cross on {self.network!r}>"

    def logit(self, pieces: WordPiece, cached: str, asked: str) -> float:
        """The log odds that the answer to *cached* serves *asked*."""
        one = pieces.tokens(cached, limit=MAX_TOKENS).ids
        other = pieces.tokens(asked, limit=MAX_TOKENS).ids
        ids = np.array([[pieces.start, *one, pieces.end, *other, pieces.end]], dtype=np.int64)
        types = np.array([[0] * (len(one) + 2) + [1] * (len(other) + 1)], dtype=np.int64)
        _, states = self.network.states(ids, np.ones(ids.shape, dtype=np.float32), types)
        both = np.concatenate([states[0, 0], states[0].mean(axis=0)])
        return float(gelu(both @ self.hidden + self.hidden_bias) @ self.last + self.last_bias[0])


def cross(network: Bert, adapter: Halves, *, opened: Callable[[Bert], Network]) -> Cross:
    """*network* bent by *adapter*, and *opened* for work.

    Raises:
        ModelError: the adapter is not one for this network.
    """

    def full(name: str) -> Array:
        return adapter[name].astype(np.float32)

    def bent(matrix: Array, number: int, name: str) -> Array:
        # The matrices lie turned, for x @ w.
        return matrix + full(f"{number}.{name}.down").T @ full(f"{number}.{name}.up").T

    try:
        layers: list[Layer] = []
        for number, layer in enumerate(network.layers):
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
        norm, norm_bias = full("norm")
        made = Cross(
            network=opened(replace(network, types=full("types"), norm=norm, norm_bias=norm_bias, layers=tuple(layers))),
            hidden=np.ascontiguousarray(full("hidden.weight").T),
            hidden_bias=full("hidden.bias"),
            last=full("last.weight")[0],
            last_bias=full("last.bias"),
        )
    except (KeyError, ValueError) as error:
        raise ModelError(f"the verifier's weights do not fit the model: {error}") from error
    if made.hidden.shape[0] != 2 * WIDTH:
        raise ModelError("the verifier's weights do not fit the model")
    return made
