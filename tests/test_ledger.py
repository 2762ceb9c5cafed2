"""The ledger: what it is told it adds up, everything it has a name for is always there, and it claims nothing else."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.accounts.books import OTHER
from proxy.accounts.latency import Latency
from proxy.accounts.ledger import Ledger
from proxy.accounts.receipts import Bill, Receipt
from proxy.accounts.usage import Method, Usage
from proxy.model import CutOff, Key, Outcome, Reason, Unkept
from tests.receipts import COST, TEN, fetch, receipt

COUNTERS = {
    Outcome.HIT: "hits",
    Outcome.JOINED: "joined",
    Outcome.MISS: "misses",
    Outcome.BYPASS: "bypassed",
    Outcome.ERROR: "errors",
}
NONE = {"input": 0, "output": 0, "answers": 0, "usd": "0", "usd_list": "0", "unpriced": 0, "lower_bounds": 0}


def sums(**more: Any) -> dict[str, Any]:
    """What stands below ``spent`` or ``saved`` where nothing but *more* was counted."""
    usual = {"input": 0, "output": 0, "answers": 0, "without_usage": 0, "usd": "0", "usd_list": "0", "unpriced": 0}
    return {**usual, "counted": NONE, "estimated": NONE, **more}


def shown(ledger: Ledger) -> Any:
    """What the ledger shows, as a reader of the JSON sees it."""
    return json.loads(json.dumps(ledger.shown()))


def numbers(value: object, path: str = "") -> Iterator[tuple[str, float]]:
    """Every number in *value* and where it stands."""
    if isinstance(value, Mapping):
        for name, member in value.items():
            yield from numbers(member, f"{path}.{name}")
    elif isinstance(value, int | float):
        yield path, value


# --- every counter ---------------------------------------------------------------------------------------------------


def test_every_counter_is_there_before_anything_happened_and_is_zero() -> None:
    fresh = shown(Ledger(now=lambda: 1_760_000_000.0))
    assert {path: number for path, number in numbers(fresh) if number != 0} == {}
    assert {fresh["tokens"][kind][name] for kind in ("spent", "saved") for name in ("usd", "usd_list")} == {"0"}
    assert list(fresh["reasons"]) == [str(reason) for reason in Reason]
    assert list(fresh["unkept"]) == [str(unkept) for unkept in Unkept]
    assert list(fresh["latency_ms"]) == list(fresh["first_byte_ms"]) == [str(outcome) for outcome in Outcome]
    assert {name: fresh[name] for name in COUNTERS.values()} == dict.fromkeys(COUNTERS.values(), 0)


def test_nothing_that_happens_adds_or_removes_a_counter() -> None:
    ledger = Ledger()
    before = {path for path, _ in numbers(shown(ledger))}
    for outcome in Outcome:
        ledger.record(receipt(outcome, saved=TEN))
    ledger.fetched(fetch(repeatable_key=Key("k")))
    ledger.spared("gpt", TEN)
    ledger.forwarded()
    after = {path for path, _ in numbers(shown(ledger))}
    assert {path for path in after if not path.startswith(".models")} == before
    assert any(path.startswith(".models.gpt") for path in after)


def test_the_times_come_from_the_clock() -> None:
    moments = iter([1_760_000_000.0, 1_760_000_090.5])
    fresh = shown(Ledger(now=lambda: next(moments)))
    assert (fresh["since"], fresh["uptime_s"]) == ("2025-10-09T08:53:20Z", 90.5)


def test_a_ledger_tells_its_story() -> None:
    ledger = Ledger()
    ledger.record(receipt())
    ledger.fetched(fetch())
    assert repr(ledger) == "<Ledger, 1 calls, 1 fetches>"


# --- calls -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", Outcome)
def test_each_outcome_has_its_counter(outcome: Outcome) -> None:
    ledger = Ledger()
    ledger.record(receipt(outcome))
    counted = shown(ledger)
    assert {name: counted[name] for name in COUNTERS.values()} == {
        name: int(name == COUNTERS[outcome]) for name in COUNTERS.values()
    }
    assert counted["requests"] == 1
    assert counted["latency_ms"][outcome]["count"] == counted["first_byte_ms"][outcome]["count"] == 1


RECEIPTS = st.builds(
    receipt,
    st.sampled_from(Outcome),
    reason=st.sampled_from(Reason),
    model=st.sampled_from(["a", "b", "c", "d", ""]),
    status=st.sampled_from([0, 200, 404, 502]),
    bytes_in=st.integers(0, 10**9),
    bytes_out=st.integers(0, 10**9),
    total_s=st.floats(0, 1e4),
    cut=st.sampled_from(CutOff),
    saved=st.sampled_from([None, TEN]),
)


@given(receipts=st.lists(RECEIPTS, max_size=40), max_models=st.integers(1, 5))
def test_outcomes_reasons_and_models_each_add_up_to_the_requests(receipts: list[Receipt], max_models: int) -> None:
    ledger = Ledger(max_models=max_models)
    for each in receipts:
        ledger.record(each)
    counted = shown(ledger)
    assert counted["requests"] == len(receipts) == sum(counted[name] for name in COUNTERS.values())
    assert sum(counted["reasons"].values()) == len(receipts)
    for name in ("requests", *COUNTERS.values()):
        assert sum(model[name] for model in counted["models"].values()) == counted[name]
    for part in ("input", "output", "answers", "without_usage"):
        assert (
            sum(model["tokens"]["saved"][part] for model in counted["models"].values())
            == (counted["tokens"]["saved"][part])
        )
    assert counted["bytes"]["from_clients"] == sum(each.bytes_in for each in receipts)
    assert counted["bytes"]["to_clients"] == sum(each.bytes_out for each in receipts)
    assert counted["clients_left"] == sum(each.cut is CutOff.CLIENT_LEFT for each in receipts)
    assert sum(each["count"] for each in counted["latency_ms"].values()) == len(receipts)
    assert sum(each["count"] for each in counted["first_byte_ms"].values()) == sum(each.status > 0 for each in receipts)


def test_the_first_byte_of_a_reply_that_never_began_is_not_timed() -> None:
    ledger = Ledger()
    ledger.record(receipt(first_s=0.2))
    ledger.record(receipt(status=0, first_s=0.0, total_s=5.0, cut=CutOff.CLIENT_LEFT))
    times = shown(ledger)["first_byte_ms"]["MISS"]
    assert (times["count"], times["mean"], times["p50"]) == (1, 200, 200)
    assert shown(ledger)["latency_ms"]["MISS"]["count"] == 2


def test_the_hit_rate_is_the_share_that_needed_no_fetch_of_its_own() -> None:
    ledger = Ledger()
    for outcome in (Outcome.HIT, Outcome.JOINED, Outcome.MISS, Outcome.BYPASS, Outcome.ERROR, Outcome.MISS):
        ledger.record(receipt(outcome))
    assert shown(ledger)["hit_rate"] == 0.3333


def test_forwarded_calls_stand_apart() -> None:
    ledger = Ledger()
    ledger.forwarded()
    ledger.forwarded()
    counted = shown(ledger)
    assert (counted["forwarded"], counted["requests"], counted["models"]) == (2, 0, {})


def test_a_call_like_an_earlier_one_counts_like_it_in_its_own_time() -> None:
    once, again = Ledger(), Ledger()
    hit = receipt(Outcome.HIT, saved=TEN, saved_s=2.0, first_s=0.25, total_s=0.25)
    once.record(hit)
    again.again(receipt(Outcome.HIT, saved=TEN, saved_s=2.0, first_s=9.0, total_s=9.0), seconds=0.25)
    one, other = dict(shown(once)), dict(shown(again))
    for moment in ("since", "uptime_s"):
        del one[moment], other[moment]
    assert one == other


# --- savings ---------------------------------------------------------------------------------------------------------


def test_a_hit_that_was_delivered_saves_what_its_answer_had_cost() -> None:
    ledger = Ledger()
    ledger.record(receipt(Outcome.HIT, saved=TEN, saved_cost=COST, saved_s=2.0, total_s=0.5))
    counted = shown(ledger)
    assert counted["tokens"]["saved"] == sums(input=8, output=2, answers=1, usd="3", usd_list="4")
    assert counted["models"]["gpt"]["tokens"]["saved"] == counted["tokens"]["saved"]
    assert counted["time_saved_s"] == 1.5


@pytest.mark.parametrize("cut", [CutOff.CLIENT_LEFT, CutOff.BROKE_OFF])
def test_a_hit_that_was_not_delivered_saves_nothing(cut: CutOff) -> None:
    ledger = Ledger()
    ledger.record(receipt(Outcome.HIT, saved=TEN, saved_s=2.0, cut=cut))
    counted = shown(ledger)
    assert counted["tokens"]["saved"]["answers"] == 0
    assert counted["tokens"]["saved"]["input"] == 0
    assert counted["time_saved_s"] == 0


@pytest.mark.parametrize("outcome", [Outcome.MISS, Outcome.BYPASS, Outcome.ERROR, Outcome.JOINED])
def test_no_other_outcome_saves_by_its_receipt(outcome: Outcome) -> None:
    ledger = Ledger()
    ledger.record(receipt(outcome, saved=TEN, saved_s=2.0))
    assert shown(ledger)["tokens"]["saved"]["answers"] == 0
    assert shown(ledger)["time_saved_s"] == 0


def test_a_hit_slower_than_the_provider_was_takes_no_time_back() -> None:
    ledger = Ledger()
    ledger.record(receipt(Outcome.HIT, saved=TEN, saved_s=2.0, total_s=0.5))
    ledger.record(receipt(Outcome.HIT, saved=TEN, saved_s=0.5, total_s=2.0))
    assert shown(ledger)["time_saved_s"] == 1.5


def test_an_answer_without_usage_is_counted_as_such() -> None:
    ledger = Ledger()
    ledger.record(receipt(Outcome.HIT, saved=None))
    ledger.fetched(fetch(usage=None))
    empty = sums(answers=1, without_usage=1)
    told = shown(ledger)["tokens"]
    assert (told["spent"], told["saved"]) == (empty, empty)
    assert told["coverage"]["sentence"] == "no tokens saved yet; 1 answer of unknown length"


def test_a_call_that_joined_is_spared_the_cost_of_the_fetch() -> None:
    ledger = Ledger()
    ledger.record(receipt(Outcome.JOINED))
    ledger.spared("gpt", TEN, COST)
    counted = shown(ledger)
    assert counted["tokens"]["saved"] == sums(input=8, output=2, answers=1, usd="3", usd_list="4")
    assert counted["models"]["gpt"]["tokens"]["saved"] == counted["tokens"]["saved"]


# --- fetches ---------------------------------------------------------------------------------------------------------


def test_a_fetch_spends_what_the_provider_billed() -> None:
    ledger = Ledger()
    ledger.fetched(fetch(cost=COST))
    ledger.fetched(fetch(model="other", bytes_in=500))
    counted = shown(ledger)
    assert (counted["fetches"], counted["kept"], counted["bytes"]["from_upstream"]) == (2, 2, 1500)
    assert counted["tokens"]["spent"] == sums(input=16, output=4, answers=2, usd="3", usd_list="4", unpriced=1)
    assert counted["models"]["other"]["tokens"]["spent"]["input"] == 8
    assert counted["requests"] == 0


@pytest.mark.parametrize("status", [None, 400, 429, 500])
def test_a_fetch_that_failed_spends_nothing(status: int | None) -> None:
    ledger = Ledger()
    ledger.fetched(fetch(status=status, kept=False, unkept=Unkept.STATUS, usage=TEN))
    counted = shown(ledger)
    assert (counted["fetches"], counted["kept"], counted["unkept"]["status"]) == (1, 0, 1)
    assert counted["tokens"]["spent"]["answers"] == 0


@pytest.mark.parametrize("unkept", Unkept)
def test_each_reason_not_to_keep_has_its_counter(unkept: Unkept) -> None:
    ledger = Ledger()
    ledger.fetched(fetch(kept=False, unkept=unkept))
    counted = shown(ledger)
    assert {name: count for name, count in counted["unkept"].items() if count} == {str(unkept): 1}
    assert counted["kept"] == 0


def test_an_answer_that_the_plan_had_ruled_out_is_neither_kept_nor_unkept() -> None:
    ledger = Ledger()
    ledger.fetched(fetch(kept=False, unkept=None))
    counted = shown(ledger)
    assert (counted["fetches"], counted["kept"], sum(counted["unkept"].values())) == (1, 0, 0)


# --- how figures are known -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [Method.COUNTED, Method.ESTIMATED])
def test_what_was_counted_later_stands_apart_and_adds_no_answer(method: Method) -> None:
    ledger = Ledger()
    late = Usage(input_tokens=8, output_tokens=2, method=method, lower_bound=True)
    ledger.fetched(fetch(usage=None))
    ledger.spared("gpt", None)
    ledger.counted_fetch("gpt", late, COST)
    ledger.counted_spared("gpt", late, None)
    one = {**NONE, "input": 8, "output": 2, "answers": 1, "lower_bounds": 1}
    told = shown(ledger)
    for tokens in (told["tokens"], told["models"]["gpt"]["tokens"]):
        paid = {str(method): {**one, "usd": "3", "usd_list": "4"}}
        assert tokens["spent"] == sums(answers=1, without_usage=1, **paid)
        assert tokens["saved"] == sums(answers=1, without_usage=1, **{str(method): {**one, "unpriced": 1}})


def test_a_hit_of_an_answer_that_was_counted_is_counted() -> None:
    ledger = Ledger()
    ledger.record(receipt(Outcome.HIT, saved=replace(TEN, method=Method.COUNTED), saved_cost=COST))
    counted = {**NONE, "input": 8, "output": 2, "answers": 1, "usd": "3", "usd_list": "4"}
    assert shown(ledger)["tokens"]["saved"] == sums(answers=1, without_usage=1, counted=counted)


def test_coverage_tells_how_the_saved_tokens_are_known() -> None:
    ledger = Ledger(prices_as_of="2026-11-01")
    for method, tokens in ((Method.MEASURED, 920), (Method.COUNTED, 70), (Method.ESTIMATED, 10)):
        cost = COST if method is Method.MEASURED else None
        ledger.record(receipt(Outcome.HIT, saved=Usage(input_tokens=tokens, method=method), saved_cost=cost))
    told = shown(ledger)["tokens"]["coverage"]
    assert told == {
        "measured": 0.92,
        "counted": 0.07,
        "estimated": 0.01,
        "sentence": "92 % of saved tokens measured, 7 % counted, 1 % estimated; 2 answers unpriced; "
        "prices as of 2026-11-01",
    }


@pytest.mark.parametrize(("measured", "said"), [(10**6 - 1, "over 99.9 %"), (1, "under 0.1 %")])
def test_coverage_never_rounds_to_all_or_nothing(measured: int, said: str) -> None:
    ledger = Ledger()
    for method, tokens in ((Method.MEASURED, measured), (Method.COUNTED, 10**6 - measured)):
        ledger.record(receipt(Outcome.HIT, saved=Usage(input_tokens=tokens, method=method)))
    assert shown(ledger)["tokens"]["coverage"]["sentence"].startswith(f"{said} of saved tokens measured")


def test_an_opportunity_has_its_dollars() -> None:
    ledger = Ledger()
    for cost in (COST, COST, None):
        ledger.fetched(fetch(kept=False, repeatable_key=Key("k"), cost=cost))
    assert shown(ledger)["opportunity"]["usd"] == "3"
    assert shown(ledger)["opportunity"]["unpriced"] == 1


# --- the last requests -----------------------------------------------------------------------------------------------


def test_the_last_requests_come_newest_first_and_are_bounded() -> None:
    ledger = Ledger(max_requests=2, now=lambda: 1_760_000_000.0)
    for model in ("a", "b", "c"):
        ledger.record(receipt(model=model))
    assert [row["model"] for row in ledger.recent()] == ["c", "b"]
    none = Ledger(max_requests=0)
    none.record(receipt())
    assert none.recent() == []


def test_a_request_is_told_without_its_texts() -> None:
    ledger = Ledger(now=lambda: 1_760_000_000.0)
    bill = Bill()
    ledger.record(receipt(tag="batch", key=Key("0123456789abcdef" * 4), bill=bill))
    expected = {
        "time": "2025-10-09T08:53:20Z",
        "model": "gpt",
        "client": "",
        "team": "",
        "tag": "batch",
        "outcome": "MISS",
        "reason": "not_found",
        "tier": "",
        "status": 200,
        "key": "0123456789abcdef",
        "latency_ms": 500.0,
        "first_byte_ms": 100.0,
        "cut": "delivered",
        "tokens": None,
        "usd": None,
        "counts_as": "spent",
    }
    assert ledger.recent() == [expected]
    bill.settle(TEN, COST)
    tokens = {"input": 8, "output": 2, "method": "measured"}
    assert ledger.recent() == [{**expected, "tokens": tokens, "usd": "3"}]


def test_a_hit_tells_what_it_saved_and_one_that_was_cut_saved_nothing() -> None:
    ledger = Ledger()
    for cut in (CutOff.DELIVERED, CutOff.CLIENT_LEFT):
        ledger.record(receipt(Outcome.HIT, saved=TEN, saved_cost=COST, cut=cut))
    assert [(row["usd"], row["counts_as"]) for row in ledger.recent()] == [(None, "saved"), ("3", "saved")]


# --- what it remembers is bounded ------------------------------------------------------------------------------------


def test_models_beyond_the_limit_are_counted_together() -> None:
    ledger = Ledger(max_models=2)
    for model in ("a", "b", "c", "d", "a"):
        ledger.record(receipt(model=model))
        ledger.fetched(fetch(model=model))
        ledger.spared(model, TEN)
    models = shown(ledger)["models"]
    assert {name: model["requests"] for name, model in models.items()} == {"a": 2, "b": 1, OTHER: 2}
    for part in ("spent", "saved"):
        counted = {name: model["tokens"][part]["answers"] for name, model in models.items()}
        assert counted == {"a": 2, "b": 1, OTHER: 2}


def test_any_number_of_models_takes_bounded_room() -> None:
    ledger = Ledger(max_models=10)
    for number in range(1000):
        ledger.record(receipt(model=f"model-{number}"))
        ledger.fetched(fetch(model=f"fetched-{number}"))
    assert len(shown(ledger)["models"]) == 11
    assert sum(model["requests"] for model in shown(ledger)["models"].values()) == 1000


def seen(ledger: Ledger, *keys: str, usage: Usage | None = TEN) -> int:
    """How many of *keys*, fetched one after the other, were repeats of what the gate had refused."""
    before = shown(ledger)["opportunity"]["repeats"]
    for key in keys:
        ledger.fetched(fetch(kept=False, repeatable_key=Key(key), usage=usage))
    repeats: int = shown(ledger)["opportunity"]["repeats"] - before
    return repeats


def test_only_repeats_are_a_missed_opportunity() -> None:
    ledger = Ledger()
    assert seen(ledger, "a", "b", "c") == 0
    assert seen(ledger, "a", "a", "b") == 3
    assert shown(ledger)["opportunity"]["tokens"] == {"input": 24, "output": 6}


def test_a_repeat_without_usage_is_counted_without_tokens() -> None:
    ledger = Ledger()
    assert seen(ledger, "a", "a", usage=None) == 1
    assert shown(ledger)["opportunity"]["tokens"] == {"input": 0, "output": 0}


def test_what_may_not_be_repeated_is_no_opportunity() -> None:
    ledger = Ledger()
    for _ in range(3):
        ledger.fetched(fetch(kept=False, repeatable_key=None))
    assert shown(ledger)["opportunity"]["repeats"] == 0


def test_the_oldest_opportunity_is_forgotten_first_and_a_repeat_renews_it() -> None:
    ledger = Ledger(max_opportunities=2)
    assert seen(ledger, "a", "b") == 0
    assert seen(ledger, "a") == 1
    assert seen(ledger, "c") == 0
    assert seen(ledger, "b") == 0, "the oldest was b"
    assert seen(ledger, "c") == 1


# --- latencies -------------------------------------------------------------------------------------------------------

SECONDS = st.one_of(st.floats(1e-6, 1e5), st.floats(1e-6, 1e-3), st.floats(0.001, 10))


@given(seconds=st.lists(SECONDS, min_size=1, max_size=200), share=st.floats(0.001, 1))
def test_a_percentile_is_right_to_twenty_per_cent(seconds: list[float], share: float) -> None:
    latency = Latency()
    for each in seconds:
        latency.add(each)
    exact = sorted(seconds)[math.ceil(share * len(seconds)) - 1]
    assert exact * (1 - 1e-9) <= latency.percentile(share) <= exact * 1.2 * (1 + 1e-9)
    assert latency.percentile(share) <= max(seconds)


@given(seconds=st.lists(SECONDS, min_size=1, max_size=50))
def test_percentiles_are_in_order(seconds: list[float]) -> None:
    latency = Latency()
    for each in seconds:
        latency.add(each)
    figures = latency.shown()
    assert figures["p50"] <= figures["p90"] <= figures["p99"] <= figures["max"]
    assert figures["count"] == len(seconds)
    assert figures["mean"] == pytest.approx(sum(seconds) / len(seconds) * 1000, abs=0.001, rel=1e-6)
    assert figures["max"] == pytest.approx(max(seconds) * 1000, abs=0.001)


def test_without_a_call_every_figure_is_zero() -> None:
    assert set(Latency().shown().values()) == {0}


@pytest.mark.parametrize("seconds", [0.0, 1e-9, 1e9])
def test_times_beyond_every_class_are_counted_all_the_same(seconds: float) -> None:
    latency = Latency()
    latency.add(seconds)
    assert (latency.count, latency.percentile(0.5)) == (1, seconds)
