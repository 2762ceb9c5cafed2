"""Settings: where they come from, what they may be, and how a wrong one is told."""

import dataclasses
import math
import re
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from hypothesis import given
from hypothesis import strategies as st

from proxy import config, settings
from proxy.accounts import pricing
from proxy.errors import ConfigError
from proxy.settings import Config, NamedUpstreamSettings

SECRETS = {
    "upstream.proxy_url",
    "upstream.add_headers",
    "cache.secret",
    "admin.token",
    "store.encryption_keys",
    "store.url",
}

# For every setting another value than its default, as a file has it.
OTHER: dict[str, Any] = {
    "upstream.url": "http://localhost:9001/v1",
    "upstream.ca_file": "CA_FILE",
    "upstream.connect_timeout_s": 2.5,
    "upstream.silence_timeout_s": 700.0,
    "upstream.proxy_url": "http://user:word@proxy:3128",
    "upstream.add_headers": {"x-team": "0123"},
    "upstream.keepalive_s": 0.0,
    "upstream.replicas": ("http://b:1", "http://c:1"),
    "upstream.routing": "affinity",
    "upstream.replica_tokens": 2048,
    "upstream.max_idle_connections": 3,
    "upstream.key_env": "MY_KEY",
    "upstream.key_file": "provider.key",
    "keys.mode": "shared",
    "keys.file": "keys.json",
    "keys.anonymous": True,
    "upstreams": {"claude": {"url": "http://h:2", "models": ["claude-*"], "add_headers": {"x-a": "b"}, "cache": False}},
    "server.host": "::1",
    "server.port": 0,
    "server.workers": 3,
    "server.drain_s": 1.0,
    "server.keepalive_s": 75.0,
    "server.half_close_grace_s": 2.0,
    "server.stall_timeout_s": 900.0,
    "server.max_header_bytes": 8192,
    "server.max_header_fields": 100,
    "server.trusted_proxies": ["10.0.0.0/8", "::1"],
    "cache.enabled": False,
    "cache.when": "seeded",
    "cache.when_by_model": {"o3*": "always", "gpt-4.1": "seeded"},
    "cache.share": "header:X-Team",
    "cache.secret": "0123 #4: [5",
    "cache.ttl_s": math.inf,
    "cache.ttl_by_model": {"text-embedding-*": 86400.0},
    "cache.stale_if_error_s": 60.0,
    "cache.stale_while_revalidate_s": 5.0,
    "cache.max_body_bytes": 1000,
    "cache.max_entry_bytes": 2000,
    "cache.finish_abandoned": True,
    "cache.keep_cut_at_length": True,
    "cache.keep_cut_by_filter": True,
    "cache.respect_no_store": True,
    "cache.key_headers": ["X-Region", "x-tier"],
    "cache.server_tools": ["web_search", "mcp"],
    "cache.more_paths": {"/api/chat": "/chat/completions"},
    "replay.pace": "recorded",
    "replay.fresh_ids": True,
    "replay.drop_rate_limits": True,
    "store.kind": "sqlite",
    "store.max_bytes": 8192,
    "store.eviction": "lru",
    "store.path": "/tmp/cache.db",
    "store.url": "rediss://user:word@redis.example:6380/2?ssl_ca_certs=/etc/ca.pem",
    "store.prefix": "team-a:",
    "store.max_connections": 4,
    "store.deadline_ms": 20.0,
    "store.local_max_bytes": 5000,
    "store.local_ttl_s": 0.5,
    "store.compress_from_bytes": 0,
    "store.encryption_keys": ["a:c2VjcmV0"],
    "semantic.policy": "shadow",
    "semantic.max_error_rate": 0.05,
    "semantic.threshold": 0.93,
    "semantic.min_threshold": 0.8,
    "semantic.max_threshold": 0.97,
    "semantic.threshold_step": 0.005,
    "semantic.max_chars": 200,
    "semantic.allow_fresh": True,
    "semantic.allow_personal": True,
    "semantic.deadline_s": 0.3,
    "semantic.max_bytes": 70000,
    "semantic.parallel": True,
    "semantic.refused_by": ["batch", "audit"],
    "semantic.backend": "numpy",
    "semantic.embedder.kind": "http",
    "semantic.embedder.model_dir": "models",
    "semantic.embedder.threads": 2,
    "semantic.embedder.max_waiting": 8,
    "semantic.embedder.url": "http://embedder:8080",
    "semantic.embedder.path": "/embeddings",
    "semantic.embedder.model": "bge-m3",
    "semantic.embedder.key_env": "EMBEDDER_KEY",
    "semantic.embedder.batch_texts": 16,
    "semantic.embedder.max_calls": 2,
    "semantic.embedder.timeout_s": 0.5,
    "flights.max_lead_bytes": 2048,
    "flights.max_lag_bytes": 4096,
    "flights.lease_wait_s": 2.0,
    "wire.enabled": False,
    "wire.max_bytes": 70000,
    "prefix.mode": "off",
    "prefix.mode_by_upstream": {"claude": "off"},
    "prefix.mode_by_model": {"gpt-4o*": "off"},
    "prefix.mode_by_client": {"ann": "act"},
    "prefix.provider": "vllm",
    "prefix.rules_file": "rules.yaml",
    "prefix.diagnose": False,
    "prefix.max_prefixes": 2000,
    "prefix.hold_out": 0.1,
    "accounting.provider": "openrouter",
    "accounting.prices": {"gpt-4o*": {"input": 2.5, "output": 10}},
    "accounting.flat_rate": True,
    "accounting.request_stream_usage": True,
    "ledger.max_models": 1,
    "ledger.max_opportunities": 2,
    "ledger.max_requests": 3,
    "own_paths.healthz": False,
    "own_paths.health": False,
    "own_paths.stats": False,
    "own_paths.metrics": False,
    "own_paths.guide": False,
    "admin.token": "operators-word",
    "compat.gateway_headers": False,
    "compat.litellm_cache_field": True,
    "log.level": "debug",
    "headers": "minimal",
}

