"""Money: exact, dated, per tier; the operator's own prices first; nothing made up for what nobody has a price for."""

import dataclasses
import json
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path

import pytest
from genai_prices import Usage as TheirUsage
from genai_prices.data_snapshot import get_snapshot
from hypothesis import given
from hypothesis import strategies as st

from proxy.accounts.pricing import FREE, Price, Prices, Rate
from proxy.accounts.usage import Usage, read_usage

OPENAI = "https://api.openai.com/v1"
NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
MILLION = 1_000_000


@pytest.fixture(scope="module")
def prices() -> Prices:
    return Prices()


def rate(dollars: str) -> Rate:
    return Rate(Decimal(dollars))


def priced(price: Price | None) -> Price:
    assert price is not None
    return price


def test_a_known_model_costs_its_list_price(prices: Prices) -> None:
    price = priced(prices.price(OPENAI, "gpt-4o-2024-08-06", "default", NOW))
    assert price.cost(Usage(input_tokens=1000, output_tokens=100)) == Decimal("0.0035")


def test_cached_input_is_cheaper(prices: Prices) -> None:
    price = priced(prices.price(OPENAI, "gpt-4o", None, NOW))
    assert price.cost(Usage(input_tokens=1000, cached_tokens=400)) == Decimal("0.0020")


def test_an_upstream_is_recognised_by_name_and_by_address(prices: Prices) -> None:
    by_name = prices.price("openai", "gpt-4o", None, NOW)
    assert by_name == prices.price(OPENAI, "gpt-4o", None, NOW) == prices.price(OPENAI, "GPT-4o", "auto", NOW)
    assert by_name is not None


def test_azure_falls_back_to_the_list_of_openai(prices: Prices) -> None:
    assert prices.price("https://acme.openai.azure.com", "gpt-4o", None, NOW) is not None


def test_a_fallback_list_says_nothing_of_tiers(prices: Prices) -> None:
    assert prices.price(OPENAI, "gpt-5", "flex", NOW) is not None
    assert prices.price("https://acme.openai.azure.com", "gpt-4.5-preview-2025-02-27", "flex", NOW) is None


@pytest.mark.parametrize(
    ("upstream", "model", "tier"),
    [
        (OPENAI, "gpt-nonesuch", None),
        (OPENAI, "", None),
        ("http://127.0.0.1:8000", "gpt-4o", None),
        ("", "gpt-4o", None),
        (OPENAI, "gpt-3.5-turbo", "priority"),
        (OPENAI, "gpt-4o", "a-tier-of-tomorrow"),
    ],
)
def test_what_has_no_price_is_unpriced(prices: Prices, upstream: str, model: str, tier: str | None) -> None:
    assert prices.price(upstream, model, tier, NOW) is None


def test_a_service_tier_has_its_own_price(prices: Prices) -> None:
    standard = priced(prices.price(OPENAI, "gpt-5.4", "default", NOW))
    flex = priced(prices.price(OPENAI, "gpt-5.4", "flex", NOW))
    priority = priced(prices.price(OPENAI, "gpt-5.4", "priority", NOW))
    batch = priced(prices.price(OPENAI, "gpt-5.4", "batch", NOW))
    assert flex.input.base < standard.input.base < priority.input.base
    assert batch.output.base < standard.output.base


def test_a_long_prompt_costs_more_from_the_first_token(prices: Prices) -> None:
    price = priced(prices.price(OPENAI, "gpt-5.4", None, NOW))
    (start, dearer), *_ = price.input.steps
    assert price.cost(Usage(input_tokens=start)) == price.input.base * start / MILLION
    assert price.cost(Usage(input_tokens=start + 1)) == dearer * (start + 1) / MILLION


def test_a_compact_date_is_understood(prices: Prices) -> None:
    dated = prices.price(OPENAI, "gpt-5.2-20251211", None, NOW)
    assert dated is not None
    assert dated == prices.price(OPENAI, "gpt-5.2-2025-12-11", None, NOW)


