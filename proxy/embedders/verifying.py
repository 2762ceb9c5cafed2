"""The verifier at work, in the threads of the model on this machine."""

from collections.abc import Sequence
from functools import lru_cache

from proxy import guards
from proxy.embedders.local import LocalModel
from proxy.encoder.encoder import Encoder
from proxy.model import Judgement, Neighbour
from proxy.verifier import stages

PARSED_TEXTS = 4096
"""Texts whose words are remembered, so that the cached side is parsed once."""


class LocalVerifier:
    """A ``Verifier`` on *model*, whoever made the vectors that found the neighbours."""

    def __init__(self, model: LocalModel) -> None:
        self._model = model
        self._parse = lru_cache(PARSED_TEXTS)(guards.parse)
        # Threads of one model: two that come first at once make the same twice, and no harm is done.
        self._staged = lru_cache(1)(stages.stages)

    def __repr__(self) -> str:
        return f"<LocalVerifier {self.identity} on {self._model!r}>"

    @property
    def identity(self) -> str:
        """Stages and weights: scores of another are not comparable."""
        return stages.identity()

    async def start(self) -> None:
        """Load the model and bend its matrices now, so that the first question does not wait for it.

        Raises:
            ModelError: the model or the weights are not there, or are not the right ones.
        """
        await self._model.run(self._staged)

    async def judge(self, asked: str, neighbours: Sequence[Neighbour]) -> tuple[Judgement, ...]:
        """A judgement on each of *neighbours*.

        Raises:
            ModelError: there is no model.
            EmbedderError: too much waits for it already.
        """
        if not neighbours:
            return ()

        def work(encoder: Encoder) -> tuple[Judgement, ...]:
            parsed = [self._parse(text) for text in (asked, *(neighbour.text for neighbour in neighbours))]
            return self._staged(encoder).judge(asked, neighbours, parsed)

        return await self._model.run(work)