DEFAULTS = {path: value for path, value, _ in config.describe()}
LEAST = {
    "upstream.connect_timeout_s": 0.01,
    "upstream.silence_timeout_s": 600,
    "upstream.keepalive_s": 0,
    "upstream.max_idle_connections": 0,
    "upstream.replica_tokens": 1024,
    "server.port": 0,
    "server.workers": 1,
    "server.drain_s": 0,
    "server.keepalive_s": 1,
    "server.half_close_grace_s": 0.05,
    "server.stall_timeout_s": 600,
    "server.max_header_bytes": 1024,
    "server.max_header_fields": 16,
    "cache.ttl_s": 0,
    "cache.stale_if_error_s": 0,
    "cache.stale_while_revalidate_s": 0,
    "cache.max_body_bytes": 1,
    "cache.max_entry_bytes": 1,
    "store.max_bytes": 4096,
    "store.max_connections": 2,
    "store.deadline_ms": 1,
    "store.local_max_bytes": 4096,
    "store.local_ttl_s": 0,
    "store.compress_from_bytes": 0,
    "semantic.max_error_rate": 0,
    "semantic.threshold": 0,
    "semantic.min_threshold": 0,
    "semantic.max_threshold": 0,
    "semantic.threshold_step": 0,
    "semantic.max_chars": 1,
    "semantic.deadline_s": 0.001,
    "semantic.max_bytes": 65536,
    "semantic.embedder.threads": 1,
    "semantic.embedder.max_waiting": 1,
    "semantic.embedder.batch_texts": 1,
    "semantic.embedder.max_calls": 1,
    "semantic.embedder.timeout_s": 0.01,
    "flights.max_lead_bytes": 1024,
    "flights.max_lag_bytes": 1024,
    "flights.lease_wait_s": 0,
    "wire.max_bytes": 65536,
    "prefix.max_prefixes": 1000,
    "prefix.hold_out": 0,
    "ledger.max_models": 1,
    "ledger.max_opportunities": 1,
    "ledger.max_requests": 0,
}
CHOICES = {
    "upstream.routing": ("prefix", "affinity", "round_robin"),
    "cache.when": ("temperature_zero", "seeded", "always"),
    "replay.pace": ("burst", "recorded"),
    "store.kind": ("memory", "sqlite", "redis"),
    "store.eviction": ("gdsf", "lru"),
    "semantic.policy": ("off", "shadow", "fixed", "adaptive", "verified"),
    "semantic.embedder.kind": ("local", "http"),
    "prefix.mode": ("off", "observe", "advise", "act"),
    "log.level": ("debug", "info", "warning", "error"),
    "headers": ("full", "minimal", "none"),
}

every_setting = pytest.mark.parametrize("path", sorted(OTHER))


@pytest.fixture(scope="module")
def ca_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file with a certificate."""
    file = tmp_path_factory.mktemp("ca") / "ca.pem"
    trustme.CA().cert_pem.write_to_path(file)
    return str(file)


@pytest.fixture
def other(ca_file: str) -> dict[str, Any]:
    """For every setting another value than its default."""
    return {**OTHER, "upstream.ca_file": ca_file}


def nested(path: str, value: object) -> dict[str, Any]:
    """The tree with one setting."""
    for name in reversed(path.split(".")):
        value = {name: value}
    return typing.cast(dict[str, Any], value)


def as_text(value: Any) -> str:
    """*value* as one would write it into an environment variable."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return ", ".join(value)
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()


def env_name(path: str) -> str:
    """The environment variable of a setting."""
    return config.ENV_PREFIX + path.upper().replace(".", "__")


