"""What a request asks of the cache in other gateways' words: in its head, and in its body."""

import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import aliases, cachefield, policy
from proxy.aliases import ALIASES
from proxy.headers import Fields
from proxy.policy import Control
from tests import answers
from tests.comparison import Ways
from tests.conftest import StartProxy
from tests.raw_client import RawAnswer

CHAT = "/v1/chat/completions"


def asked(*fields: tuple[bytes, bytes]) -> Control:
    """What a request with these fields asks of the cache."""
    return policy.control(Fields((*fields, *aliases.translated(Fields(fields)))))


# In the head.

ROWS: list[tuple[bytes, bytes, Control]] = [
    (b"x-portkey-cache-force-refresh", b"True", Control(no_cache=True)),
    (b"x-portkey-cache-force-refresh", b"false", Control()),
    (b"x-portkey-cache-namespace", b"team a", Control(namespace=b"team a")),
    (b"cf-aig-skip-cache", b"true", Control(no_store=True)),
    (b"cf-aig-cache-ttl", b"90", Control(ttl_s=90.0)),
    (b"cf-aig-cache-ttl", b"soon", Control()),
    (b"cf-aig-cache-key", b"my-key", Control(namespace=b"my-key")),
    (b"cf-skip-cache", b"1", Control(no_store=True)),
    (b"cf-cache-ttl", b"3600", Control(ttl_s=3600.0)),
    (b"Helicone-Cache-Enabled", b"true", Control(opt=True)),
    (b"Helicone-Cache-Enabled", b"false", Control(opt=False)),
    (b"Helicone-Cache-Enabled", b"maybe", Control()),
    (b"Helicone-Cache-Seed", b"user-1", Control(namespace=b"user-1")),
    (b"X-OpenRouter-Cache", b"true", Control(opt=True)),
    (b"X-OpenRouter-Cache", b"false", Control(opt=False)),
    (b"X-OpenRouter-Cache-TTL", b"300", Control(ttl_s=300.0)),
    (b"X-OpenRouter-Cache-Clear", b"true", Control(no_cache=True)),
    (b"x-bf-cache-key", b"session-1", Control(opt=True, namespace=b"session-1")),
    (b"x-bf-cache-key", b"", Control()),
    (b"x-bf-cache-ttl", b"30s", Control(ttl_s=30.0)),
    (b"x-bf-cache-ttl", b"1h30m", Control(ttl_s=5400.0)),
    (b"x-bf-cache-ttl", b"-5s", Control()),
    (b"x-bf-cache-no-store", b"true", Control(no_store=True)),
    (b"x-bf-cache-type", b"semantic", Control()),
    (b"x-higress-skip-ai-cache", b"on", Control(no_store=True)),
    (b"x-higress-skip-ai-cache", b"off", Control()),
]


@pytest.mark.parametrize(("name", "value", "means"), ROWS)
def test_a_field_of_another_gateway_means_the_same_here(name: bytes, value: bytes, means: Control) -> None:
    assert asked((name, value)) == means


@pytest.mark.parametrize(
    ("name", "value", "ours"),
    [
        (b"x-bf-cache-threshold", b"0.97", (b"x-askonce-min-similarity", b"0.97")),
        (b"x-bf-cache-type", b"direct", (b"x-askonce-semantic", b"off")),
    ],
)
def test_what_is_said_of_similarity_is_said_in_our_words(name: bytes, value: bytes, ours: tuple[bytes, bytes]) -> None:
    assert aliases.translated(Fields(((name, value),))) == (ours,)


def test_every_alias_has_a_row_here() -> None:
    tried = {name.lower() for name, _, _ in ROWS} | {b"x-bf-cache-threshold"}
    assert {alias.field for alias in ALIASES} == tried


def test_what_a_request_says_in_our_words_goes_first() -> None:
    assert asked((b"helicone-cache-enabled", b"true"), (b"x-askonce-cache", b"off")).opt is False
    assert asked((b"cf-aig-cache-ttl", b"9"), (b"x-askonce-ttl", b"5")).ttl_s == 5


