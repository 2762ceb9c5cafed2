"""Boosted trees as arrays: the sum of what the leaves say."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from proxy.encoder.weights import Array

Ints = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Trees:
    """All trees side by side, a row of nodes each; a leaf is its own child."""

    feature: Ints
    threshold: Array
    left: Ints
    right: Ints
    value: Array
    depth: int

    def __repr__(self) -> str:
        return f"<Trees, {len(self.feature)} of depth {self.depth}>"

    def logit(self, numbers: Array) -> float:
        """The log odds that the trees give to one row of *numbers*."""
        every = np.arange(len(self.feature))
        node = np.zeros(len(self.feature), dtype=np.int32)
        for _ in range(self.depth):
            goes_left = numbers[self.feature[every, node]] <= self.threshold[every, node]
            node = np.where(goes_left, self.left[every, node], self.right[every, node])
        return float(self.value[every, node].sum())