def of_file(tmp_path: Path, content: str | Mapping[str, object]) -> Config:
    """What a file yields."""
    file = tmp_path / "config.yaml"
    file.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
    return config.load(file=file, environment={})


def of_sets(*sets: str) -> Config:
    """What the command line yields."""
    return config.load(environment={}, sets=sets)


def of_env(**variables: str) -> Config:
    """What the environment yields."""
    return config.load(environment=variables)


def at(settings: Config, path: str) -> Any:
    """The value of one setting."""
    return everything(settings)[path]


def only(path: str, value: Any) -> dict[str, object]:
    """Every setting at its default but one."""
    if path == "upstreams":
        value = {
            name: NamedUpstreamSettings(**{**below, "models": tuple(below["models"])}) for name, below in value.items()
        }
    return {**DEFAULTS, path: tuple(value) if isinstance(value, list) else value}


def everything(settings: Config) -> dict[str, object]:
    """Every setting by its path."""
    return {path: value for path, value, _ in config.describe(settings)}


def wrong(message: str, *sets: str) -> None:
    """Nothing else than *message* is said of *sets*."""
    with pytest.raises(ConfigError) as caught:
        of_sets(*sets)
    assert str(caught.value) == message


# Where settings come from.


def test_without_anything_there_are_defaults() -> None:
    assert config.load(environment={}) == Config()


def test_every_setting_is_tried_here() -> None:
    assert set(OTHER) == set(DEFAULTS)
    assert [path for path in OTHER if OTHER[path] == DEFAULTS[path]] == []


@every_setting
def test_every_setting_can_be_made_in_a_file(path: str, other: dict[str, Any], tmp_path: Path) -> None:
    assert everything(of_file(tmp_path, nested(path, other[path]))) == only(path, other[path])


@every_setting
def test_every_setting_can_be_made_in_the_environment(path: str, other: dict[str, Any]) -> None:
    assert everything(of_env(**{env_name(path): as_text(other[path])})) == only(path, other[path])


@every_setting
def test_every_setting_can_be_made_on_the_command_line(path: str, other: dict[str, Any]) -> None:
    assert everything(of_sets(f"{path}={as_text(other[path])}")) == only(path, other[path])


@every_setting
def test_no_setting_may_be_nothing(path: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(path)}: .*found nothing"):
        of_file(tmp_path, nested(path, None))


@every_setting
def test_no_setting_is_a_section(path: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(path)}(: expected |.a.b: unknown (rate|setting))"):
        of_file(tmp_path, nested(path, {"a": {"b": 1}}))


@pytest.mark.parametrize(
    "path", [path for path, value in DEFAULTS.items() if not isinstance(value, str | dict | tuple)]
)
def test_no_number_and_no_switch_is_a_text(path: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(path)}: expected .* found a text"):
        of_file(tmp_path, nested(path, "many"))


@pytest.mark.parametrize("path", [path for path, value in DEFAULTS.items() if isinstance(value, str)])
@pytest.mark.parametrize("number", [83, 1.1])
def test_no_text_is_a_number(path: str, number: float, tmp_path: Path) -> None:
    # 0123 in a file has become 83 before anybody could ask.
    with pytest.raises(ConfigError, match=f"^{re.escape(path)}: expected a text, found a number.*; put it in quotes$"):
        of_file(tmp_path, nested(path, number))


@pytest.mark.parametrize("path", [path for path, value in DEFAULTS.items() if type(value) in (int, float)])
def test_no_number_is_true_or_false(path: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(path)}: expected a .*number, found true or false"):
        of_file(tmp_path, nested(path, True))


@pytest.mark.parametrize("path", [path for path, value in DEFAULTS.items() if type(value) is int])
def test_no_whole_number_has_a_fraction(path: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(path)}: expected a whole number, found a number"):
        of_file(tmp_path, nested(path, 5000000.5))


@pytest.mark.parametrize("path", [path for path, value in DEFAULTS.items() if isinstance(value, bool)])
@pytest.mark.parametrize("value", [0, 1, "yes please"])
def test_no_switch_is_anything_but_true_or_false(path: str, value: object, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(path)}: expected true or false, found a "):
        of_file(tmp_path, nested(path, value))


@pytest.mark.parametrize("path", [path for path, value in DEFAULTS.items() if isinstance(value, tuple)])
@pytest.mark.parametrize("value", [5, [5], ["a", ["b"]], {"a": "b"}, True])
def test_a_list_is_a_list_of_texts(path: str, value: object, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(path)}: expected a list of texts, found "):
        of_file(tmp_path, nested(path, value))


