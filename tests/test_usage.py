"""What a provider's usage object is read as: one row per dialect, and no JSON value that breaks it."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.accounts.usage import MAX_TOKENS, Method, Usage, read_usage

VECTORS = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "usage_vectors.jsonl"

FIELDS = (
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "prompt_cache_hit_tokens",
    "prompt_cache_miss_tokens",
    "reasoning_tokens",
    "audio_tokens",
    "cache_write_tokens",
    "ephemeral_1h_input_tokens",
    "prompt_tokens_details",
    "completion_tokens_details",
    "input_tokens_details",
    "output_tokens_details",
    "cached_tokens_details",
    "cache_creation",
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
DETAILS = st.dictionaries(st.sampled_from(FIELDS), SCALARS, max_size=4)
JSON_VALUES = SCALARS | DETAILS | st.dictionaries(st.sampled_from(FIELDS), DETAILS, max_size=2) | st.lists(SCALARS)

DIALECTS = {
    "chat": (
        {
            "prompt_tokens": 100,
            "completion_tokens": 30,
            "total_tokens": 130,
            "prompt_tokens_details": {"cached_tokens": 64, "audio_tokens": 5},
            "completion_tokens_details": {"reasoning_tokens": 12, "audio_tokens": 3},
        },
        Usage(
            input_tokens=100,
            output_tokens=30,
            cached_tokens=64,
            reasoning_tokens=12,
            audio_input_tokens=5,
            audio_output_tokens=3,
        ),
    ),
    "chat-with-null-details": (
        {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9, "prompt_tokens_details": None},
        Usage(input_tokens=7, output_tokens=2),
    ),
    "chat-with-a-cache-write": (
        {"prompt_tokens": 50, "completion_tokens": 1, "prompt_tokens_details": {"cache_write_tokens": 40}},
        Usage(input_tokens=50, output_tokens=1, cache_write_tokens=40),
    ),
    "responses": (
        {
            "input_tokens": 2000,
            "input_tokens_details": {"cached_tokens": 1024, "cache_write_tokens": 500},
            "output_tokens": 9,
            "output_tokens_details": {"reasoning_tokens": 4},
            "total_tokens": 2009,
        },
        Usage(input_tokens=2000, output_tokens=9, cached_tokens=1024, cache_write_tokens=500, reasoning_tokens=4),
    ),
    "anthropic-reports-the-cache-beside-the-input": (
        {"input_tokens": 10, "cache_read_input_tokens": 1000, "cache_creation_input_tokens": 200, "output_tokens": 5},
        Usage(input_tokens=1210, output_tokens=5, cached_tokens=1000, cache_write_tokens=200),
    ),
    "anthropic-with-hour-long-writes": (
        {
            "input_tokens": 1,
            "cache_creation_input_tokens": 300,
            "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200},
            "output_tokens": 5,
        },
        Usage(input_tokens=301, output_tokens=5, cache_write_tokens=300, cache_write_1h_tokens=200),
    ),
    "messages-translated-to-chat-include-the-cache": (
        {
            "prompt_tokens": 1210,
            "completion_tokens": 5,
            "cache_read_input_tokens": 1000,
            "cache_creation_input_tokens": 200,
        },
        Usage(input_tokens=1210, output_tokens=5, cached_tokens=1000, cache_write_tokens=200),
    ),
    "deepseek": (
        {
            "prompt_tokens": 90,
            "completion_tokens": 10,
            "prompt_cache_hit_tokens": 64,
            "prompt_cache_miss_tokens": 26,
        },
        Usage(input_tokens=90, output_tokens=10, cached_tokens=64),
    ),
    "deepseek-without-a-total": (
        {"completion_tokens": 10, "prompt_cache_hit_tokens": 64, "prompt_cache_miss_tokens": 26},
        Usage(input_tokens=90, output_tokens=10, cached_tokens=64),
    ),
    "embeddings": ({"prompt_tokens": 8, "total_tokens": 8}, Usage(input_tokens=8)),
    "embeddings-with-a-total-only": ({"total_tokens": 8}, Usage(input_tokens=8)),
    "cached-tokens-at-the-top": (
        {"prompt_tokens": 20, "completion_tokens": 1, "cached_tokens": 16},
        Usage(input_tokens=20, output_tokens=1, cached_tokens=16),
    ),
    "reasoning-billed-beside-the-completion": (
        {
            "prompt_tokens": 20,
            "completion_tokens": 1,
            "total_tokens": 121,
            "completion_tokens_details": {"reasoning_tokens": 100},
        },
        Usage(input_tokens=20, output_tokens=101, reasoning_tokens=100),
    ),
    "doubles-from-a-gateway": (
        {"prompt_tokens": 20.0, "completion_tokens": 1.5},
        Usage(input_tokens=20, output_tokens=0),
    ),
    "cached-audio": (
        {
            "prompt_tokens": 40,
            "prompt_tokens_details": {
                "cached_tokens": 20,
                "audio_tokens": 30,
                "cached_tokens_details": {"audio_tokens": 15},
            },
        },
        Usage(input_tokens=40, cached_tokens=20, audio_input_tokens=30, cached_audio_tokens=15),
    ),
}


@pytest.mark.parametrize(("raw", "expected"), DIALECTS.values(), ids=DIALECTS.keys())
def test_each_dialect_is_read(raw: Mapping[str, object], expected: Usage) -> None:
    assert read_usage(raw) == expected


@pytest.mark.parametrize(
    "raw",
    [{}, {"prompt_tokens": None}, {"prompt_tokens": -1}, {"prompt_tokens": True}, {"input_tokens": "12"}, {"x": 1}],
)
def test_no_known_total_is_no_usage(raw: Mapping[str, object]) -> None:
    assert read_usage(raw) is None


def test_a_part_is_cut_to_its_whole() -> None:
    usage = read_usage({"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 9}})
    assert usage == Usage(input_tokens=5, output_tokens=2, cached_tokens=5)


def test_an_absurd_number_is_absent() -> None:
    assert read_usage({"prompt_tokens": MAX_TOKENS + 1}) is None
    assert read_usage({"prompt_tokens": float("inf")}) is None


def test_a_usage_that_a_provider_sent_is_measured() -> None:
    usage = read_usage({"prompt_tokens": 5})
    assert usage is not None
    assert (usage.method, usage.lower_bound, usage.total_tokens) == (Method.MEASURED, False, 5)


@given(st.dictionaries(st.sampled_from(FIELDS), JSON_VALUES, max_size=8))
def test_any_json_is_survived_and_parts_lie_within_their_whole(raw: dict[str, object]) -> None:
    usage = read_usage(raw)
    if usage is None:
        return
    assert usage.cached_tokens + usage.cache_write_tokens <= usage.input_tokens
    assert 0 <= usage.cache_write_1h_tokens <= usage.cache_write_tokens
    assert 0 <= usage.cached_audio_tokens <= min(usage.audio_input_tokens, usage.cached_tokens)
    assert 0 <= usage.audio_input_tokens <= usage.input_tokens
    assert 0 <= max(usage.reasoning_tokens, usage.audio_output_tokens) <= usage.output_tokens


def test_every_recorded_usage_is_read_to_the_token() -> None:
    if not VECTORS.exists():
        pytest.skip(f"no recorded usage at {VECTORS}")
    for line in VECTORS.read_text("utf-8").splitlines():
        raw = json.loads(line)["usage"]
        usage = read_usage(raw)
        assert usage is not None
        assert usage.total_tokens == raw["total_tokens"]
        assert usage.input_tokens == raw.get("prompt_tokens", raw.get("input_tokens"))
        assert usage.output_tokens == raw.get("completion_tokens", raw.get("output_tokens", 0))
