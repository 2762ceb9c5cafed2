"""The network on onnxruntime: what it says is what numpy says; and what is told where it is not installed."""

import asyncio
import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from proxy import guards
from proxy.embedders import local
from proxy.embedders.local import LocalModel
from proxy.encoder import encoder as encoding
from proxy.encoder import graph, places
from proxy.encoder.bert import Layers
from proxy.encoder.encoder import Encoder
from proxy.errors import ConfigError, ModelError
from proxy.model import Neighbour
from proxy.verifier import stages
from proxy.verifier.stages import Stages

FOUND = places.find("")
PAIRS = Path(__file__).parent.parent / "train" / "data" / "pairs_b.jsonl"
needs_both = pytest.mark.skipif(
    FOUND is None or bool(graph.absent()),
    reason=f"onnxruntime: {graph.absent()}" if graph.absent() else "the model is not here: `askonce model fetch`",
)


@cache
def on(backend: str) -> Stages:
    """The shipped weights on the model, by *backend*; loaded once."""
    return stages.stages(encoding.load(FOUND or Path(), backend=backend))


def pairs(count: int) -> list[tuple[str, str]]:
    """Pairs of questions, evenly out of those that we wrote."""
    lines = PAIRS.read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines[:: len(lines) // count][:count]]
    return [(str(each["a"]), str(each["b"])) for each in found]


def readings(encoder: Encoder, texts: list[str]) -> list[encoding.Reading]:
    """What *encoder* makes of *texts*, in batches with filling in them."""
    return [reading for at in range(0, len(texts), 20) for reading in encoder.read(texts[at : at + 20])]


@needs_both
@pytest.mark.timeout(120)
def test_vectors_and_states_are_numpys() -> None:
    texts = [text for pair in pairs(50) for text in pair] + ["", "?", "你好 👍", "word " * 400]
    for ours, theirs in zip(
        readings(on("onnxruntime").encoder, texts), readings(on("numpy").encoder, texts), strict=True
    ):
        assert np.abs(ours.vector - theirs.vector).max() < 1e-4
        for one, other in ((ours.middle, theirs.middle), (ours.last, theirs.last)):
            # Kept with ten bits each: two that round differently are one of these apart.
            assert np.abs(one.astype(np.float32) - other.astype(np.float32)).max(initial=0.0) < 1e-3


@needs_both
@pytest.mark.timeout(120)  # Two networks, twice a hundred texts: on a busy machine more than the usual limit.
def test_scores_are_nearly_numpys_so_that_what_was_calibrated_on_them_holds() -> None:
    apart: list[float] = []
    looked_at = 0
    for asked, cached in pairs(100):
        parsed = [guards.parse(text) for text in (asked, cached)]
        neighbours = [Neighbour(text=cached, cosine=0.9)]
        (ours,), (theirs,) = (on(name).judge(asked, neighbours, parsed) for name in ("onnxruntime", "numpy"))
        assert ours.stage == theirs.stage
        looked_at += ours.stage == "full"
        apart.append(abs(ours.score - theirs.score))
    # The last stage multiplies whole numbers there.
    assert np.median(apart) < 5e-3
    assert max(apart) < 0.05
    assert looked_at > 30


@needs_both
def test_both_work_in_the_threads_of_a_model_and_are_told_apart() -> None:
    async def vector(backend: str) -> tuple[str, np.ndarray]:
        model = LocalModel(FOUND or Path(), computing=backend)
        try:
            await model.start()
            return model.identity, (await model.embed(["how do I reset my password"]))[0]
        finally:
            await model.close()

    (ours, one), (theirs, other) = asyncio.run(vector("onnxruntime")), asyncio.run(vector("numpy"))
    assert ours != theirs
    assert np.abs(one - other).max() < 1e-4


@needs_both
def test_a_graph_that_onnxruntime_refuses_says_what_does_not_need_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "_octets", lambda _layers, *, rough: b"no graph")
    with pytest.raises(ModelError, match=r"semantic\.backend: numpy"):
        graph.Graph(Layers(on("numpy").encoder.network.layers, wanted=(6,)))


def test_without_the_package_numpy_does_the_work_unless_onnxruntime_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(graph, "find_spec", lambda name: None if name == "onnxruntime" else object())
    assert local.backend("auto") == local.backend("numpy") == "numpy"
    assert LocalModel(tmp_path).identity.endswith(":numpy")
    with pytest.raises(ConfigError, match=r"semantic\.backend: .*onnxruntime.*pip install askonce\[onnxruntime\]"):
        LocalModel(tmp_path, computing="onnxruntime")


def test_with_the_package_auto_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "find_spec", lambda _name: object())
    assert local.backend("auto") == local.backend("onnxruntime") == "onnxruntime"
    assert local.backend("numpy") == "numpy"