@pytest.mark.parametrize(
    "path",
    [
        path
        for path, value in DEFAULTS.items()
        if isinstance(value, dict) and path not in ("accounting.prices", "upstreams", "cache.ttl_by_model")
    ],
)
@pytest.mark.parametrize("value", [5, "a", ["a"], {"a": 5}, {"a": ["b"]}])
def test_a_mapping_is_pairs_of_texts(path: str, value: object, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(path)}: expected `name: text` pairs, found "):
        of_file(tmp_path, nested(path, value))


@pytest.mark.parametrize("value", [5, "a", ["a"], {"a": "b"}, {"a": True}, {"a": -1}])
def test_lifetimes_by_model_are_pairs_of_numbers(value: object, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"^cache\.ttl_by_model: (expected `name: number` pairs|must be at least 0), found "
    ):
        of_file(tmp_path, nested("cache.ttl_by_model", value))


def test_a_lifetime_by_model_is_one_setting_on_the_command_line() -> None:
    assert of_sets("cache.ttl_by_model.gpt-4.1=60").cache.ttl_by_model == {"gpt-4.1": 60.0}


@pytest.mark.parametrize("path", LEAST)
def test_a_number_below_its_least_is_refused(path: str, tmp_path: Path) -> None:
    least = LEAST[path]
    below = least - 1 if isinstance(DEFAULTS[path], int) else math.nextafter(least, -math.inf)
    with pytest.raises(ConfigError, match=f"^{re.escape(path)}: must be at least {least:g}, found "):
        of_file(tmp_path, nested(path, below))


@pytest.mark.parametrize("path", LEAST)
def test_a_number_at_its_least_is_taken(path: str, tmp_path: Path) -> None:
    assert at(of_file(tmp_path, nested(path, LEAST[path])), path) == LEAST[path]


def test_every_number_has_a_least() -> None:
    assert {path for path, value in DEFAULTS.items() if type(value) in (int, float)} == set(LEAST)


@pytest.mark.parametrize("path", [path for path, value in DEFAULTS.items() if type(value) is float])
def test_what_is_not_a_number_is_at_least_nothing(path: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(path)}: must be at least"):
        of_file(tmp_path, nested(path, math.nan))


@pytest.mark.parametrize(("path", "choice"), [(path, each) for path, choices in CHOICES.items() for each in choices])
def test_every_choice_can_be_chosen(path: str, choice: str, tmp_path: Path) -> None:
    assert at(of_file(tmp_path, nested(path, choice)), path) == choice


@pytest.mark.parametrize("path", CHOICES)
def test_nothing_but_the_choices_can_be_chosen(path: str) -> None:
    listed = ", ".join(CHOICES[path])
    wrong(f"{path}: must be one of {listed}; found 'zzz'", f"{path}=zzz")


def test_a_choice_that_was_nearly_made_is_named() -> None:
    wrong(
        "log.level: must be one of debug, info, warning, error; found 'warn', did you mean warning?", "log.level=warn"
    )


@given(
    st.dictionaries(
        st.sampled_from(sorted(DEFAULTS)),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.lists(st.text(max_size=3)),
        max_size=4,
    )
)
def test_whatever_a_file_says_it_yields_settings_or_tells_what_is_wrong(said: dict[str, object]) -> None:
    tree: dict[str, Any] = {}
    for path, value in said.items():
        *sections, name = path.split(".")
        at_hand = tree
        for section in sections:
            at_hand = at_hand.setdefault(section, {})
        at_hand[name] = value
    try:
        found = str(config._build(Config, tree, ""))
    except ConfigError as error:
        found = str(error)
    assert found.startswith(("Config(", *[f"{path}: " for path in said]))


# One over the other.


def test_the_command_line_is_over_the_environment_and_that_is_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("cache: {ttl_s: 1, max_body_bytes: 1, max_entry_bytes: 1}\n", encoding="utf-8")
    loaded = config.load(
        file=file,
        environment={"ASKONCE_CACHE__TTL_S": "2", "ASKONCE_CACHE__MAX_BODY_BYTES": "2"},
        sets=["cache.ttl_s=3"],
    )
    assert (loaded.cache.ttl_s, loaded.cache.max_body_bytes, loaded.cache.max_entry_bytes) == (3, 2, 1)


def test_of_two_sets_the_last_counts() -> None:
    assert of_sets("server.port=1", "server.port=2").server.port == 2


