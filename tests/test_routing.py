"""Several providers: which call goes to which, and that nothing of one is ever another's."""

import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import config
from proxy.errors import ConfigError
from proxy.providers.routing import Route, Routing, Way, routing
from proxy.settings import Config
from tests import answers
from tests.conftest import StartProxy
from tests.scripted_provider import ScriptedProvider, steps

CHAT, MESSAGES, EMBEDDINGS = "/v1/chat/completions", "/v1/messages", "/v1/embeddings"


def of(**named: dict[str, object]) -> Routing:
    """The routing that these settings describe, beside a default provider."""
    sets = ["upstream=http://default"]
    for name, said in named.items():
        sets.append(f"upstreams.{name}={json.dumps({'url': f'http://{name}', **said})}")
    settings = config.load(environment={}, sets=sets)
    return routing(settings.upstream, settings.upstreams)


def taken(table: Routing, path: str, model: str = "") -> str:
    """The name of the provider that takes a call."""
    return table.way(path.encode()).route(model).name


# Decisions.


def test_one_provider_takes_everything() -> None:
    assert taken(of(), CHAT, "gpt-4o") == ""


@pytest.mark.parametrize(
    ("pattern", "path", "fits"),
    [
        ("/v1/messages", MESSAGES, True),
        ("/v1/messages", f"{MESSAGES}/batches", False),
        ("/v1/messages*", f"{MESSAGES}/batches", True),
        ("/openai/*", "/openai/deployments/x/chat/completions", True),
        ("/openai/*", "/openai", False),
        ("/v1/m.ssages", MESSAGES, False),
        ("*/embeddings", EMBEDDINGS, True),
    ],
)
def test_a_path_is_matched_whole_and_a_star_stands_for_anything(pattern: str, path: str, fits: bool) -> None:
    if not pattern.startswith("/"):
        pattern = f"/{pattern}"
    assert taken(of(other={"paths": [pattern]}), path) == ("other" if fits else "")


def test_a_model_is_matched_by_pattern() -> None:
    table = of(claude={"models": ["claude-*", "opus"]})
    assert [taken(table, CHAT, model) for model in ("claude-3", "opus", "opus-2", "gpt-4o", "")] == [
        "claude",
        "claude",
        "",
        "",
        "",
    ]


def test_of_path_and_model_both_must_fit() -> None:
    table = of(local={"paths": [EMBEDDINGS], "models": ["bge-*"]})
    assert taken(table, EMBEDDINGS, "bge-m3") == "local"
    assert taken(table, EMBEDDINGS, "text-embedding-3-small") == ""
    assert taken(table, CHAT, "bge-m3") == ""


def test_the_first_that_takes_a_call_gets_it() -> None:
    table = of(one={"models": ["a*"]}, two={"paths": [CHAT]}, three={"models": ["*"]})
    assert [taken(table, CHAT, model) for model in ("ab", "b")] == ["one", "two"]
    assert [taken(table, MESSAGES, model) for model in ("ab", "b")] == ["one", "three"]


def test_a_call_whose_body_nobody_reads_goes_by_its_path_alone() -> None:
    table = of(claude={"models": ["*"]}, files={"paths": ["/v1/files*"]})
    assert table.way(b"/v1/files/x").unread.name == "files"
    assert table.way(b"/v1/models").unread.name == ""


@pytest.mark.parametrize(
    ("target", "inner"),
    [
        (b"/groq/openai/v1/models?a=b", b"/openai/v1/models?a=b"),
        (b"/groq", b"/"),
        (b"/groq/", b"/"),
        (b"/groq?x=1", b"/?x=1"),
        (b"/groq//v1", b"//v1"),
    ],
)
def test_a_prefix_is_cut_off(target: bytes, inner: bytes) -> None:
    way = of(groq={"prefix": "/groq/"}).way(target.partition(b"?")[0])
    assert (way.unread.name, way.inner(target)) == ("groq", inner)


def test_a_prefix_ends_where_a_segment_ends() -> None:
    assert of(groq={"prefix": "/groq"}).way(b"/groqqy/v1").unread.name == ""


@given(st.binary(max_size=40), st.text(max_size=10))
def test_every_call_goes_somewhere(path: bytes, model: str) -> None:
    table = of(one={"prefix": "/one"}, two={"paths": ["/v1/*"], "models": ["g*"]}, three={"paths": ["/x*"]})
    assert table.way(path).route(model) in table.routes
    assert not table.way(path).unread.models


