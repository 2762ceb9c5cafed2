"""The proxy's own pages: documented JSON at /stats, health at /healthz, and no path that cannot be had back."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import jsonschema
import pytest
from jsonschema import Draft202012Validator

from proxy.model import Outcome, Reason, Unkept
from tests import answers, raw_client
from tests.answers import EVENTS, JSON, chunk
from tests.comparison import Ways
from tests.conftest import StartProxy
from tests.observation import settled, stats
from tests.raw_client import Framing, Headers, RawAnswer
from tests.scripted_provider import End, Gate, steps

pytestmark = pytest.mark.proxy_only

Schema: TypeAlias = dict[str, Any]

SCHEMA: Schema = json.loads(
    (Path(__file__).resolve().parent.parent / "docs" / "stats.schema.json").read_text(encoding="utf-8")
)
VALIDATOR = Draft202012Validator(SCHEMA)

SHORT_NAMES = {
    "/stats": "own_paths__stats",
    "/metrics": "own_paths__metrics",
    "/healthz": "own_paths__healthz",
    "/health": "own_paths__health",
}
OWN = ("/_askonce/stats", "/_askonce/metrics", "/_askonce/healthz", "/_askonce/requests")


def get(ways: Ways, path: str, *, method: str = "GET", headers: Headers = ()) -> RawAnswer:
    """The answer to a request without a body that carries the nonce."""
    asked = ways.request(method, path, headers)
    # What is for the operator wants a name of this machine.
    return raw_client.exchange(ways.proxy, asked.replace(b"Host: client.example", b"Host: localhost"))


def parts(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Every part of *schema* that describes a value, and where it stands."""
    yield path or "(root)", schema
    for name, part in schema.get("properties", {}).items():
        yield from parts(part, f"{path}.{name}")
    for name, part in schema.get("$defs", {}).items():
        yield from parts(part, f"$defs.{name}")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from parts(schema["additionalProperties"], f"{path}.*")


# --- the schema ------------------------------------------------------------------------------------------------------


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_the_schema_describes_every_field_and_allows_no_other() -> None:
    for path, part in parts(SCHEMA):
        assert part.get("description"), f"{path} has no description"
        assert {"type", "$ref", "enum"} & part.keys(), f"{path} may be anything"
        if part.get("type") == "object" and path != ".models":
            assert part["additionalProperties"] is False, f"{path} allows more"
            assert part["required"] == list(part["properties"]), f"{path} does not require all it names"


def test_the_schema_knows_the_vocabularies() -> None:
    fields = SCHEMA["properties"]
    assert list(fields["reasons"]["properties"]) == [str(reason) for reason in Reason]
    assert list(fields["unkept"]["properties"]) == [str(unkept) for unkept in Unkept]
    for figures in ("latency_ms", "first_byte_ms"):
        assert list(fields[figures]["properties"]) == [str(outcome) for outcome in Outcome]


def test_the_schema_misses_what_is_missing_and_refuses_what_is_new(start_proxy: StartProxy) -> None:
    shown = dict(stats(start_proxy().proxy))
    for name in shown:
        with pytest.raises(jsonschema.ValidationError, match=f"'{name}' is a required property"):
            VALIDATOR.validate({other: value for other, value in shown.items() if other != name})
    with pytest.raises(jsonschema.ValidationError, match="'surprise' was unexpected"):
        VALIDATOR.validate({**shown, "surprise": 1})
    with pytest.raises(jsonschema.ValidationError, match="-1 is less than the minimum"):
        VALIDATOR.validate({**shown, "hits": -1})


# --- /stats ----------------------------------------------------------------------------------------------------------


def test_stats_fit_the_schema_before_anything_happened(start_proxy: StartProxy) -> None:
    shown = stats(start_proxy().proxy)
    VALIDATOR.validate(shown)
    assert (shown["requests"], shown["models"], shown["connections"]) == (0, {}, 1)


def test_stats_fit_the_schema_after_everything_happened(start_proxy: StartProxy) -> None:
    ways = start_proxy(ledger__max_models="2")
    gate = Gate()
    ways.provider.on("joins", steps(gate, answers.whole(answers.chat_body("For two."))))
    ways.provider.on("breaks", steps(answers.chunked_head(EVENTS), chunk(b": half\n\n"), End.RESET))
    ways.provider.on("fails", steps(answers.whole(b"{}", status=500)))
    for _ in range(2):
        raw_client.exchange(ways.proxy, ways.chat())
    raw_client.exchange(ways.proxy, ways.chat(temperature=0.5, model="second"))
    raw_client.exchange(ways.proxy, ways.chat(model="third", kind="fails"))
    raw_client.exchange(ways.proxy, ways.chat(stream=True, kind="breaks"))
    raw_client.exchange(ways.proxy, ways.post("/v1/chat/completions", b"not JSON"))
    with ways.connect() as leader, ways.connect() as follower:
        for connection in (leader, follower):
            connection.send(ways.chat(kind="joins"))
        ways.settle()
        gate.open()
        for connection in (leader, follower):
            connection.read_answer("POST")
    shown = settled(ways.proxy, requests=8, fetches=6)
    VALIDATOR.validate(shown)
    assert all(shown[name] > 0 for name in ("hits", "joined", "misses", "bypassed", "errors", "forwarded", "kept"))
    assert set(shown["models"]) == {"gpt-4o-mini", "second", "(other)"}