def test_anthropic_writes_cost_more_and_reads_less(prices: Prices) -> None:
    price = priced(prices.price("https://api.anthropic.com", "claude-sonnet-4-5", None, NOW))
    usage = read_usage(
        {
            "input_tokens": 10,
            "cache_read_input_tokens": 1000,
            "cache_creation_input_tokens": 300,
            "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200},
            "output_tokens": 5,
        }
    )
    assert usage is not None
    base = price.input.base
    expected = 10 * base + 1000 * base / 10 + 100 * base * Decimal("1.25") + 200 * base * 2 + 5 * price.output.base
    assert price.cost(usage) == expected / MILLION


def listed_file(tmp_path: Path, *models: Mapping[str, object]) -> Path:
    file = tmp_path / "prices.json"
    provider = {"id": "acme", "url": r"https://acme\.example", "models": list(models)}
    file.write_text(json.dumps({"as_of": "2026-01-01", "source": "test", "providers": [provider]}))
    return file


def test_a_price_holds_from_its_day(tmp_path: Path) -> None:
    rows = [{"rates": {"input": "1"}}, {"from": "2026-06-01", "rates": {"input": "2"}}]
    prices = Prices(file=listed_file(tmp_path, {"match": ["equals", "m"], "prices": rows}))
    eve = datetime(2026, 5, 31, 23, 59, tzinfo=UTC)
    assert priced(prices.price("acme", "m", None, eve)).input == rate("1")
    assert priced(prices.price("acme", "m", None, eve + timedelta(minutes=1))).input == rate("2")
    # The day is that of UTC, and a moment without a zone is taken for UTC.
    west = datetime(2026, 5, 31, 20, 0, tzinfo=timezone(-timedelta(hours=5)))
    assert priced(prices.price("acme", "m", None, west)).input == rate("2")
    assert priced(prices.price("acme", "m", None, eve.replace(tzinfo=None))).input == rate("1")


@pytest.mark.parametrize(("begin", "end"), [("16:30:00", "23:00:00"), ("16:30:00", "00:30:00")])
def test_a_price_holds_at_its_hours(tmp_path: Path, begin: str, end: str) -> None:
    rows = [{"rates": {"input": "4"}}, {"between": [begin, end], "rates": {"input": "1"}}]
    prices = Prices(file=listed_file(tmp_path, {"match": ["equals", "m"], "prices": rows}))
    assert priced(prices.price("acme", "m", None, NOW.replace(hour=16, minute=29))).input == rate("4")
    assert priced(prices.price("acme", "m", None, NOW.replace(hour=16, minute=30))).input == rate("1")
    assert priced(prices.price("acme", "m", None, NOW.replace(hour=0, minute=30))).input == rate("4")


def test_the_first_row_counts_where_none_holds(tmp_path: Path) -> None:
    rows = [{"from": "2027-01-01", "rates": {"input": "1"}}, {"from": "2028-01-01", "rates": {"input": "2"}}]
    prices = Prices(file=listed_file(tmp_path, {"match": ["equals", "m"], "prices": rows}))
    assert priced(prices.price("acme", "m", None, NOW)).input == rate("1")


def test_a_row_without_an_input_price_is_unpriced(tmp_path: Path) -> None:
    rows = [{"rates": {"output": "1"}}, {"from": "2030-01-01", "rates": {"input": "2"}}]
    prices = Prices(file=listed_file(tmp_path, {"match": ["equals", "m"], "prices": rows}))
    assert prices.price("acme", "m", None, NOW) is None


