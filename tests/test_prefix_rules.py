"""The rules of the providers' prompt caches: the package's own, an operator's before them, and what is refused."""

from pathlib import Path

import pytest
import yaml

from proxy.errors import ConfigError
from proxy.prefix import rules, worth
from proxy.prefix.rules import KeyEffect, Rule, Semantics

OURS = rules.read()


@pytest.mark.parametrize(
    ("provider", "model", "name", "semantics"),
    [
        ("api.openai.com", "gpt-4o-mini", "openai", Semantics.BLOCK),
        ("eu.api.openai.com", "gpt-5.4-2026-03-05", "openai", Semantics.BLOCK),
        ("api.openai.com", "gpt-5.5-pro", "openai-5.5", Semantics.BLOCK),
        ("api.openai.com", "gpt-5.6", "openai-5.6", Semantics.BREAKPOINT),
        ("api.openai.com", "gpt-6.1-sol", "openai-5.6", Semantics.BREAKPOINT),
        ("api.anthropic.com", "claude-sonnet-4-20250514", "anthropic", Semantics.BREAKPOINT),
        ("api.deepseek.com", "deepseek-chat", "deepseek", Semantics.UNIT),
        ("llamacpp", "whatever", "llamacpp", Semantics.SLOT),
        ("api.openai.com", "text-embedding-3-small", "unknown", Semantics.UNKNOWN),
        ("127.0.0.1", "gpt-4o", "unknown", Semantics.UNKNOWN),
        ("api.openai.com.evil.example", "gpt-4o", "unknown", Semantics.UNKNOWN),
    ],
)
def test_the_rule_for_a_model_at_a_provider(provider: str, model: str, name: str, semantics: Semantics) -> None:
    found = OURS.find(provider, model)
    assert (found.name, found.semantics) == (name, semantics)


def test_numbers_that_depend_on_the_model() -> None:
    assert OURS.find("api.openai.com", "gpt-4o").read == 0.5
    assert OURS.find("api.openai.com", "gpt-5.4").read == 0.1
    assert OURS.find("api.anthropic.com", "claude-opus-4-5").min_tokens == 4096
    assert OURS.find("api.anthropic.com", "claude-opus-5-5").read == 0.05


def test_nothing_is_set_where_it_is_not_known_to_be_welcome() -> None:
    welcome = {
        name: (rule.steers, rule.mark)
        for name in OURS.names
        for rule in [OURS.find(name, "gpt-4o"), OURS.find(name, "gpt-5.5"), OURS.find(name, "gpt-6")]
        if rule.steers or rule.mark
    }
    assert welcome == {
        "openai": (True, ""),
        "openai-5.5": (True, ""),
        "openai-5.6": (False, "prompt_cache_breakpoint"),
        "anthropic": (False, "cache_control"),
    }
    assert OURS.find("api.openai.com", "gpt-6").key_effect is KeyEffect.PARTITION


def test_what_is_not_known_does_nothing() -> None:
    assert Rule() == rules.UNKNOWN
    assert not rules.UNKNOWN.steers


def own(tmp_path: Path, text: str) -> rules.Rules:
    file = tmp_path / "rules.yaml"
    file.write_text(text)
    return rules.read(file)


def test_an_operators_rule_stands_before_ours(tmp_path: Path) -> None:
    found = own(
        tmp_path, "as_of: 2026-12-01\nrules:\n  mine: {hosts: [api.openai.com], min_tokens: 7, semantics: unit}\n"
    )
    assert found.find("api.openai.com", "gpt-4o").min_tokens == 7
    assert found.find("api.anthropic.com", "claude-x").name == "anthropic"
    assert "mine" in found.names
    assert repr(found).startswith("<Rules as of 2026-11-23")


WRONG = {
    "rules: {}": "as_of",
    "[]": "expected `as_of",
    "as_of: 2026-01-01\nrules: {a: 1}": "rules.a: expected a rule",
    "as_of: 2026-01-01\nrules: {a: {hosts: x}}": "rules.a.hosts: expected a list",
    "as_of: 2026-01-01\nrules: {a: {tll_s: 1}}": "did you mean ttl_s",
    "as_of: 2026-01-01\nrules: {a: {zzz: 1}}": "known here",
    "as_of: 2026-01-01\nrules: {a: {semantics: x}}": "must be one of block",
    "as_of: 2026-01-01\nrules: {a: {read: no}}": "rules.a.read: expected a number",
    "as_of: 2026-01-01\nrules: {a: {read: {b: -1}}}": "rules.a.read.b: must be 0 to 10",
    "as_of: 2026-01-01\nrules: {a: {key_rpm: 1.5}}": "whole number",
    "as_of: 2026-01-01\nrules: {a: {read: .nan}}": "must be 0 to 10",
    "as_of: 2026-01-01\nrules: {a: {mark: metadata}}": "rules.a.mark: must be one of cache_control",
    "as_of: 2026-01-01\nrules: {a: {key: 'x y'}}": "rules.a.key: expected the name",
    "as_of: 2026-01-01\nrules: {a: {implicit: 1}}": "true or false",
    "as_of: 2026-01-01\nrules: {}\nmore: 1": "more: unknown",
    "a: [": "not valid YAML",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_rule_is_refused_with_its_place(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        own(tmp_path, text)
    assert WRONG[text] in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        rules.read(tmp_path / "none.yaml")


def test_the_packages_own_file_is_dated() -> None:
    assert yaml.safe_load(rules.RULES_FILE.read_text())["as_of"] == OURS.as_of


# --- when a breakpoint pays ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("read", "write", "expected"), [(0.1, 1.25, 0.217), (0.1, 2.0, 0.526), (0.05, 1.25, 0.208), (0.05, 2.0, 0.513)]
)
def test_the_break_even_of_the_published_prices(read: float, write: float, expected: float) -> None:
    q = worth.break_even(read=read, write=write)
    assert round(q, 3) == expected
    assert worth.cost(q, read=read, write=write) == pytest.approx(1.0)


@pytest.mark.parametrize(("write", "ttl_s", "expected"), [(1.25, 300, 2.94), (2.0, 3600, 0.75), (1.25, 1800, 0.49)])
def test_the_rate_that_a_prefix_needs(write: float, ttl_s: float, expected: float) -> None:
    assert worth.rate_needed(read=0.1, write=write, ttl_s=ttl_s) == pytest.approx(expected, abs=0.01)


def test_free_writing_always_pays_and_dear_reading_never() -> None:
    assert worth.break_even(read=0.1, write=1.0) == 0.0
    assert worth.break_even(read=1.0, write=1.25) == float("inf")
    assert worth.rate_needed(read=1.0, write=1.25, ttl_s=60) == float("inf")


def test_few_sightings_are_drawn_to_those_of_their_like() -> None:
    assert worth.blended(0, 0, 0.3) == pytest.approx(0.3)
    assert worth.blended(600, 0, 0.0) > 0.98
