"""From which score on answers may be served, and the bars of the other policies."""

import json
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.semantic.bars import AdaptiveBar, CalibratedBar, FixedBar, Passage
from proxy.semantic.calibration import (
    EXPLORE_LATER,
    FADES_AT,
    FIRST_LABELS,
    MAX_LABELS,
    PRIOR_NEAR_MISSES,
    REFIT_EVERY,
    Calibration,
    Label,
    upper,
)

labels = st.builds(Label, score=st.floats(0, 1), right=st.booleans(), weight=st.sampled_from([1.0, 10.0, 40.0]))


def prior(right: int = 200, wrong: int = 200) -> list[Label]:
    """Development pairs that a score of one half tells apart but for one in fifty."""
    good = [Label(score=0.5 + 0.5 * at / right, right=True) for at in range(right)]
    return good + [Label(score=(0.9 if at % 50 == 49 else 0.5 * at / wrong), right=False) for at in range(wrong)]


def fresh(limit: float = 0.02, judge_error: float = 0.0) -> Calibration:
    return Calibration(prior(), limit=limit, judge_error=judge_error)


def test_it_serves_from_the_first_day_by_what_it_was_developed_on() -> None:
    calibration = fresh(limit=0.05)
    assert 0.1 < calibration.threshold < 0.7
    assert 0 < calibration.bound <= 0.05


def test_a_stricter_limit_serves_less() -> None:
    assert fresh(limit=0.02).threshold > fresh(limit=0.05).threshold > fresh(limit=0.2).threshold


def test_without_anything_known_nothing_is_served() -> None:
    assert Calibration([], limit=0.02, judge_error=0.0).threshold == math.inf


def test_right_answers_alone_open_it_where_nothing_was_known() -> None:
    calibration = Calibration([], limit=0.02, judge_error=0.0)
    for _ in range(5 * REFIT_EVERY):
        calibration.add(Label(score=0.8, right=True))
    assert calibration.threshold == 0.8


def test_what_goes_wrong_here_raises_the_threshold_at_once() -> None:
    calibration = fresh(limit=0.05)
    before = calibration.threshold
    assert calibration.add(Label(score=before, right=False))
    for _ in range(20):
        calibration.add(Label(score=0.99, right=False))
    assert calibration.threshold > 0.99


def test_a_limit_of_nothing_serves_nothing() -> None:
    assert fresh(limit=0.0).threshold == math.inf


def test_the_error_of_the_judge_is_taken_off_what_was_seen_and_not_off_the_prior() -> None:
    strict, fair = fresh(), fresh(judge_error=0.01)
    assert strict.threshold == fair.threshold
    for at in range(400):
        label = Label(score=0.95, right=at % 100 != 0)
        strict.add(label)
        fair.add(label)
    strict.fit()
    fair.fit()
    assert fair.bound < strict.bound or fair.threshold < strict.threshold


@given(st.lists(labels, max_size=80), st.sampled_from([0.005, 0.02, 0.1]))
def test_at_the_threshold_the_bound_holds_and_counts_everything_above_it(
    given_labels: list[Label], limit: float
) -> None:
    calibration = Calibration(prior(40, 40), limit=limit, judge_error=0.0)
    for label in given_labels:
        calibration.add(label)
    calibration.fit()
    if math.isinf(calibration.threshold):
        return
    believed = 400 * (1 - PRIOR_NEAR_MISSES) / 40, 400 * PRIOR_NEAR_MISSES / 40
    pairs = [label for label in prior(40, 40) if label.score >= calibration.threshold]
    above = [label for label in given_labels if label.score >= calibration.threshold]
    mass, squares = sum(label.weight for label in above), sum(label.weight**2 for label in above)
    count = mass**2 / squares if above else 0.0
    fading = FADES_AT / (FADES_AT + count)
    weight = sum(believed[not pair.right] for pair in pairs) * fading + count
    wrong = sum(believed[1] for pair in pairs if not pair.right) * fading
    if above:
        wrong += count * sum(label.weight for label in above if not label.right) / mass
    assert upper(wrong / weight, weight**2 / count if count else math.inf) == pytest.approx(calibration.bound)
    assert calibration.bound <= limit


def test_a_prior_that_promised_too_much_gives_way_to_what_is_seen() -> None:
    # A pair is right with the chance that is its score: an eighth of what the prior would serve is wrong.
    chance = random.Random(7)
    calibration = Calibration(prior(), limit=0.05, judge_error=0.0)
    assert calibration.threshold < 0.45
    served = wrong = 0
    for at in range(20_000):
        score = chance.random() ** 0.3
        right = chance.random() < score
        if score < calibration.threshold:
            calibration.add(Label(score=score, right=right))
        elif chance.random() < calibration.exploring:
            calibration.add(Label(score=score, right=right, weight=1 / calibration.exploring))
            calibration.explored += 1
        elif at > 8000:
            served += 1
            wrong += not right
    assert calibration.threshold > 0.75
    assert wrong / max(1, served) < 0.1