def test_no_word_of_another_gateway_takes_back_what_a_request_refuses() -> None:
    said = asked((b"cache-control", b"no-store"), (b"x-openrouter-cache", b"true"))
    assert (said.no_store, said.opt) == (True, True)


def test_every_namespace_narrows() -> None:
    both = asked((b"helicone-cache-seed", b"a"), (b"x-portkey-cache-namespace", b"b"))
    assert both.namespace not in (b"a", b"b", b"")
    assert asked((b"helicone-cache-seed", b"a"), (b"x-askonce-namespace", b"c")).namespace not in (b"a", b"c")


@given(st.sampled_from(ALIASES), st.binary(max_size=20))
def test_whatever_stands_in_such_a_field_fails_no_request(alias: aliases.Alias, value: bytes) -> None:
    asked((alias.field, value))


# Both in front of a provider.


def outcomes(ways: Ways, *octets: bytes) -> list[str | None]:
    """The labels of these requests, one after the other."""
    return [label(ways.through(each).answer) for each in octets]


def label(answer: RawAnswer) -> str:
    """What an answer says of itself."""
    return f"{answer.get('x-cache')} {answer.get('x-cache-reason')}"


def test_a_field_of_another_gateway_works_and_is_forwarded(ways: Ways) -> None:
    warm = ways.chat(temperature=None, headers=(("X-OpenRouter-Cache", "true"),))
    assert outcomes(ways, warm, warm, ways.chat(temperature=None)) == [
        "MISS not_found",
        "HIT found",
        "BYPASS temperature",
    ]
    assert ways.received()[0].values("x-openrouter-cache") == [b"true"]


def test_a_repeat_that_asks_for_a_fresh_answer_gets_one(ways: Ways) -> None:
    fresh = ways.chat(headers=(("x-portkey-cache-force-refresh", "true"),))
    assert outcomes(ways, ways.chat(), ways.chat(), fresh, fresh) == [
        "MISS not_found",
        "HIT found",
        "MISS no_cache",
        "MISS no_cache",
    ]


def test_namespaces_of_another_gateway_keep_answers_apart(ways: Ways) -> None:
    one, two = (ways.chat(headers=(("Helicone-Cache-Seed", seed),)) for seed in ("1", "2"))
    assert outcomes(ways, one, two, one, two) == ["MISS not_found", "MISS not_found", "HIT found", "HIT found"]


def test_other_gateways_can_be_left_alone(start_proxy: StartProxy) -> None:
    ways = start_proxy(compat__gateway_headers="false")
    skipping = ways.chat(headers=(("x-higress-skip-ai-cache", "on"),))
    assert outcomes(ways, skipping, skipping) == ["MISS not_found", "HIT found"]


# In the body.


