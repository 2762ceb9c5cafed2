"""The verifier: its features, its trees and its cross-encoder, on the weights that are shipped."""

import asyncio
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy import guards
from proxy.embedders.local import LocalModel
from proxy.embedders.verifying import LocalVerifier
from proxy.encoder import encoder as encoding
from proxy.encoder import places
from proxy.errors import ModelError
from proxy.model import Judgement, Neighbour
from proxy.semantic.calibration import shipped_prior
from proxy.verifier import cross, stages
from proxy.verifier.features import NAMES, features, side
from proxy.verifier.stages import Stages
from proxy.verifier.trees import Trees

FOUND = places.find("")
needs_model = pytest.mark.skipif(FOUND is None, reason="the model is not here: `askonce model fetch` brings it")


@cache
def loaded() -> Stages:
    """The shipped weights on the model, loaded once."""
    if FOUND is None:
        pytest.skip("the model is not here: `askonce model fetch` brings it")
    return stages.stages(encoding.load(FOUND))


@pytest.fixture
def staged() -> Stages:
    """The shipped weights on the model."""
    return loaded()


def judged(staged: Stages, asked: str, *cached: str) -> tuple[Judgement, ...]:
    """What the stages make of each of *cached*."""
    parsed = [guards.parse(text) for text in (asked, *cached)]
    return staged.judge(asked, [Neighbour(text=text, cosine=0.9) for text in cached], parsed)


SAME = (
    ("How do I reset my password?", "how can i reset my password"),
    ("What is the capital of France?", "Tell me the capital of France, please"),
    ("How long should I boil an egg?", "How long do I have to boil an egg for?"),
    ("Cancel my subscription", "I would like to cancel my subscription"),
)
DIFFERENT = (
    ("How do I reset my password?", "How do I choose a good password?"),
    ("What is the capital of France?", "What is the population of France?"),
    ("How long should I boil an egg?", "How should I store a boiled egg?"),
    ("Cancel my subscription", "Upgrade my subscription"),
)


@needs_model
def test_plain_paraphrases_score_above_plain_near_misses(staged: Stages) -> None:
    same = [judged(staged, asked, cached)[0].score for cached, asked in SAME]
    different = [judged(staged, asked, cached)[0].score for cached, asked in DIFFERENT]
    assert min(same) > max(different)


@needs_model
def test_a_vetoed_neighbour_scores_nothing_and_names_the_guard(staged: Stages) -> None:
    (judgement,) = judged(staged, "Refund order 48231", "Refund order 48213")
    assert (judgement.score, judgement.stage) == (0.0, "guards")
    assert [veto.guard for veto in judgement.vetoes] == ["numbers"]


@needs_model
def test_no_neighbour_scores_above_the_one_that_the_last_stage_looked_at(staged: Stages) -> None:
    found = judged(
        staged, "How do I reset my password?", "How can I reset my password?", "Reset password how", "Cook an egg"
    )
    if staged.cross is not None:
        assert [judgement.stage for judgement in found].count("full") == 1
        assert max(found, key=lambda judgement: judgement.score).stage == "full"


@needs_model
def test_calibration_begins_from_pairs_that_these_very_weights_have_scored() -> None:
    assert len(shipped_prior(stages.identity())) > 100


texts = st.text(max_size=200) | st.sampled_from(["", "?", "a", "你好", "👍👍", "x" * 3000, "not " * 100, "\x00\x01"])


@needs_model
@settings(max_examples=12, deadline=None)
@given(asked=texts, cached=texts)
def test_any_two_texts_have_a_score_between_nothing_and_one(asked: str, cached: str) -> None:
    (judgement,) = judged(loaded(), asked, cached)
    assert 0.0 <= judgement.score <= 1.0
    assert 0.0 <= judgement.fast <= 1.0


@needs_model
@settings(max_examples=12, deadline=None)
@given(one=texts, other=texts)
def test_what_the_trees_see_does_not_depend_on_which_text_was_first(one: str, other: str) -> None:
    staged, rows = loaded(), []
    for asked, cached in ((one, other), (other, one)):
        readings = staged.encoder.read([asked, cached])
        parsed = [guards.parse(text) for text in (asked, cached)]
        fired = guards.fired(parsed[0], parsed[1])
        sides = [side(staged.encoder, *both) for both in zip(readings, parsed, strict=True)]
        rows.append(features(sides[0], sides[1], cosine=0.5, fired=fired))
    assert rows[0].shape == (len(NAMES),)
    assert np.isfinite(rows[0]).all()
    assert np.allclose(rows[0], rows[1], atol=1e-3)


@needs_model
def test_an_adapter_that_does_not_fit_is_refused(staged: Stages) -> None:
    with pytest.raises(ModelError, match="do not fit"):
        cross.cross(staged.encoder.network, {"types": np.zeros((2, 384), dtype=np.float16)}, opened=staged.encoder.open)


def test_trees_add_up_the_leaves_that_the_numbers_lead_to() -> None:
    trees = Trees(
        feature=np.array([[0, 1, 0, 0, 0], [1, 0, 0, 0, 0]], dtype=np.int32),
        threshold=np.array([[0.5, 2.0, 0, 0, 0], [1.0, 0, 0, 0, 0]], dtype=np.float32),
        left=np.array([[1, 3, 2, 3, 4], [1, 1, 2, 3, 4]], dtype=np.int32),
        right=np.array([[2, 4, 2, 3, 4], [2, 1, 2, 3, 4]], dtype=np.int32),
        value=np.array([[0, 0, 10.0, 1.0, 2.0], [0, 0.25, 0.5, 0, 0]], dtype=np.float32),
        depth=2,
    )
    assert trees.logit(np.array([0.5, 1.0], dtype=np.float32)) == 1.25
    assert trees.logit(np.array([0.5, 3.0], dtype=np.float32)) == 2.5
    assert trees.logit(np.array([0.6, 1.0], dtype=np.float32)) == 10.25


@needs_model
def test_judgements_that_are_asked_for_at_once_are_what_they_are_alone() -> None:
    async def run() -> None:
        model = LocalModel(FOUND or Path())
        verifier = LocalVerifier(model)
        try:
            alone = [await verifier.judge(asked, [Neighbour(text=cached, cosine=0.9)]) for cached, asked in SAME]
            at_once = await asyncio.gather(
                *[verifier.judge(asked, [Neighbour(text=cached, cosine=0.9)]) for cached, asked in SAME]
            )
            assert [each[0].score for each in alone] == pytest.approx([each[0].score for each in at_once], abs=1e-3)
            assert await verifier.judge("anything", []) == ()
        finally:
            await model.close()

    asyncio.run(run())