def test_one_label_that_stands_for_ten_tells_no_more_than_one() -> None:
    light, heavy = fresh(limit=0.1), fresh(limit=0.1)
    light.add(Label(score=0.99, right=False, weight=1.0))
    heavy.add(Label(score=0.99, right=False, weight=10.0))
    assert light.threshold == heavy.threshold


def test_exploring_is_frequent_at_first() -> None:
    calibration = fresh()
    first = calibration.exploring
    calibration.explored = FIRST_LABELS
    assert calibration.exploring == EXPLORE_LATER < first


def test_old_labels_are_forgotten() -> None:
    calibration = fresh()
    for _ in range(4 * MAX_LABELS + 2000):
        calibration.add(Label(score=0.1, right=False))
    assert calibration.labels == MAX_LABELS


@given(st.lists(labels, max_size=30))
def test_what_was_learned_is_the_same_after_it_was_written_down(given_labels: list[Label]) -> None:
    one, other = fresh(), fresh()
    for label in given_labels:
        one.add(Label(score=round(label.score, 5), right=label.right, weight=label.weight))
    one.served(0.7)
    one.fit()
    other.restore(json.loads(json.dumps(one.dumped())))
    assert other.shown() == one.shown()


STEPS = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(["learn", "serve", "explore", "read", "write", "fail"])), max_size=60
)


@given(STEPS)
def test_what_several_learn_adds_up_in_whatever_order_they_read_and_write(steps: list[tuple[int, str]]) -> None:
    workers = [Calibration([], limit=0.02, judge_error=0.0) for _ in range(3)]
    kept = "{}"
    counts = {"learn": 0, "serve": 0, "explore": 0}

    def write(worker: Calibration) -> str:
        worker.restore(json.loads(kept))
        dumped = json.dumps(worker.dumped())
        worker.written()
        return dumped

    for at, (who, step) in enumerate(steps):
        worker = workers[who]
        counts[step] = counts.get(step, 0) + 1
        match step:
            case "learn":
                worker.add(Label(score=at / 100, right=True))
            case "serve":
                worker.served(0.5)
            case "explore":
                worker.explored += 1
            case "read":
                worker.restore(json.loads(kept))
            case "write":
                kept = write(worker)
            case _:
                # It was to be written down, and could not be.
                worker.dumped()
    for worker in workers:
        kept = write(worker)
    for worker in workers:
        worker.restore(json.loads(kept))
        shown = worker.shown()
        assert (shown["served"], worker.labels, worker.explored) == (
            counts["serve"],
            counts["learn"],
            counts["explore"],
        )
        assert shown == workers[0].shown()


@pytest.mark.parametrize(
    "dumped",
    [
        None,
        [],
        "x",
        {},
        {"labels": [[1], [0.5, 1, 1], ["a", True, 1], [0.5, True, 0]]},
        {"labels": None, "served": [1]},
    ],
)
def test_what_cannot_be_read_is_left_out(dumped: object) -> None:
    calibration = fresh()
    calibration.restore(dumped)
    assert calibration.shown() == fresh().shown()


def test_the_curve_shows_the_prior_and_the_labels_by_score() -> None:
    calibration = fresh()
    calibration.add(Label(score=0.97, right=False))
    shown = calibration.shown()
    curve = shown["curve"]
    assert isinstance(curve, list)
    assert curve[-1]["wrong"] == 1.0
    assert sum(band["right"] + band["wrong"] for band in curve) == pytest.approx(401, abs=2)


def test_the_fixed_bar_is_where_it_is() -> None:
    bar = FixedBar(0.95)
    assert [bar.passes("plain", score, 0.0) for score in (0.9499, 0.95)] == [Passage.REFUSE, Passage.SERVE]
    bar.judged("plain", 0.99, right=False)
    assert bar.shown()["threshold"] == 0.95


def adaptive() -> AdaptiveBar:
    """As the guide has it."""
    return AdaptiveBar(0.95, least=0.90, most=0.99, step=0.01)


def heard(bar: AdaptiveBar, verdicts: str) -> float:
    for verdict in verdicts:
        bar.judged("plain", 0.96, right=verdict == "+")
    return round(bar.threshold, 6)