@pytest.mark.parametrize(
    ("body", "rest"),
    [
        (b'{"a":1,"cache":{"ttl":1},"b":2}', b'{"a":1,"b":2}'),
        (b'{"cache":{"ttl":1},"b":2}', b'{"b":2}'),
        (b'{"a":1,"cache":{"ttl":1}}', b'{"a":1}'),
        (b'{"cache":{"ttl":1}}', b"{}"),
        (
            b' {\n "a" : 1.0 ,\n "cache" : { "ttl" : 1 } ,\n "b" : "\xc3\xa9\\u00e9" }\n',
            b' {\n "a" : 1.0 ,\n "b" : "\xc3\xa9\\u00e9" }\n',
        ),
        (b'{"a":{"cache":{"x":1}},"cache":{"ttl":1}}', b'{"a":{"cache":{"x":1}}}'),
        (b'{"a":"\\"cache\\":{}","cache":{"ttl":1}}', b'{"a":"\\"cache\\":{}"}'),
    ],
)
def test_the_field_is_cut_out_and_nothing_else(body: bytes, rest: bytes) -> None:
    found = cachefield.cut(body)
    assert found is not None
    assert found == (rest, ((b"x-askonce-ttl", b"1"),))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'"cache"',
        b'{"a":{"cache":{}}}',
        b'{"cache":true}',
        b'{"cache":null}',
        b'{"cache":{},"cache":{}}',
        b'{"cache":{},}',
        b'{"cache":{}',
        b'{"cache":{}} x',
        b'{"cache" {}}',
        b'{"cache":{},"b":\xff}',
        b'{"b":1 "cache":{}}',
        b'{"cache":' + b"[" * 100_000,
    ],
)
def test_what_is_no_such_field_is_left_alone(body: bytes) -> None:
    assert cachefield.cut(body) is None


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ({"no-cache": True}, Control(no_cache=True)),
        ({"no-store": True}, Control(no_store=True)),
        ({"ttl": 300}, Control(ttl_s=300.0)),
        ({"ttl": 1.5}, Control(ttl_s=1.0)),
        ({"s-maxage": 60}, Control(max_age_s=60)),
        ({"s-max-age": 60}, Control(max_age_s=60)),
        ({"namespace": "a b"}, Control(namespace=b"a b")),
        ({"use-cache": True}, Control(opt=True)),
        ({"no-cache": "yes", "ttl": "5", "s-maxage": True, "namespace": 1, "use-cache": False}, Control()),
        ({}, Control()),
    ],
)
def test_the_field_means_what_it_means_to_litellm(said: Mapping[str, object], means: Control) -> None:
    found = cachefield.cut(answers.compact({"model": "m", "cache": said}))
    assert found is not None
    assert policy.control(Fields(found[1])) == means


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.dictionaries(st.text(max_size=8).filter(lambda name: name != "cache"), JSON, max_size=4),
    st.integers(0, 4),
    st.sampled_from([None, 1]),
    st.booleans(),
)
def test_what_is_left_is_the_body_without_the_field(
    rest: dict[str, object], place: int, indent: int | None, ascii_only: bool
) -> None:
    items = list(rest.items())
    items.insert(place, ("cache", {"no-cache": True}))
    body = json.dumps(dict(items), indent=indent, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    found = cachefield.cut(body)
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        assert found is None
        return
    assert found is not None
    assert list(json.loads(found[0]).items()) == list(rest.items())


def test_a_request_with_the_field_is_the_request_without_it(start_proxy: StartProxy) -> None:
    ways = start_proxy(compat__litellm_cache_field="true")
    plain, fresh = ways.chat(), ways.chat(cache={"no-cache": True})
    other = ways.chat(cache={"namespace": "other"})
    assert outcomes(ways, plain, ways.chat(cache={}), fresh, other, other, ways.chat(cache={"no-store": True})) == [
        "MISS not_found",
        "HIT found",
        "MISS no_cache",
        "MISS not_found",
        "HIT found",
        "BYPASS no_store",
    ]
    sent = [bytes(request.body) for request in ways.received()]
    assert sent == [bytes(ways.chat_body())] * 4
    assert [request.values("cache-control") for request in ways.received()] == [[]] * 4


def test_the_field_opts_in_whatever_the_temperature(start_proxy: StartProxy) -> None:
    ways = start_proxy(compat__litellm_cache_field="true")
    octets = ways.chat(temperature=1, cache={"use-cache": True, "ttl": 100})
    assert outcomes(ways, octets, octets) == ["MISS not_found", "HIT found"]


def test_without_the_switch_it_is_a_field_like_any_other(ways: Ways) -> None:
    plain, other = ways.chat(), ways.chat(cache={"ttl": 5})
    assert outcomes(ways, plain, other, other) == ["MISS not_found", "MISS not_found", "HIT found"]
    assert json.loads(bytes(ways.received()[1].body))["cache"] == {"ttl": 5}
