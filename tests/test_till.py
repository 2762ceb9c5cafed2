"""The till: what an answer costs at one upstream, now; nothing stands in for a price that is not published."""

from collections.abc import Mapping

import pytest

from proxy.accounts import money, till
from proxy.accounts.pricing import Prices
from proxy.accounts.till import Till
from proxy.accounts.usage import Usage

NOW = 1_790_000_000.0
OPENAI = "https://api.openai.com"
USAGE = Usage(input_tokens=1_000_000, output_tokens=1_000_000, cached_tokens=500_000)
OWN: Mapping[str, Mapping[str, object]] = {"mine*": {"input": 2, "output": 8, "cached": 1}}


def at(upstream: str = OPENAI, *, prices: Prices | None = None) -> Till:
    """A till for *upstream*."""
    return Till(prices or Prices(OWN), upstream=upstream)


def test_what_it_costs_is_net_and_by_the_list() -> None:
    cost = at().cost("mine-1", "", USAGE, NOW)
    assert cost is not None
    assert (money.text(cost.usd), money.text(cost.usd_list)) == ("9.5", "10")


def test_writing_to_a_prompt_cache_costs_more_than_the_list() -> None:
    own = {"m": {"input": 2, "cache_write": 3, "cache_write_1h": 4}}
    usage = Usage(input_tokens=1_000_000, cache_write_tokens=1_000_000, cache_write_1h_tokens=500_000)
    cost = at(prices=Prices(own)).cost("m", "", usage, NOW)
    assert cost is not None
    assert (money.text(cost.usd), money.text(cost.usd_list)) == ("3.5", "2")


@pytest.mark.parametrize(
    ("upstream", "model", "tier"),
    [
        (OPENAI, "no-such-model", ""),
        (OPENAI, "", ""),
        (OPENAI, "gpt-4o-mini", "no-such-tier"),
        ("http://127.0.0.1:8000", "gpt-4o-mini", ""),
    ],
)
def test_what_has_no_published_price_has_none(upstream: str, model: str, tier: str) -> None:
    assert at(upstream).cost(model, tier, USAGE, NOW) is None
    assert at(upstream).cost(model, tier, USAGE, NOW) is None


def test_without_tokens_there_is_no_cost() -> None:
    assert at().cost("gpt-4o-mini", "", None, NOW) is None


def test_a_flat_rate_costs_nothing_but_what_has_a_price_of_its_own() -> None:
    flat = at("http://127.0.0.1:8000", prices=Prices(OWN, marginal={}))
    free, own = flat.cost("llama", "", USAGE, NOW), flat.cost("mine", "", USAGE, NOW)
    assert free is not None
    assert own is not None
    assert (free.usd, free.usd_list, money.text(own.usd)) == (0, 0, "9.5")


def test_a_cost_is_remembered_within_its_minute_and_no_longer() -> None:
    here = at()
    first = here.cost("mine", "", USAGE, NOW)
    assert here.cost("mine", "", USAGE, NOW + 1) is first
    again = here.cost("mine", "", USAGE, NOW + 60)
    assert again == first
    assert again is not first


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(till, "REMEMBERED", 3)
    here = at()
    for tokens in range(20):
        here.cost("mine", "", Usage(input_tokens=tokens), NOW)
        assert len(here._known) <= 3


@pytest.mark.parametrize(
    ("upstream", "model", "listed"),
    [
        (OPENAI, "gpt-4o-mini", True),
        (OPENAI, "a name that somebody made up", False),
        (OPENAI, "mine-too", False),
        ("http://127.0.0.1:8000", "gpt-4o-mini", False),
    ],
)
def test_a_model_is_listed_by_name_and_not_by_a_pattern(upstream: str, model: str, listed: bool) -> None:
    assert at(upstream).listed(model) is listed


def test_a_price_of_ones_own_by_name_is_listed() -> None:
    assert at("http://127.0.0.1:8000", prices=Prices({"Llama": {"input": 1}}, marginal={})).listed("llama")


def test_a_till_tells_its_story() -> None:
    assert repr(at()).endswith(f"for {OPENAI}>")
    assert at().as_of.startswith("20")