@pytest.mark.parametrize(
    ("clause", "yes", "no"),
    [
        (["equals", "Gpt"], "gpt", "gpt-4"),
        (["starts", "gpt"], "gpt-4", "a-gpt"),
        (["ends", "gpt"], "a-gpt", "gpt-4"),
        (["contains", "pt"], "gpt-4", "g"),
        (["regex", "^g.t$"], "gpt", "gppt"),
        (["or", ["equals", "a"], ["equals", "b"]], "b", "c"),
        (["and", ["starts", "a"], ["ends", "b"]], "aab", "aa"),
    ],
)
def test_each_rule_recognises_what_it_says(tmp_path: Path, clause: list[object], yes: str, no: str) -> None:
    prices = Prices(file=listed_file(tmp_path, {"match": clause, "prices": [{"rates": {"input": "1"}}]}))
    assert prices.price("acme", yes, None, NOW) is not None
    assert prices.price("acme", no, None, NOW) is None


def test_the_operators_price_comes_first_everywhere() -> None:
    prices = Prices({"gpt-4o": {"input": "1.5", "cached": 0.5}, "local-*": {"input": 0}, "Big-*": {"input": 9}})
    own = priced(prices.price(OPENAI, "gpt-4o", "flex", NOW))
    assert own == Price(input=rate("1.5"), cached=rate("0.5"))
    assert prices.price("http://127.0.0.1", "local-llama", None, NOW) == FREE
    assert priced(prices.price(OPENAI, "big-one", None, NOW)).input == rate("9")
    assert priced(prices.price(OPENAI, "gpt-4o-mini", None, NOW)).input == rate("0.15")


def test_an_exact_name_goes_before_a_pattern() -> None:
    prices = Prices({"m*": {"input": 1}, "mm": {"input": 2}})
    assert priced(prices.price(OPENAI, "mm", None, NOW)).input == rate("2")


def test_a_flat_rate_upstream_costs_the_marginal_price() -> None:
    assert Prices(marginal={}).price("http://127.0.0.1", "any", "any", NOW) == FREE
    own = Prices({"dear": {"input": 7}}, marginal={"output": "0.01"})
    assert own.price(OPENAI, "gpt-4o", None, NOW) == Price(input=rate("0"), output=rate("0.01"))
    assert priced(own.price(OPENAI, "dear", None, NOW)).input == rate("7")


