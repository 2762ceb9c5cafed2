"""The caching service for those who do not speak to a provider: entries by hand, a plain chat, what was saved."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import pytest

from proxy import cli
from tests import answers, raw_client
from tests.comparison import Ways
from tests.conftest import StartProxy
from tests.observation import settled
from tests.raw_client import Headers, RawAnswer

pytestmark = pytest.mark.proxy_only

KEY = ("Authorization", "Bearer sk-contract")
MODEL = "gpt-4o-mini"


def ask(ways: Ways, path: str, body: object = None, *, method: str = "POST", headers: Headers = (KEY,)) -> RawAnswer:
    """What a page answers."""
    octets = None if body is None else answers.compact(body)
    answer = raw_client.exchange(ways.proxy, raw_client.request(method, path, headers, octets, host=b"127.0.0.1"))
    # What was answered may still be on its way into the store.
    settled(ways.proxy, requests=0, fetches=0)
    return answer


def said(ways: Ways, path: str, body: object = None, **more: Any) -> dict[str, Any]:
    """The JSON that a page answers with."""
    answer = ask(ways, path, body, **more)
    assert answer.status == 200, bytes(answer.body)
    told: dict[str, Any] = json.loads(answer.body)
    return told


def question(ways: Ways, **more: object) -> dict[str, object]:
    """A question that nobody else asks."""
    return {"prompt": f"Tell me about {ways.nonce}.", "model": MODEL, **more}


def put(ways: Ways, response: str, **more: object) -> None:
    """Put an answer into the cache by hand."""
    assert said(ways, "/v1/cache/set", question(ways, response=response, **more)) == {"status": "cached"}


MISS = {"hit": False, "tier": None, "response": None, "similarity": None}


def test_what_was_put_by_hand_is_found_by_hand(ways: Ways) -> None:
    assert said(ways, "/v1/cache/get", question(ways)) == MISS
    put(ways, "Well.")
    assert said(ways, "/v1/cache/get", question(ways)) == {
        "hit": True,
        "tier": "l1_exact",
        "response": "Well.",
        "similarity": 1.0,
    }
    assert ways.received() == []


@pytest.mark.parametrize(
    "other", [{"model": "gpt-4o"}, {"temperature": 0.5}, {"system_prompt": "Be brief."}, {"prompt": "Other?"}]
)
def test_another_question_has_another_answer(ways: Ways, other: dict[str, object]) -> None:
    put(ways, "Well.")
    assert said(ways, "/v1/cache/get", question(ways, **other)) == MISS
    put(ways, "Else.", **other)
    assert said(ways, "/v1/cache/get", question(ways, **other))["response"] == "Else."
    assert said(ways, "/v1/cache/get", question(ways))["response"] == "Well."


def test_what_was_put_by_hand_answers_a_real_request(ways: Ways) -> None:
    put(ways, "Well…", ttl=60)
    answer = ways.through(ways.chat()).answer
    assert (answer.get("x-cache"), answer.get("x-cache-reason")) == ("HIT", "found")
    told = json.loads(answer.body)
    assert told["choices"][0]["message"]["content"] == "Well…"
    assert told["usage"]["total_tokens"] == told["usage"]["prompt_tokens"] + told["usage"]["completion_tokens"] > 0
    assert answer.get("x-cache-saved-method") == "counted"
    streamed = ways.through(ways.chat(stream=True, stream_options={"include_usage": True})).answer
    assert (streamed.get("x-cache"), streamed.get("x-cache-reason")) == ("HIT", "transcoded")
    assert b'"content":"Well\xe2\x80\xa6"' in streamed.body
    assert ways.received() == []


def test_a_real_answer_is_found_by_hand_whole_or_streamed(ways: Ways) -> None:
    answer = ways.through(ways.chat(stream=True)).answer
    assert answer.get("x-cache") == "MISS"
    settled(ways.proxy, requests=0, fetches=0)
    found = said(ways, "/v1/cache/get", question(ways))
    assert (found["hit"], found["tier"]) == (True, "l1_exact")
    assert found["response"]
    assert len(ways.received()) == 1


def test_a_request_with_more_than_that_is_another(ways: Ways) -> None:
    put(ways, "Well.")
    assert ways.through(ways.chat(max_tokens=5)).answer.get("x-cache") == "MISS"


def test_what_was_put_by_hand_is_for_its_own_tenant(ways: Ways) -> None:
    put(ways, "Well.")
    other = (("Authorization", "Bearer sk-another"),)
    assert said(ways, "/v1/cache/get", question(ways), headers=other) == MISS
    assert said(ways, "/v1/cache/get", question(ways), headers=(KEY, ("x-askonce-namespace", "n"))) == MISS


def test_what_was_put_by_hand_expires(ways: Ways) -> None:
    ask(ways, "/v1/cache/set", question(ways, response="Well.", ttl=0))
    assert said(ways, "/v1/cache/get", question(ways)) == MISS


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/v1/cache/get", [], "send a JSON object"),
        ("/v1/cache/get", {}, "`prompt` is a text"),
        ("/v1/cache/get", {"prompt": "a", "temperature": "0"}, "`temperature` is a number"),
        ("/v1/cache/get", {"prompt": "a", "temperature": True}, "`temperature` is a number"),
        ("/v1/cache/get", {"prompt": "a", "system_prompt": 1}, "`system_prompt` is a text"),
        ("/v1/cache/set", {"prompt": "a"}, "`response` is a text"),
        ("/v1/cache/set", {"prompt": "a", "response": "b", "ttl": -1}, "`ttl` is a number"),
        ("/v1/chat", {"messages": []}, "`messages` is a list"),
        ("/v1/chat", {"messages": [{}], "use_cache": 1}, "`use_cache` is true or false"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(ways: Ways, path: str, body: object, message: str) -> None:
    answer = ask(ways, path, body)
    assert answer.status == 400
    assert message in json.loads(answer.body)["error"]["message"]


# A plain chat.


def test_a_chat_is_answered_once_and_then_from_the_cache(ways: Ways) -> None:
    asked = {"messages": [{"role": "user", "content": f"Tell me about {ways.nonce}."}], "model": MODEL}
    first, second = said(ways, "/v1/chat", asked), said(ways, "/v1/chat", asked)
    assert (first["cached"], first["cache_tier"]) == (False, None)
    assert (second["cached"], second["cache_tier"]) == (True, "l1_exact")
    assert first["content"] == second["content"] != ""
    assert second["cost"] == 0
    assert first["latency_ms"] > 0
    (received,) = ways.received()
    assert (received.target, received.values("authorization")) == (b"/v1/chat/completions", [b"Bearer sk-contract"])
    assert json.loads(bytes(received.body)) == {**asked, "temperature": 0}
    assert said(ways, "/v1/cache/get", question(ways))["response"] == first["content"]


def test_a_chat_costs_what_its_answer_costs(start_proxy: StartProxy) -> None:
    ways = start_proxy(accounting__provider="openai")
    asked = {"messages": [{"role": "user", "content": ways.nonce}], "max_tokens": 7}
    told = said(ways, "/v1/chat", asked)
    assert 0 < told["cost"] < 0.01
    assert json.loads(bytes(ways.received()[0].body))["max_tokens"] == 7


def test_a_chat_that_wants_no_cache_has_none(ways: Ways) -> None:
    asked = {"messages": [{"role": "user", "content": ways.nonce}], "use_cache": False}
    assert [said(ways, "/v1/chat", asked)["cached"] for _ in range(2)] == [False, False]
    assert len(ways.received()) == 2
    assert ways.received()[0].values("cache-control") == []


def test_an_error_of_the_provider_is_passed_on(ways: Ways) -> None:
    ways.plays(answers.whole(b'{"error":{"message":"slow down"}}', status=429))
    answer = ask(ways, "/v1/chat", {"messages": [{"role": "user", "content": ways.nonce}]})
    assert (answer.status, bytes(answer.body)) == (429, b'{"error":{"message":"slow down"}}')


@pytest.mark.parametrize(
    "body",
    [
        b'{"message":"%s"}',
        b"%s",
        b'{"messages":[{"role":"user","content":"%s"}],"stream":false}',
        b'{"message":"%s","pad":"' + b"x" * 2_000_000 + b'"}',
    ],
)
def test_a_chat_of_another_shape_is_for_the_provider(ways: Ways, body: bytes) -> None:
    ways.alike(ways.post("/v1/chat", body % ways.nonce.encode()), answers.whole(b'{"text":"Hello."}'))


# Removing.


def test_everything_can_be_removed(start_proxy: StartProxy) -> None:
    ways = start_proxy()
    put(ways, "Well.")
    ways.through(ways.chat())
    assert said(ways, "/v1/cache?dry_run=1", method="DELETE") == {"status": "counted", "removed": 1, "dry_run": True}
    assert ways.through(ways.chat()).answer.get("x-cache") == "HIT"
    assert said(ways, "/v1/cache", method="DELETE") == {"status": "cleared", "removed": 1, "dry_run": False}
    assert ways.through(ways.chat()).answer.get("x-cache") == "MISS"


def test_what_is_described_is_removed_and_nothing_else(start_proxy: StartProxy) -> None:
    ways = start_proxy()
    put(ways, "mini")
    put(ways, "4o", model="gpt-4o")
    put(ways, "dated", model="gpt-4o-2024-08-06")
    named = {"headers": (KEY, ("x-askonce-namespace", "one"))}
    said(ways, "/v1/cache/set", question(ways, response="named"), **named)
    assert said(ways, "/v1/cache?namespace=one", method="DELETE")["removed"] == 1
    assert said(ways, "/v1/cache/get", question(ways), **named) == MISS
    assert said(ways, "/v1/cache?older_than=3600", method="DELETE")["removed"] == 0
    assert said(ways, "/v1/cache?model=gpt-4o", method="DELETE")["removed"] == 2
    key = ways.through(ways.chat()).answer.get("x-cache-key")
    assert said(ways, f"/v1/cache?key={key}&model=nothing", method="DELETE")["removed"] == 0
    assert said(ways, f"/_askonce/cache?key={key}", method="DELETE")["removed"] == 1
    assert said(ways, "/v1/cache?dry_run=1", method="DELETE")["removed"] == 0


@pytest.mark.parametrize("query", ["modle=x", "key=ab", "older_than=soon", "dry_run=maybe"])
def test_what_is_not_understood_removes_nothing(start_proxy: StartProxy, query: str) -> None:
    ways = start_proxy()
    put(ways, "Well.")
    assert ask(ways, f"/v1/cache?{query}", method="DELETE").status == 400
    assert said(ways, "/v1/cache/get", question(ways))["hit"]


def test_what_was_removed_is_not_answered_the_short_way(start_proxy: StartProxy) -> None:
    ways = start_proxy()
    for _ in range(3):
        ways.through(ways.chat())
    said(ways, "/v1/cache", method="DELETE")
    assert ways.through(ways.chat()).answer.get("x-cache") == "MISS"


# What was saved.


def test_stats_tell_what_the_service_did(start_proxy: StartProxy) -> None:
    ways = start_proxy(accounting__provider="openai")
    nothing = said(ways, "/v1/cache/stats", method="GET")
    assert nothing["exact_cache"] == {"hits": 0, "misses": 0, "hit_rate": 0.0}
    assert nothing["semantic_cache"] == {"entries": 0, "hits": 0, "misses": 0, "hit_rate": 0.0}
    asked = {"messages": [{"role": "user", "content": f"Tell me about {ways.nonce}."}]}
    for _ in range(4):
        said(ways, "/v1/chat", asked)
    said(ways, "/v1/cache/get", question(ways))
    said(ways, "/v1/cache/get", question(ways, model="other"))
    told = said(ways, "/v1/cache/stats", method="GET")
    assert told["exact_cache"] == {"hits": 4, "misses": 2, "hit_rate": 0.6667}
    overall = told["overall"]
    assert (overall["total_requests"], overall["cached_requests"], overall["cache_rate"]) == (4, 3, 0.75)
    assert overall["saved_cost"] == pytest.approx(3 * overall["total_cost"])
    assert said(ways, "/health", method="GET")["status"] == "healthy"


# Who may.

GUARDED = [("POST", "/v1/cache/get"), ("POST", "/v1/cache/set"), ("DELETE", "/v1/cache"), ("DELETE", "/_askonce/cache")]


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_only_the_operator_reads_and_writes_by_hand(start_proxy: StartProxy, method: str, path: str) -> None:
    ways = start_proxy(admin__token="t0ken-of-the-operator")
    body = question(ways, response="Well.") if method == "POST" else None
    assert ask(ways, path, body, method=method).status == 401
    with_token = (KEY, ("x-askonce-admin-token", "t0ken-of-the-operator"))
    assert ask(ways, path, body, method=method, headers=with_token).status == 200


@pytest.mark.parametrize(("method", "path"), GUARDED)
def test_no_page_of_another_origin_drives_a_local_proxy(ways: Ways, method: str, path: str) -> None:
    foreign = (KEY, ("Origin", "https://evil.example"))
    body = question(ways, response="Well.") if method == "POST" else None
    assert ask(ways, path, body, method=method, headers=foreign).status == 403


def test_the_service_can_be_left_to_the_provider(start_proxy: StartProxy) -> None:
    ways = start_proxy(own_paths__guide="false")
    for method, path in (("POST", "/v1/cache/get"), ("GET", "/v1/cache/stats"), ("DELETE", "/v1/cache")):
        ways.through(ways.request(method, path))
    assert len(ways.received()) == 3


def test_a_chat_needs_a_clients_key_where_the_proxy_gives_keys(start_proxy: StartProxy, tmp_path: Path) -> None:
    file, secret = tmp_path / "keys.json", tmp_path / "provider.key"
    secret.write_text("sk-of-the-provider\n")
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        assert cli.main(["keys", "new", "ann", "--file", str(file)]) == 0
    key = told.getvalue().strip()
    ways = start_proxy(keys__mode="shared", keys__file=str(file), upstream__key_file=str(secret))
    asked = {"messages": [{"role": "user", "content": f"Tell me about {ways.nonce}."}], "model": MODEL}
    for wrong in ((), (("Authorization", "Bearer sk-unknown"),)):
        assert ask(ways, "/v1/chat", asked, headers=wrong).status == 401
    ann = (("Authorization", f"Bearer {key}"),)
    assert [said(ways, "/v1/chat", asked, headers=ann)["cached"] for _ in range(2)] == [False, True]
    (received,) = ways.received()
    assert received.values("authorization") == [b"Bearer sk-of-the-provider"]
    # There is one tenant, so what a client was answered is found by hand.
    assert said(ways, "/v1/cache/get", question(ways), headers=())["hit"]