def test_the_adaptive_bar_waits_for_ten_verdicts() -> None:
    assert heard(adaptive(), "+" * 9) == 0.95
    assert heard(adaptive(), "-" * 9) == 0.95


def test_the_adaptive_bar_comes_down_a_step_at_each_verdict_while_nearly_all_are_good() -> None:
    assert heard(adaptive(), "+" * 10) == 0.94
    assert heard(adaptive(), "+" * 12) == 0.92
    assert heard(adaptive(), "+" * 50) == 0.90


def test_the_adaptive_bar_rises_a_step_at_each_verdict_while_too_many_are_bad() -> None:
    assert heard(adaptive(), "+" * 9 + "-") == 0.96
    assert heard(adaptive(), "-" * 50) == 0.99


def test_the_adaptive_bar_rests_between_its_two_bounds() -> None:
    # 97 of 100: neither below 0.95 nor above 0.99.
    bar = adaptive()
    heard(bar, "-" * 3 + "+" * 97)
    before = bar.threshold
    assert bar.accuracy == 0.97
    bar.judged("plain", 0.96, right=True)
    assert bar.accuracy == 0.98
    assert bar.threshold == before


def test_the_adaptive_bar_forgets_verdicts_after_a_hundred() -> None:
    bar = adaptive()
    heard(bar, "-" * 100)
    heard(bar, "+" * 100)
    assert bar.accuracy == 1.0


@given(st.text("+-", max_size=300))
def test_the_adaptive_bar_stays_within_its_bounds_and_does_as_the_guide_does(verdicts: str) -> None:
    bar, threshold, buffer = adaptive(), 0.95, []
    for verdict in verdicts:
        bar.judged("plain", 0.96, right=verdict == "+")
        buffer.append(verdict == "+")
        if len(buffer) > 100:
            buffer.pop(0)
        if len(buffer) >= 10:
            accuracy = sum(buffer) / len(buffer)
            if accuracy < 0.95:
                threshold = min(0.99, threshold + 0.01)
            elif accuracy > 0.99:
                threshold = max(0.90, threshold - 0.01)
    assert bar.threshold == threshold


def test_what_the_adaptive_bar_has_learned_outlives_it() -> None:
    one, other = adaptive(), adaptive()
    heard(one, "+" * 12)
    other.restore(json.loads(json.dumps(one.dumped())))
    assert other.shown() == one.shown()


def test_verdicts_of_several_adaptive_bars_count_as_those_of_one() -> None:
    one, other, alone = adaptive(), adaptive(), adaptive()
    for verdict in "++++++++-+++-++++++":
        heard(alone, verdict)
    heard(one, "++++++++-")
    kept = json.loads(json.dumps(one.dumped()))
    one.written()
    heard(other, "+++-++++++")
    other.restore(kept)
    assert other.shown() == alone.shown()
    kept = json.loads(json.dumps(other.dumped()))
    other.written()
    one.restore(kept)
    assert one.shown() == other.shown()


def calibrated(*, explores: bool = True) -> CalibratedBar:
    return CalibratedBar(lambda: fresh(limit=0.05), ("plain", "dialogue", "tools"), explores=explores)


def test_the_calibrated_bar_explores_a_few_of_those_that_it_could_serve() -> None:
    bar = calibrated()
    assert bar.passes("plain", 0.99, 0.5) is Passage.SERVE
    assert bar.passes("plain", 0.99, 0.05) is Passage.EXPLORE
    assert bar.passes("plain", 0.01, 0.05) is Passage.REFUSE
    assert calibrated(explores=False).passes("plain", 0.99, 0.05) is Passage.SERVE


def test_the_levels_are_what_is_shown_of_each_class() -> None:
    bar = calibrated()
    for at in range(50):
        bar.compared("plain", 0.9, right=at % 10 != 0, explored=False)
        bar.served("plain", 0.99)
    plain, dialogue, _ = bar.levels()
    assert (plain.kind, plain.right, plain.wrong, plain.served) == ("plain", 45, 5, 50)
    assert dialogue.bound is not None
    assert dialogue.bound <= 0.05
    assert (dialogue.right, dialogue.served) == (0, 0)
    adapted = adaptive()
    heard(adapted, "++-")
    (level,) = adapted.levels()
    assert (level.threshold, level.right, level.wrong, level.bound) == (0.95, 2, 1, None)


def test_classes_of_scopes_learn_apart() -> None:
    bar = calibrated()
    for _ in range(40):
        bar.judged("dialogue", 0.99, right=False)
    assert not bar.stands("dialogue", 0.99)
    assert bar.stands("plain", 0.99)