def test_a_gateway_follows_the_list_it_is_told_to() -> None:
    prices = Prices(provider="openai")
    assert prices.price("https://llm.acme.example", "gpt-4o", None, NOW) is not None
    assert prices.price("https://api.deepseek.com", "gpt-4o", None, NOW) is None


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ({"input": "cheap"}, r"prices\.m\.input: 'cheap' is no price"),
        ({"input": -1}, r"prices\.m\.input: -1 is no price"),
        ({"input": "NaN"}, r"is no price"),
        ({"input": float("inf")}, r"is no price"),
        ({"input": True}, r"is no price"),
        ({"input": 1, "outputs": 1}, r"prices\.m\.outputs: unknown rate, known are input, output"),
        ({"output": 1}, r"prices\.m\.input: missing"),
    ],
)
def test_a_bad_price_is_refused_by_name(rates: Mapping[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Prices({"m": rates})


def test_a_provider_that_has_no_list_is_refused() -> None:
    with pytest.raises(ValueError, match="provider: no price list of 'opnai'"):
        Prices(provider="opnai")


def test_an_unlisted_rate_costs_what_the_tokens_are_otherwise() -> None:
    everything = Usage(
        input_tokens=100,
        output_tokens=10,
        cached_tokens=40,
        cache_write_tokens=20,
        cache_write_1h_tokens=5,
        audio_input_tokens=30,
        cached_audio_tokens=15,
        audio_output_tokens=4,
    )
    assert Price(input=rate("1"), output=rate("2")).cost(everything) == Decimal("0.00012")
    full = Price(
        input=rate("1"),
        output=rate("2"),
        cached=rate("3"),
        cache_write=rate("5"),
        cache_write_1h=rate("7"),
        audio_input=rate("11"),
        cached_audio=rate("13"),
        audio_output=rate("17"),
        requests=rate("1000"),
    )
    parts = 25 * 1 + 6 * 2 + 25 * 3 + 15 * 5 + 5 * 7 + 15 * 11 + 15 * 13 + 4 * 17
    assert full.cost(everything) == 1 + Decimal(parts) / MILLION


def test_reasoning_is_part_of_the_output() -> None:
    price = Price(input=rate("1"), output=rate("2"))
    usage = Usage(input_tokens=1, output_tokens=100)
    assert price.cost(usage) == price.cost(dataclasses.replace(usage, reasoning_tokens=90))


def test_what_strangers_name_is_remembered_only_so_long(prices: Prices, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.accounts.pricing.REMEMBERED", 8)
    bounded = Prices()
    for number in range(50):
        bounded.price(OPENAI, f"gpt-4o-{number}" + "x" * 1000, None, NOW)
    assert len(bounded._known) == 8


def test_the_list_says_when_it_was_made(prices: Prices) -> None:
    assert repr(prices) == f"<Prices as of {prices.as_of}, {prices.source}, 0 overrides>"
    assert datetime(2026, 1, 1, tzinfo=UTC).date() < prices.as_of < NOW.date()


@given(
    st.builds(
        Usage,
        input_tokens=st.integers(0, 10**9),
        output_tokens=st.integers(0, 10**9),
        reasoning_tokens=st.just(0),
    ),
    st.integers(0, 10**9),
    st.decimals(0, 1000, places=6),
)
def test_money_is_exact_and_additive(usage: Usage, more: int, dollars: Decimal) -> None:
    price = Price(input=Rate(dollars), output=Rate(dollars))
    larger = dataclasses.replace(usage, input_tokens=usage.input_tokens + more)
    assert price.cost(larger) == price.cost(usage) + price.cost(Usage(input_tokens=more))
    assert price.cost(usage) * MILLION == dollars * usage.total_tokens


@given(
    st.dictionaries(st.sampled_from(["prompt_tokens", "completion_tokens", "total_tokens"]), st.integers(-5, 10**15))
)
def test_whatever_a_provider_reports_costs_nothing_negative(raw: dict[str, object]) -> None:
    details = {"cached_tokens": 7, "audio_tokens": 9, "cache_write_tokens": 6, "reasoning_tokens": 3}
    usage = read_usage({**raw, "prompt_tokens_details": details, "completion_tokens_details": details})
    price = Price(input=rate("1"), output=rate("2"), audio_input=rate("3"), cached=rate("0.1"))
    assert usage is None or price.cost(usage) >= 0


def their_models() -> list[tuple[str, str]]:
    names = ["gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-5", "gpt-5.4", "gpt-5.6-sol", "o3", "o4-mini", "gpt-3.5-turbo"]
    openai = [("openai", name) for name in [*names, "text-embedding-3-small", "gpt-4o-audio-preview"]]
    others = [("anthropic", "claude-opus-4-5"), ("deepseek", "deepseek-chat"), ("google", "gemini-2.5-flash")]
    return openai + others + [("groq", "llama-3.3-70b-versatile"), ("azure", "gpt-4o"), ("x-ai", "grok-4")]


@pytest.mark.skipif(
    not Prices().source.endswith(version("genai-prices")),
    reason="another genai-prices than the one frozen; run scripts/freeze_prices.py",
)
@pytest.mark.parametrize(("provider", "model"), their_models())
@pytest.mark.parametrize("tier", [None, "flex", "priority", "batch"])
@pytest.mark.parametrize("size", [1000, 500_000])
def test_the_frozen_list_agrees_with_the_library(
    prices: Prices, provider: str, model: str, tier: str | None, size: int
) -> None:
    price = prices.price(provider, model, tier, NOW)
    if tier is not None and price is None:
        return
    context = {"processing" if tier == "batch" else "service_tier": tier} if tier else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = get_snapshot().calc(
            TheirUsage(input_tokens=size, cache_read_tokens=size // 4, output_tokens=size // 10),
            model,
            provider,
            None,
            NOW,
            context,
        )
    usage = Usage(input_tokens=size, cached_tokens=size // 4, output_tokens=size // 10)
    assert priced(price).cost(usage) == theirs.total_price