def test_pairs_are_added_to_pairs(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("cache: {when_by_model: {a: always, b: always}}\n", encoding="utf-8")
    loaded = config.load(file=file, environment={}, sets=["cache.when_by_model={b: seeded, c: seeded}"])
    assert loaded.cache.when_by_model == {"a": "always", "b": "seeded", "c": "seeded"}


def test_the_process_environment_is_read_where_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ASKONCE_NIGHTLY", "ASKONCE_CONTRACT_DIRECT", "ASKONCE_CONTRACT_SET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ASKONCE_SERVER__PORT", "1234")
    assert config.load().server.port == 1234


def test_other_environment_variables_are_nobodys_business() -> None:
    assert of_env(PORT="1", ASKONCE="x", ASKONCE_="x", XASKONCE_SERVER__PORT="y") == Config()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (5, ": expected prices as `model: {input: dollars, ...}`, found a number (5)"),
        ({"m": 5}, ".m: expected rates as `name: dollars per million tokens`, found a number (5)"),
        ({"m": {"inptu": 1}}, ".m.inptu: unknown rate, did you mean accounting.prices.m.input?"),
        ({"m": {"input": "1"}}, ".m.input: expected a number of dollars, found a text ('1')"),
        ({"m": {"input": True}}, ".m.input: expected a number of dollars, found true or false (True)"),
        ({"m": {"input": -1}}, ".m.input: must be 0 or more dollars, found -1"),
        ({"m": {"input": math.nan}}, ".m.input: must be 0 or more dollars, found nan"),
        ({"m": {"output": 1}}, ".m.input: missing; say what a million input tokens cost, 0 if nothing"),
    ],
)
def test_a_price_that_is_none_is_refused_by_its_path(value: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        of_file(tmp_path, nested("accounting.prices", value))
    assert str(caught.value) == f"accounting.prices{message}"


def test_an_unknown_rate_that_resembles_none_is_told_which_there_are() -> None:
    with pytest.raises(ConfigError, match=r"^accounting.prices.m.zzz: unknown rate; known here: input, output, "):
        of_sets("accounting.prices.m={zzz: 1}")


def test_the_rates_are_those_of_the_price_list() -> None:
    assert tuple(part.name for part in dataclasses.fields(pricing.Price)) == settings.RATES


def test_a_price_can_be_set_whole_or_rate_by_rate() -> None:
    loaded = of_sets("accounting.prices.gpt-4.1={input: 2, output: 8}", "accounting.prices.gpt-4.1.input=1.5")
    assert loaded.accounting.prices == {"gpt-4.1": {"input": 1.5, "output": 8}}
    loaded = of_env(ASKONCE_ACCOUNTING__PRICES__O3__INPUT="2")
    assert loaded.accounting.prices == {"o3": {"input": 2}}


def test_the_upstream_may_be_written_short_in_a_file(tmp_path: Path) -> None:
    assert of_file(tmp_path, "upstream: http://h:1\n").upstream.url == "http://h:1"


def test_the_upstream_may_be_written_short_in_the_environment() -> None:
    assert of_env(ASKONCE_UPSTREAM="http://h:1").upstream.url == "http://h:1"


def test_the_upstream_may_be_written_short_on_the_command_line() -> None:
    assert of_sets("upstream=http://h:1").upstream.url == "http://h:1"


def test_the_upstream_may_be_written_as_a_section_on_the_command_line() -> None:
    loaded = of_sets("upstream={url: 'http://h:1', keepalive_s: 1}")
    assert (loaded.upstream.url, loaded.upstream.keepalive_s) == ("http://h:1", 1.0)


def test_a_short_upstream_leaves_the_rest_of_its_section(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("upstream: {connect_timeout_s: 3}\n", encoding="utf-8")
    loaded = config.load(file=file, environment={"ASKONCE_UPSTREAM": "http://h:1"})
    assert (loaded.upstream.url, loaded.upstream.connect_timeout_s) == ("http://h:1", 3.0)


@pytest.mark.parametrize("section", sorted({path.partition(".")[0] for path in DEFAULTS if "." in path}))
def test_a_section_with_nothing_in_it_is_all_defaults(section: str, tmp_path: Path) -> None:
    assert of_file(tmp_path, f"{section}:\n") == Config()


@pytest.mark.parametrize("content", ["", "---\n", "# nothing\n", "null\n"])
def test_a_file_with_nothing_in_it_is_all_defaults(content: str, tmp_path: Path) -> None:
    assert of_file(tmp_path, content) == Config()


@given(st.text(alphabet=st.characters(exclude_categories=("Cs", "Cc"))))
def test_a_secret_is_taken_as_it_stands(secret: str) -> None:
    assert of_env(ASKONCE_CACHE__SECRET=secret).cache.secret == secret
    assert of_sets(f"cache.secret={secret}").cache.secret == secret


@pytest.mark.parametrize(
    "text", ["0123", "1.10", "true", "no", "null", "~", "a #b", "'quoted'", "{a", "*a", "2026-01-01"]
)
def test_a_text_is_taken_as_it_stands_wherever_yaml_would_read_more_into_it(text: str) -> None:
    assert of_sets(f"cache.secret={text}").cache.secret == text
    assert of_sets(f"upstream.add_headers.x-a={text}").upstream.add_headers == {"x-a": text}


def test_a_model_with_a_dot_in_its_name_can_be_set() -> None:
    assert of_sets("cache.when_by_model.gpt-4.1=always").cache.when_by_model == {"gpt-4.1": "always"}


def test_pairs_can_be_set_one_by_one_in_the_environment() -> None:
    assert of_env(ASKONCE_CACHE__WHEN_BY_MODEL__O3="always").cache.when_by_model == {"o3": "always"}


def test_a_list_may_be_written_as_yaml_too() -> None:
    assert of_sets("cache.key_headers=[x-a, x-b]").cache.key_headers == ("x-a", "x-b")


@pytest.mark.parametrize("nothing", ["", "[]", " , "])
def test_a_list_may_be_empty(nothing: str) -> None:
    assert of_sets(f"cache.key_headers={nothing}").cache.key_headers == ()


def test_an_off_that_yaml_reads_as_false_is_off_where_that_is_a_choice() -> None:
    # No setting has the choice yet; the first ones will be policies.
    made = dataclasses.make_dataclass(
        "Made", [("policy", str, settings.setting("on", choices=("off", "on")))], kw_only=True, frozen=True
    )
    assert config._build(made, {"policy": False}, "").policy == "off"
    assert config._build(made, {"policy": True}, "").policy == "on"


def test_an_off_is_no_text_anywhere_else(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^server\.host: expected a text, found true or false"):
        of_file(tmp_path, "server: {host: off}\n")


# How a wrong one is told.


def test_an_unknown_setting_is_told_with_the_near_miss() -> None:
    wrong("cache.tll_s: unknown setting, did you mean cache.ttl_s?", "cache.tll_s=1")


def test_an_unknown_section_is_told_with_the_near_miss() -> None:
    wrong("cahce.ttl_s: unknown setting, did you mean cache?", "cahce.ttl_s=1")


def test_an_unknown_setting_in_a_file_is_told_with_the_near_miss(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        of_file(tmp_path, "cache: {tll_s: 1}\n")
    assert str(caught.value) == "cache.tll_s: unknown setting, did you mean cache.ttl_s?"


def test_an_unknown_environment_variable_is_told_with_its_name() -> None:
    with pytest.raises(ConfigError) as caught:
        of_env(ASKONCE_CACHE__TLL_S="1")
    assert str(caught.value) == ("cache.tll_s: unknown setting, did you mean cache.ttl_s? (from ASKONCE_CACHE__TLL_S)")


def test_one_underscore_for_two_is_a_near_miss() -> None:
    with pytest.raises(ConfigError) as caught:
        of_env(ASKONCE_CACHE_TTL_S="1")
    assert str(caught.value) == "cache_ttl_s: unknown setting, did you mean cache.ttl_s? (from ASKONCE_CACHE_TTL_S)"


def test_a_setting_in_the_wrong_section_is_found_in_the_right_one() -> None:
    wrong("server.ttl_s: unknown setting, did you mean cache.ttl_s?", "server.ttl_s=1")


def test_a_setting_without_its_section_is_found_in_it() -> None:
    wrong("eviction: unknown setting, did you mean store.eviction?", "eviction=lru")


def test_where_nothing_is_near_the_known_ones_are_told() -> None:
    wrong("wire.zzz: unknown setting; known here: enabled, max_bytes", "wire.zzz=1")


def test_below_a_setting_there_is_nothing() -> None:
    wrong("cache.ttl_s: expected a number, found a section ({'x': 1})", "cache.ttl_s.x=1")


def test_a_section_is_no_value() -> None:
    wrong("cache: expected a section with settings, found a number (5)", "cache=5")


@pytest.mark.parametrize("item", ["cache.ttl_s", "", "cache.ttl_s:5"])
def test_a_set_without_an_equals_sign_is_told_how(item: str) -> None:
    wrong(f"--set {item}: write it as a.b=value", item)


@pytest.mark.parametrize("text", ["[", "{a: b", "a: b: c", "@", "2026-13-45", "\x00"])
def test_a_value_that_is_not_yaml_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^--set server\.port: not valid YAML"):
        of_sets(f"server.port={text}")


def test_a_value_from_the_environment_that_is_not_yaml_is_told_with_its_name() -> None:
    with pytest.raises(ConfigError, match=r"^server.port \(from ASKONCE_SERVER__PORT\): not valid YAML"):
        of_env(ASKONCE_SERVER__PORT="[")


def test_a_file_that_is_not_there_is_told() -> None:
    with pytest.raises(ConfigError, match=r"^nowhere\.yaml: cannot be read: No such file"):
        config.load(file=Path("nowhere.yaml"), environment={})


def test_a_file_that_is_a_directory_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read: Is a directory$"):
        config.load(file=tmp_path, environment={})


def test_a_file_that_is_not_yaml_is_told_with_the_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.yaml: not valid YAML: line 2, column 6: "):
        of_file(tmp_path, "cache: {ttl_s: 1\nstore:\n")


def test_a_file_that_is_not_text_is_told(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_bytes(b"cache: \xff\n")
    with pytest.raises(ConfigError, match=r"not valid YAML: not in UTF-8$"):
        config.load(file=file, environment={})


@pytest.mark.parametrize("content", ["- a\n", "text\n", "5\n", "true\n"])
def test_a_file_that_is_not_settings_is_told(content: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.yaml: expected settings as `name: value`, found "):
        of_file(tmp_path, content)


@pytest.mark.parametrize("content", ["8080: x\n", "cache: {1: x}\n", "cache: {when_by_model: {4: always}}\n"])
def test_a_name_that_is_not_a_text_is_told(content: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config.yaml: \d+ is not the name of a setting$"):
        of_file(tmp_path, content)


def test_a_section_that_stands_twice_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"not valid YAML: line 3, column 1: cache is set twice$"):
        of_file(tmp_path, "cache: {ttl_s: 1}\nstore: {}\ncache: {when: always}\n")


def test_anchors_and_merges_are_understood(tmp_path: Path) -> None:
    loaded = of_file(tmp_path, "cache: &same {}\nstore: {<<: *same, max_bytes: 5000}\n")
    assert loaded.store.max_bytes == 5000


def test_a_name_that_is_no_text_at_all_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"not valid YAML"):
        of_file(tmp_path, "? [a, b]\n: c\n")


# What no message may hold.


@pytest.mark.parametrize(
    "sets",
    [
        ["upstream.proxy_url=https://user:hunter2@proxy:1"],
        ["upstream.proxy_url=http://user:hunter2@"],
        ["upstream.proxy_url=http://user:hunter2@proxy:1/?a"],
        ["upstream.proxy_url=http://user:hunter2@[::"],
        ["upstream.proxy_url=http://user:hunter2@a\u2100b"],
        ["upstream.proxy_url=http://user:hunter2@h:99999"],
        ["upstream.url=http://user:hunter2@h"],
        ["upstream.url=ftp://user:hunter2@h"],
        ["upstream.add_headers={authorization: [hunter2]}"],
        ["upstream.add_headers={authorization: hunter2"],
        ["upstream.add_headers.authorization=hunter2\n"],
    ],
    ids=str,
)
def test_a_wrong_secret_is_not_told(sets: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        of_sets(*sets)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "content", ["cache: {secret: 987654}\n", "cache: {secret: [987654]}\n", "cache: {secret: 987654\n"]
)
def test_a_wrong_secret_in_a_file_is_not_told(content: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        of_file(tmp_path, content)
    assert "987654" not in str(caught.value)


def test_the_secrets_are_marked_as_such() -> None:
    assert {path for path, _, secret in config.describe() if secret} == SECRETS


def test_secrets_are_masked_where_settings_are_shown() -> None:
    loaded = of_sets(
        "cache.secret=hunter2", "upstream.proxy_url=http://u:hunter2@h", "upstream.add_headers.x-key=hunter2"
    )
    shown: Any = config.effective(loaded)
    assert "hunter2" not in str(shown)
    assert shown["cache"]["secret"] == shown["upstream"]["proxy_url"] == "***"
    assert shown["upstream"]["add_headers"] == {"x-key": "***"}


def test_a_secret_that_is_not_set_is_shown_as_such() -> None:
    shown: Any = config.effective(Config())
    assert (shown["cache"]["secret"], shown["upstream"]["add_headers"]) == ("", {})


def test_the_settings_shown_are_the_settings_loaded(tmp_path: Path) -> None:
    loaded = of_sets("cache.ttl_s=5", "cache.key_headers=x-a", "cache.when_by_model.gpt-4.1=always", "headers=none")
    assert of_file(tmp_path, config.effective(loaded)) == loaded


# What settings must be together.


@pytest.mark.parametrize(
    "url",
    [
        "https://api.openai.com",
        "http://localhost:11434/v1/",
        "HTTP://h",
        "http://[::1]:8080/a/b",
        "https://bücher.example",
        "http://127.0.0.1",
    ],
)
def test_a_url_that_names_an_origin_is_taken(url: str) -> None:
    assert of_sets(f"upstream={url}").upstream.url == url


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "must begin with http:// or https://"),
        ("api.openai.com", "must begin with http:// or https://"),
        ("ftp://h", "must begin with http:// or https://"),
        ("http://", "names no host"),
        ("http:///v1", "names no host"),
        ("http://h:0", "names no host"),
        ("http://h:99999", "is not a URL"),
        ("http://h:abc", "is not a URL"),
        ("http://[::1", "is not a URL"),
        ("http://a..ü", "is not a URL"),
        ("http://h?a=b", "must not have a query or a fragment"),
        ("http://h#a", "must not have a query or a fragment"),
        ("http://h/a b", "must not hold white space"),
        ("http://h x", "must not hold white space"),
        ("http://h/\nX-Evil:1", "must not hold white space"),
        ("http://user:word@h", "must not carry credentials"),
        ("http://user@h", "must not carry credentials"),
    ],
)
def test_a_url_that_names_no_origin_is_refused(url: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=f"^upstream.url: .*{reason}"):
        of_sets(f"upstream={url}")


@pytest.mark.parametrize("url", ["https://proxy:3128", "socks5://proxy:1080", "proxy:3128"])
def test_an_outgoing_proxy_is_spoken_to_in_http(url: str) -> None:
    with pytest.raises(ConfigError, match=r"^upstream.proxy_url: .* must begin with http://$"):
        of_sets(f"upstream.proxy_url={url}")


def test_a_ca_file_that_is_not_there_is_told() -> None:
    wrong("upstream.ca_file: 'nowhere.pem' cannot be read: No such file or directory", "upstream.ca_file=nowhere.pem")


def test_a_ca_file_without_certificates_is_told(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("nothing of the kind\n", encoding="utf-8")
    wrong(f"upstream.ca_file: no certificates in PEM form in {str(file)!r}", f"upstream.ca_file={file}")


@pytest.mark.parametrize("port", [0, 1, 65535])
def test_a_port_is_a_port(port: int) -> None:
    assert of_sets(f"server.port={port}").server.port == port


def test_an_address_left_empty_does_not_open_the_door_to_everybody() -> None:
    # Sockets take "" for every address there is.
    wrong("server.host: must name an address; 0.0.0.0 takes connections from everywhere", "server.host=")


def test_there_is_no_port_65536() -> None:
    wrong("server.port: must be 0 to 65535, found 65536", "server.port=65536")


@pytest.mark.parametrize("pair", ["{x y: a}", "{'': a}", '{x: "a\\r\\nb"}', '{x: "a\\0"}', "{'x:': a}"])
def test_a_field_that_cannot_be_added_is_refused(pair: str) -> None:
    with pytest.raises(ConfigError, match=r"^upstream.add_headers\..*: not a valid header field$"):
        of_sets(f"upstream.add_headers={pair}")


@pytest.mark.parametrize("name", ["Host", "Content-Length", "transfer-encoding", "Connection", "upgrade", "TE"])
def test_a_field_that_frames_or_routes_a_request_is_not_added(name: str) -> None:
    wrong(
        f"upstream.add_headers.{name}: frames or routes the request and is written by the proxy",
        f"upstream.add_headers.{name}=5",
    )


@pytest.mark.parametrize("name", ["x y", "x:", "é", '"x"'])
def test_a_key_header_that_no_request_can_have_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"^cache.key_headers\[1\]: .* is not the name of a header field$"):
        of_sets(f"cache.key_headers=x-a,{name}")


@pytest.mark.parametrize("path", ["api/chat", "", "/api chat", "/api?x", "/é"])
def test_a_path_that_no_request_can_have_is_refused(path: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^cache.more_paths\..*: a path begins with / and has no query$"):
        of_file(tmp_path, {"cache": {"more_paths": {path: "/messages"}}})


def test_a_path_is_cached_as_one_of_those_we_know() -> None:
    with pytest.raises(ConfigError, match=r"^cache.more_paths: must be one of .* did you mean /messages\?$"):
        of_sets("cache.more_paths={/a: /mesages}")


@pytest.mark.parametrize("network", ["10.0.0.0/8", "10.1.2.3", "10.1.2.3/8", "::1", "fd00::/8"])
def test_a_trusted_proxy_is_an_address_or_a_network(network: str) -> None:
    assert of_sets(f"server.trusted_proxies={network}").server.trusted_proxies == (network,)


def test_a_trusted_proxy_is_no_name() -> None:
    wrong(
        "server.trusted_proxies[1]: 'lb.internal' is not an address or a network like 10.0.0.0/8",
        "server.trusted_proxies=::1,lb.internal",
    )


@pytest.mark.parametrize("share", ["auto", "credential", "everyone", "header:X-Team", "header:a"])
def test_a_way_to_share(share: str) -> None:
    assert of_sets(f"cache.share={share}").cache.share == share


@pytest.mark.parametrize("share", ["", "nobody", "header:", "header:X Team", "Everyone", "everyone "])
def test_no_way_to_share(share: str) -> None:
    with pytest.raises(ConfigError, match=r"^cache\.share: .* does not fit; it must match auto"):
        of_sets(f"cache.share={share}")


def test_settings_cannot_be_changed_once_they_are_read() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().cache.ttl_s = 1  # type: ignore[misc]