def test_answers_of_two_names_are_kept_apart_even_for_one_address() -> None:
    table = routing(
        Config().upstream,
        config.load(
            environment={},
            sets=[
                'upstreams.a={url: "https://api.openai.com", models: [a]}',
                'upstreams.b={url: "https://api.openai.com", models: [b]}',
            ],
        ).upstreams,
    )
    assert len({route.identity for route in table.routes}) == 3


def test_a_way_of_its_own_leads_to_the_default() -> None:
    assert Way().route("any") == Route()


# Settings.


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("upstreams.a={models: [x]}", "upstreams.a.url: '' must begin with http:// or https://"),
        (
            "upstreams.a={url: 'http://h'}",
            "upstreams.a: nothing leads to it; set upstreams.a.prefix, .paths or .models",
        ),
        ("upstreams.a.ulr=x", "upstreams.a.ulr: unknown setting, did you mean upstreams.a.url?"),
        ("upstreams.a=5", "upstreams.a: expected a section with settings, found a number (5)"),
        ("upstreams=5", "upstreams: expected sections as `name: {setting: value}`, found a number (5)"),
        ("upstreams.A={url: 'http://h', models: [x]}", "upstreams.A: a name is made of a-z, 0-9, _ and -"),
        (
            "upstreams.a={url: 'http://h', prefix: /a, models: [x]}",
            "upstreams.a.prefix: leads there alone; drop it, or paths and models",
        ),
        (
            "upstreams.a={url: 'http://h', prefix: /}",
            "upstreams.a.prefix: would take every path; to send everything there, set upstream.url",
        ),
        (
            "upstreams.a={url: 'http://h', prefix: /_askonce/x}",
            "upstreams.a.prefix: everything below /_askonce is the proxy's own",
        ),
        ("upstreams.a={url: 'http://h', paths: [v1]}", "upstreams.a.paths[0]: a path begins with / and has no query"),
        (
            "upstreams.a={url: 'http://u:p@h', models: [x]}",
            "upstreams.a.url: must not carry credentials; send them with upstreams.a.add_headers",
        ),
        (
            "upstreams.a={url: 'http://h', models: [x], add_headers: {host: x}}",
            "upstreams.a.add_headers.host: frames or routes the request and is written by the proxy",
        ),
        (
            "upstreams.a={url: 'http://h', models: [x], more_paths: {/x: /chat}}",
            "upstreams.a.more_paths: must be one of /chat/completions, /completions, /responses, /embeddings, ",
        ),
    ],
)
def test_a_wrong_setting_is_told_by_its_path(said: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(environment={}, sets=[said])
    assert str(caught.value).startswith(message)


def test_a_provider_can_be_set_one_setting_at_a_time() -> None:
    loaded = config.load(
        environment={"ASKONCE_UPSTREAMS__CLAUDE__URL": "http://h", "ASKONCE_UPSTREAMS__CLAUDE__KEEPALIVE_S": "3"},
        sets=["upstreams.claude.models=claude-*, opus", "upstreams.claude.more_paths./ask=/messages"],
    ).upstreams["claude"]
    assert (loaded.url, loaded.keepalive_s, loaded.models) == ("http://h", 3.0, ("claude-*", "opus"))
    assert loaded.more_paths == {"/ask": "/messages"}


def test_the_secrets_of_every_provider_are_masked() -> None:
    loaded = config.load(
        environment={}, sets=["upstreams.a={url: 'http://h', models: [x], add_headers: {x-key: s3cret}}"]
    )
    assert "s3cret" not in json.dumps(config.effective(loaded))
    assert config.effective(loaded)["upstreams"]["a"]["models"] == ["x"]  # type: ignore[index]


# Through a running proxy.


@pytest.fixture
def other() -> Iterator[ScriptedProvider]:
    """A second provider."""
    with ScriptedProvider() as running:
        yield running


def body(model: str, nonce: str, **more: object) -> bytes:
    """A repeatable chat request."""
    prompt = [{"role": "user", "content": f"Say {nonce}."}]
    return answers.compact({"model": model, "messages": prompt, "temperature": 0, "max_tokens": 9, **more})


def test_a_call_reaches_the_provider_that_its_model_names_and_is_answered_from_its_recording(
    start_proxy: StartProxy, other: ScriptedProvider
) -> None:
    ways = start_proxy(upstreams__claude__url=other.origin, upstreams__claude__models="claude-*")
    for model, asked, idle in (
        ("claude-3", other, ways.provider),
        ("gpt-4o", ways.provider, other),
    ):
        before = len(idle.requests(ways.nonce))
        labels = [ways.through(ways.post(CHAT, body(model, ways.nonce))).answer.get("x-cache") for _ in range(3)]
        assert labels == ["MISS", "HIT", "HIT"]
        assert len(asked.requests(ways.nonce)) == 1
        assert len(idle.requests(ways.nonce)) == before


def test_one_body_to_two_providers_is_two_answers(start_proxy: StartProxy, other: ScriptedProvider) -> None:
    ways = start_proxy(upstreams__two__url=other.origin, upstreams__two__prefix="/two")
    octets = body("m", ways.nonce)
    ways.plays(answers.whole(answers.chat_body("One.")))
    other.on(ways.nonce, steps(answers.whole(answers.chat_body("Two."))))
    first = ways.through(ways.post(CHAT, octets)).answer
    second = ways.through(ways.post(f"/two{CHAT}", octets)).answer
    assert [first.get("x-cache"), second.get("x-cache")] == ["MISS", "MISS"]
    assert bytes(first.body) != bytes(second.body)
    assert other.requests(ways.nonce)[0].target == CHAT.encode()
    for path, answer in ((CHAT, first), (f"/two{CHAT}", second), (CHAT, first)):
        again = ways.through(ways.post(path, octets)).answer
        assert (again.get("x-cache"), bytes(again.body)) == ("HIT", bytes(answer.body))


def test_what_is_not_cached_goes_by_its_path_untouched(start_proxy: StartProxy, other: ScriptedProvider) -> None:
    ways = start_proxy(upstreams__two__url=other.origin, upstreams__two__prefix="/two")
    answer = ways.through(ways.request("GET", "/two/v1/models?after=a%2Fb")).answer
    assert answer.status == 200
    assert [request.target for request in other.requests(ways.nonce)] == [b"/v1/models?after=a%2Fb"]
    assert other.requests(ways.nonce)[0].values("host") == [other.origin.removeprefix("http://").encode()]


def test_a_websocket_goes_by_its_path(start_proxy: StartProxy, other: ScriptedProvider) -> None:
    ways = start_proxy(upstreams__two__url=other.origin, upstreams__two__prefix="/two")
    upgrade = (("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"))
    ways.plays(answers.whole(b"{}", status=401))
    other.on(ways.nonce, steps(answers.whole(b"{}", status=401)))
    answer = ways.through(ways.request("GET", "/two/v1/realtime", (*upgrade, ("Sec-WebSocket-Key", "AAAA")))).answer
    assert answer.status == 401
    assert [request.target for request in other.requests(ways.nonce)] == [b"/v1/realtime"]


def test_a_provider_can_be_kept_out_of_the_cache(start_proxy: StartProxy, other: ScriptedProvider) -> None:
    ways = start_proxy(
        upstreams__two__url=other.origin, upstreams__two__models="local-*", upstreams__two__cache="false"
    )
    answered = [ways.through(ways.post(CHAT, body("local-1", ways.nonce))).answer for _ in range(2)]
    assert [(each.get("x-cache"), each.get("x-cache-reason")) for each in answered] == [("BYPASS", "cache_off")] * 2
    assert len(other.requests(ways.nonce)) == 2


def test_a_provider_can_speak_a_dialect_on_a_path_of_its_own(start_proxy: StartProxy, other: ScriptedProvider) -> None:
    ways = start_proxy(
        upstreams__two__url=other.origin,
        upstreams__two__prefix="/two",
        **{"upstreams__two__more_paths./ask": "/chat/completions"},
    )
    other.on(ways.nonce, steps(answers.whole(answers.chat_body("Yes."))))
    labels = [ways.through(ways.post("/two/ask", body("m", ways.nonce))).answer.get("x-cache") for _ in range(2)]
    assert labels == ["MISS", "HIT"]
    assert ways.through(ways.post("/ask", body("m", ways.nonce))).answer.get("x-cache") is None


def test_each_provider_has_its_own_prices(start_proxy: StartProxy, other: ScriptedProvider) -> None:
    ways = start_proxy(
        upstreams__claude__url=other.origin,
        upstreams__claude__models="claude-*",
        upstreams__claude__provider="anthropic",
        accounting__flat_rate="true",
    )
    for model in ("claude-3-5-haiku-20241022", "gpt-4o"):
        ways.through(ways.post(MESSAGES if "claude" in model else CHAT, body(model, ways.nonce)))
    hits = [
        ways.through(ways.post(MESSAGES if "claude" in model else CHAT, body(model, ways.nonce))).answer
        for model in ("claude-3-5-haiku-20241022", "gpt-4o")
    ]
    assert [hit.get("x-cache") for hit in hits] == ["HIT", "HIT"]
    dear, free = (hit.get("x-cache-saved-usd") for hit in hits)
    assert dear is not None
    assert float(dear) > 0
    assert free is not None
    assert float(free) == 0