@pytest.mark.parametrize("path", ["/stats", "/stats?pretty", "/_askonce/stats"])
def test_stats_are_json_that_nobody_keeps(ways: Ways, path: str) -> None:
    answer = get(ways, path)
    assert (answer.status, answer.reason, answer.framing) == (200, b"OK", Framing.LENGTH)
    assert answer.get("content-type") == "application/json"
    assert answer.get("cache-control") == "no-store"
    assert answer.get("x-cache") is None
    assert ways.received() == []
    VALIDATOR.validate(json.loads(answer.body))


def test_stats_are_of_the_moment_in_which_they_are_asked_for(ways: Ways) -> None:
    before = stats(ways.proxy)["requests"]
    raw_client.exchange(ways.proxy, ways.chat())
    assert settled(ways.proxy, requests=before + 1, fetches=0)["requests"] == before + 1


# --- /healthz --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/healthz", "/health", "/_askonce/healthz"])
def test_a_proxy_that_serves_is_healthy(ways: Ways, path: str) -> None:
    answer = get(ways, path)
    assert answer.status == 200
    assert answer.get("content-type") == "application/json"
    said = json.loads(answer.body)
    assert said.pop("semantic") in ("ready", "loading", "off")
    assert said == {"status": "healthy", "degraded": [], "version": stats(ways.proxy)["version"]}
    assert ways.received() == []


def test_a_proxy_without_its_provider_is_healthy_all_the_same(start_proxy: StartProxy, closed_port: int) -> None:
    ways = start_proxy(upstream=f"http://127.0.0.1:{closed_port}")
    assert raw_client.exchange(ways.proxy, ways.chat()).status == 502
    assert json.loads(get(ways, "/healthz").body)["status"] == "healthy"


# --- own paths and others --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*SHORT_NAMES, *OWN])
def test_head_of_an_own_page_has_its_head_and_no_body(ways: Ways, path: str) -> None:
    with ways.connect() as connection:
        connection.send(ways.request("HEAD", path))
        head = connection.read_answer("HEAD")
        # The connection is in step: what follows is the next answer.
        connection.send(ways.request("GET", path))
        whole = connection.read_answer("GET")
    assert (head.status, bytes(head.body)) == (whole.status, b"")
    assert head.get("content-type") == whole.get("content-type")
    assert int(head.get("content-length") or 0) > 20
    if "health" in path:
        assert head.headers == whole.headers
    assert ways.received() == []


@pytest.mark.parametrize("path", SHORT_NAMES)
def test_a_short_name_that_is_switched_off_is_forwarded_and_the_others_are_not(
    start_proxy: StartProxy, path: str
) -> None:
    ways = start_proxy(**{SHORT_NAMES[path]: "false"})
    ways.plays(answers.whole(b'{"from":"the provider"}', JSON), answers.head(200, (*JSON, ("Content-Length", "23"))))
    assert bytes(get(ways, path).body) == b'{"from":"the provider"}'
    assert get(ways, path, method="HEAD").status == 200
    assert [(each.method, each.target) for each in ways.received()] == [
        ("GET", path.encode()),
        ("HEAD", path.encode()),
    ]
    for other in (*OWN, *(name for name in SHORT_NAMES if name != path)):
        assert get(ways, other).status == 200
    assert len(ways.received()) == 2
    assert stats(ways.proxy)["forwarded"] == 2


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", SHORT_NAMES)
def test_what_is_neither_get_nor_head_is_forwarded(ways: Ways, path: str, method: str) -> None:
    get(ways, path, method=method)
    assert [(each.method, each.target) for each in ways.received()] == [(method, path.encode())]


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
@pytest.mark.parametrize("path", ["/_askonce/stat", "/_askonce/", "/_askonce/stats/", "/_askonce/stats?x"])
def test_nothing_below_our_own_prefix_is_forwarded(ways: Ways, path: str, method: str) -> None:
    answer = get(ways, path, method=method)
    expected = 200 if path.startswith("/_askonce/stats?") and method == "GET" else 404
    assert answer.status == expected
    assert ways.received() == []


@pytest.mark.parametrize(
    "path", ["/stats/", "/Stats", "/v1/stats", "/stats%20", "//stats", "/healthz/x", "/health?/../x"]
)
def test_only_the_very_path_is_the_proxys_own(ways: Ways, path: str) -> None:
    get(ways, path)
    own = path.partition("?")[0] in SHORT_NAMES
    assert [each.target for each in ways.received()] == ([] if own else [path.encode()])


def test_an_own_page_serves_a_client_of_http_1_0(ways: Ways) -> None:
    octets = ways.request("GET", "/healthz").replace(b"HTTP/1.1", b"HTTP/1.0", 1)
    with ways.connect() as connection:
        connection.send(octets)
        answer = connection.read_answer()
        assert connection.ended() is not None
    assert (answer.status, answer.framing) == (200, Framing.LENGTH)
