"""Semantic answers as a client meets them: through the running proxy, with the real model where it is at hand."""

import json
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from proxy.encoder import places
from proxy.keys.clients import Client, Roster, digest, new_key
from proxy.keys.keyfile import KeyFile
from tests import answers, raw_client
from tests.comparison import Ways
from tests.conftest import StartProxy
from tests.observation import assert_adds_up, stats, wait_for_stats
from tests.proxy_process import ProxyProcess
from tests.raw_client import Headers, RawAnswer
from tests.scripted_provider import Gate, ScriptedProvider, steps

needs_model = pytest.mark.skipif(
    places.find("") is None, reason="the model of the semantic tier is not on this machine: askonce model fetch"
)

ASKED = "How do I reset my password?"
SAME = "How can I reset my password?"
NEAR_MISS = "How do I not reset my password?"

OPERATOR = "the-operators-word"
BY_OPERATOR = ("x-askonce-admin-token", OPERATOR)
KEYS = re.compile(rb"[0-9a-f]{16}")

Start: TypeAlias = Callable[..., Ways]
DEFAULTS = {"semantic.policy": "fixed", "semantic.threshold": "0.9", "semantic.deadline_s": "5"}


@pytest.fixture(scope="module")
def running() -> Iterator[dict[str, ProxyProcess]]:
    """The proxies of this file, by their settings: the tests keep apart by scope."""
    started: dict[str, ProxyProcess] = {}
    yield started
    for process in started.values():
        process.stop()
    for process in started.values():
        process.assert_calm()


@pytest.fixture
def start(
    running: dict[str, ProxyProcess],
    provider: ScriptedProvider,
    tmp_path_factory: pytest.TempPathFactory,
    nonce: str,
) -> Iterator[Start]:
    """A proxy with these settings, its model loaded. Who counts asks for one of its own (*own*)."""

    def started(*, own: bool = False, **settings: str) -> Ways:
        chosen = {**DEFAULTS, **{name.replace("__", "."): value for name, value in settings.items()}}
        name = f"{chosen} {nonce if own else ''}"
        if name not in running:
            # The model is looked for in the home of whoever runs the proxy; a test's proxy has one of its own.
            running[name] = ProxyProcess(
                provider.origin,
                tmp_path_factory.mktemp("semantic") / "stderr.log",
                settings=chosen,
                environment={"XDG_CACHE_HOME": str(places.home().parent.parent)},
            )
        process = running[name]
        wait_for_stats(process.address, lambda shown: shown["semantic"]["state"] == "ready", timeout_s=15.0)
        return Ways(provider, process.address, process, nonce)

    yield started
    provider.forget(nonce)


def asked(text: str, **more: object) -> Mapping[str, object]:
    """A request with one question."""
    return {"model": "gpt-4o-mini", "temperature": 0, "messages": [{"role": "user", "content": text}], **more}


def octets(ways: Ways, text: str, *, headers: Headers = (), key: str = "sk-a", **more: object) -> bytes:
    """It, spelled out."""
    fields = (("Content-Type", "application/json"), ("Authorization", f"Bearer {key}"), *headers)
    # Every test has a scope of its own.
    body = asked(text, **{"seed": int(ways.nonce[-8:], 16), **more})
    return ways.request("POST", "/v1/chat/completions", fields, json.dumps(body).encode())


def ask(ways: Ways, text: str, *, headers: Headers = (), key: str = "sk-a", **more: object) -> RawAnswer:
    """The answer, once everything that it leaves behind is in its place."""
    answer = raw_client.exchange(ways.proxy, octets(ways, text, headers=headers, key=key, **more))
    settled(ways)
    return answer


def settled(ways: Ways) -> Mapping[str, Any]:
    """/stats, once nothing is under way."""
    return wait_for_stats(ways.proxy, lambda shown: shown["in_flight"] == 0)


def label(answer: RawAnswer) -> str:
    """How it was come by."""
    return f"{answer.get('x-cache')} {answer.get('x-cache-tier') or answer.get('x-cache-reason')}"


def why(answer: RawAnswer) -> str:
    """Why no other question's answer was given."""
    return (answer.get("cache-status") or "").partition("semantic=")[2]


@needs_model
def test_a_semantic_hit_is_the_recorded_answer_and_says_so(start: Start) -> None:
    ways = start()
    first, hit = ask(ways, ASKED), ask(ways, SAME)
    assert (label(first), label(hit)) == ("MISS not_found", "HIT semantic")
    assert hit.body == first.body
    assert hit.get("x-cache-reason") == "similar"
    assert 0.9 <= float(hit.get("x-cache-similarity") or 0) < 1
    assert float(hit.get("x-cache-score") or 0) >= 0.9
    assert hit.get("x-cache-key") == first.get("x-cache-key")
    assert hit.get("age") is not None
    assert len(ways.received()) == 1


@needs_model
def test_without_headers_a_semantic_hit_still_says_that_it_is_one_and_can_be_refused(start: Start) -> None:
    ways = start(headers="none")
    first, hit, again = ask(ways, ASKED), ask(ways, SAME), ask(ways, ASKED)
    assert first.body == hit.body == again.body
    told = [
        [name for name, _ in answer.headers if name.lower().startswith(b"x-cache")] for answer in (first, hit, again)
    ]
    assert (told, hit.get("x-cache-tier")) == ([[], [b"x-cache-tier"], []], "semantic")
    assert (hit.get("cache-status"), hit.get("age")) == (None, None)
    refused = ask(ways, SAME, headers=(("x-askonce-semantic", "off"),))
    assert refused.get("x-cache-tier") is None
    assert len(ways.received()) == 2


@needs_model
def test_a_near_miss_is_asked_and_the_client_reads_why(start: Start) -> None:
    ways = start()
    ask(ways, ASKED)
    answer = ask(ways, NEAR_MISS)
    assert (label(answer), why(answer)) == ("MISS not_found", "guarded")
    assert len(ways.received()) == 2


@needs_model
def test_the_same_question_is_exact_once_it_has_an_answer_of_its_own(start: Start) -> None:
    ways = start()
    ask(ways, ASKED)
    assert label(ask(ways, SAME)) == "HIT semantic"
    assert label(ask(ways, SAME, headers=(("x-askonce-semantic", "off"),))) == "MISS not_found"
    assert label(ask(ways, SAME)) == "HIT exact"


@needs_model
@pytest.mark.parametrize(
    ("headers", "served"),
    [
        ((), True),
        ((("x-askonce-semantic", "on"),), True),
        ((("X-AskOnce-Semantic", " OFF "),), False),
        ((("x-askonce-min-similarity", "0.5"),), True),
        ((("x-askonce-min-similarity", "0.9999"),), False),
        ((("x-askonce-min-similarity", "high"),), False),
        ((("Cache-Control", "no-cache"),), False),
    ],
)
def test_a_request_may_refuse_or_raise_the_bar(start: Start, headers: Headers, served: bool) -> None:
    ways = start()
    ask(ways, ASKED)
    answer = ask(ways, SAME, headers=headers)
    assert (label(answer) == "HIT semantic") == served
    assert all(not name.lower().startswith(b"x-askonce") for name, _ in ways.received()[-1].headers)


@needs_model
@pytest.mark.parametrize(
    "difference",
    [
        {"model": "gpt-4o"},
        {"seed": 1},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"response_format": {"type": "json_object"}},
        {"a_field_to_come": True},
        {"messages": [{"role": "system", "content": "Be rude."}, {"role": "user", "content": SAME}]},
        {
            "messages": [
                {"role": "user", "content": "I lost my keys."},
                {"role": "assistant", "content": "Oh."},
                {"role": "user", "content": SAME},
            ]
        },
    ],
    ids=lambda difference: next(iter(difference)),
)
def test_whatever_else_differs_separates(start: Start, difference: Mapping[str, Any]) -> None:
    ways = start(semantic__threshold="0.71")
    ask(ways, ASKED)
    assert label(ask(ways, SAME, **difference)) == "MISS not_found"


@needs_model
def test_no_tenant_is_given_another_tenants_answer(start: Start) -> None:
    ways = start()
    ask(ways, ASKED, key="sk-a")
    assert label(ask(ways, SAME, key="sk-b")) == "MISS not_found"
    assert label(ask(ways, SAME, key="sk-a")) == "HIT semantic"


@needs_model
def test_where_answers_are_shared_a_second_client_must_have_asked_the_question_first(start: Start) -> None:
    ways = start(cache__share="everyone", admin__token=OPERATOR)
    ask(ways, ASKED, key="sk-mallory")
    answer = ask(ways, SAME, key="sk-alice", headers=(("x-askonce-ttl", "0"), BY_OPERATOR))
    assert (label(answer), why(answer)) == ("MISS not_found", "unseen")
    assert not ways.received()[-1].values("x-askonce-admin-token")
    assert label(ask(ways, ASKED, key="sk-bob")) == "HIT exact"
    assert label(ask(ways, SAME, key="sk-alice")) == "HIT semantic"


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """The keys of three clients, and the settings of a proxy that issued them."""
    file, secret = tmp_path / "keys.json", tmp_path / "provider.key"
    secret.write_text("sk-the-providers-own-key-0123456789")
    names = {name: new_key() for name in ("mallory", "alice", "bob")}
    issued = Roster(tuple(Client(name=name, digest=digest(key.encode())) for name, key in names.items()))
    KeyFile(file).change(lambda _: issued)
    settings = {"keys__mode": "shared", "keys__file": str(file), "upstream__key_file": str(secret)}
    return names, settings


@needs_model
def test_clients_of_one_shared_key_must_have_asked_it_twice_too(
    start: Start, keys: tuple[Mapping[str, str], Mapping[str, str]]
) -> None:
    names, settings = keys
    mallory, alice, bob = names["mallory"], names["alice"], names["bob"]
    ways = start(own=True, admin__token=OPERATOR, **settings)
    ask(ways, ASKED, key=mallory)
    # Whatever else she sends, she is one client.
    assert label(ask(ways, ASKED, key=mallory, headers=(("x-some-token", "1"),))) == "HIT exact"
    answer = ask(ways, SAME, key=alice, headers=(("x-askonce-ttl", "0"), BY_OPERATOR))
    assert (label(answer), why(answer)) == ("MISS not_found", "unseen")
    assert label(ask(ways, ASKED, key=bob)) == "HIT exact"
    assert label(ask(ways, SAME, key=alice)) == "HIT semantic"


@needs_model
@pytest.mark.parametrize(
    "probe", [SAME, NEAR_MISS, "How do I reset my passwords 5 times?", "How did I reset my password?"]
)
def test_attack_no_header_tells_one_client_that_another_asked_something_near(start: Start, probe: str) -> None:
    ways = start(cache__share="everyone", admin__token=OPERATOR)
    ask(ways, ASKED, key="sk-alice")
    before = stats(ways.proxy)["semantic"]["apart"]
    unkept = ("x-askonce-ttl", "0")
    guessing = (unkept, ("x-askonce-admin-token", "a guess"))
    told = [
        ask(ways, text, key="sk-mallory", headers=headers)
        for text in (probe, "Where do penguins live?")
        for headers in ((unkept,), guessing)
    ]
    ours = (b"x-cache", b"cache-status", b"age")
    seen = [[(name, KEYS.sub(b"", value)) for name, value in each.headers if name.startswith(ours)] for each in told]
    assert len(seen[0]) == 4
    assert seen[1:] == seen[:-1]
    after = stats(ways.proxy)["semantic"]["apart"]
    # All the same something was near.
    assert sum(after[word] - before[word] for word in ("unseen", "guarded", "unsure")) == 2
    near, far = (ask(ways, text, headers=(unkept, BY_OPERATOR)) for text in (probe, "Where do penguins live?"))
    assert (why(near) != "", why(far)) == (True, "")


@needs_model
def test_attack_a_client_who_feels_for_what_others_asked_stands_out(
    start: Start, keys: tuple[Mapping[str, str], Mapping[str, str]]
) -> None:
    names, settings = keys
    ways = start(own=True, **settings)
    unkept = (("x-askonce-ttl", "0"),)
    for name in ("bob", "alice"):
        ask(ways, ASKED, key=names[name])
    for at in range(60):
        ordinary = names["alice" if at % 2 else "bob"]
        text, expected = (SAME, "HIT semantic") if at % 3 else (f"How can I reset my {at} passwords?", "MISS not_found")
        assert label(ask(ways, text, key=ordinary, headers=unkept)) == expected
        # Each is a near miss: made to be given the answer to it in error, or to be told that somebody asked.
        answer = ask(ways, f"How do I not reset my {at} passwords?", key=names["mallory"], headers=unkept)
        assert label(answer) == "MISS not_found"
    shown = operators_stats(ways)["semantic"]["standing"]
    assert (shown["clients"], shown["odd"]) == (3, 1)
    (named,) = shown["named"]
    assert (named["client"], named["answered"]) == ("mallory", 0)
    assert named["others"] > 0.6
    assert ways.process is not None
    assert ways.process.said().count("client mallory stands out") == 1
    # Who they are is the operator's alone.
    assert (stats(ways.proxy)["semantic"]["standing"]) == {**shown, "named": []}


def operators_stats(ways: Ways) -> Mapping[str, Any]:
    """/stats as the operator sees it, who is on this machine."""
    octets = raw_client.request("GET", "/_askonce/stats").replace(b"Host: client.example", b"Host: localhost")
    shown: Mapping[str, Any] = json.loads(raw_client.exchange(ways.proxy, octets).body)
    return shown


@needs_model
def test_no_secret_of_the_provider_reaches_an_embedder_elsewhere(
    start_proxy: StartProxy, fresh_provider: ScriptedProvider
) -> None:
    secrets = {"upstream__add_headers": '{"X-Gateway-Secret": "hush"}', "semantic__embedder__kind": "http"}
    environment = {"XDG_CACHE_HOME": str(places.home().parent.parent), "OPENAI_API_KEY": "sk-the-providers"}
    with ScriptedProvider() as elsewhere:
        for where, told in ((elsewhere.origin, 0), (fresh_provider.origin, 1)):
            ways = start_proxy(
                **{**{name.replace(".", "__"): value for name, value in DEFAULTS.items()}, **secrets},
                semantic__embedder__url=where,
                environment=environment,
            )
            wait_for_stats(ways.proxy, lambda shown: shown["semantic"]["state"] == "ready", timeout_s=15.0)
            ask(ways, ASKED)
            asked_there = (elsewhere if told == 0 else fresh_provider).wait_for(b"/v1/embeddings")[0]
            assert len(asked_there.values("x-gateway-secret")) == told
            assert asked_there.values("authorization") == [b"Bearer sk-the-providers"] * told


@needs_model
def test_an_answer_that_varies_by_a_field_serves_only_those_with_the_same(start: Start) -> None:
    ways = start(own=True)
    fields = (*answers.JSON, ("Vary", "Origin"))
    ways.plays(answers.whole(answers.chat_body("for a"), fields), answers.whole(answers.chat_body("for b"), fields))
    ask(ways, ASKED, headers=(("Origin", "https://a"),))
    other = (("Origin", "https://b"), ("x-askonce-ttl", "0"))
    assert label(ask(ways, SAME, headers=other)) == "MISS not_found"
    assert label(ask(ways, SAME, headers=(("Origin", "https://a"),))) == "HIT semantic"


@needs_model
def test_a_stream_is_given_what_was_recorded_whole(start: Start) -> None:
    ways = start()
    ask(ways, ASKED)
    answer = ask(ways, SAME, stream=True, stream_options={"include_usage": True})
    assert label(answer) == "HIT semantic"
    assert answer.body.rstrip().endswith(b"data: [DONE]")


@needs_model
def test_many_who_ask_the_same_at_once_are_all_hits_of_one_look_up(start: Start) -> None:
    ways = start(own=True)
    ask(ways, ASKED)
    before = stats(ways.proxy)["semantic"]["served"]
    barrier = threading.Barrier(24)

    def one(_: int) -> str:
        barrier.wait(10)
        return label(raw_client.exchange(ways.proxy, octets(ways, SAME)))

    with ThreadPoolExecutor(24) as pool:
        labels = Counter(pool.map(one, range(24)))
    assert labels == {"HIT semantic": 24}
    assert len(ways.received()) == 1
    shown = wait_for_stats(ways.proxy, lambda shown: shown["requests"] == 25)
    assert_adds_up(shown)
    assert 1 <= shown["semantic"]["served"] - before <= 24
    assert shown["hits"] == 24


@needs_model
def test_one_who_refuses_does_not_join_those_who_may_be_answered_by_another_question(start: Start) -> None:
    ways = start(own=True, semantic__threshold="1.0")
    gate = Gate()
    ask(ways, ASKED)
    ways.plays(steps(gate, answers.whole(answers.chat_body("one"))), answers.whole(answers.chat_body("two", number=2)))
    with ThreadPoolExecutor(1) as pool:
        leader = pool.submit(raw_client.exchange, ways.proxy, octets(ways, SAME))
        wait_for_stats(ways.proxy, lambda _: len(ways.received()) == 2)
        refusing = raw_client.exchange(
            ways.proxy, octets(ways, SAME, headers=(("x-askonce-semantic", "off"),)), timeout_s=5
        )
        gate.open()
        assert (label(leader.result(10)), label(refusing)) == ("MISS not_found", "MISS not_found")


@needs_model
def test_a_semantic_hit_saves_the_prompt_that_was_asked_and_the_answer_that_was_recorded(start: Start) -> None:
    ways = start(own=True)
    usage = {"prompt_tokens": 14, "completion_tokens": 100, "total_tokens": 114}
    ways.plays(answers.whole(answers.chat_body("Click.", usage=usage)))
    ask(ways, ASKED)
    longer = "How can I reset the password of my account?"
    first = ask(ways, longer)
    assert label(first) == "HIT semantic"
    assert first.get("x-cache-saved-method") == "estimated"
    # By then the vocabulary is loaded: seven tokens became ten.
    wait_for_stats(ways.proxy, lambda _: ask(ways, longer).get("x-cache-saved-tokens") == "117", timeout_s=10.0)
    saved = settled(ways)["tokens"]["saved"]
    assert saved["input"] == saved["output"] == 0
    assert saved["estimated"]["output"] >= 200


@needs_model
def test_a_question_that_waits_for_nothing_is_called_off_when_another_answer_serves(start: Start) -> None:
    ways = start(own=True, semantic__parallel="true")
    gate = Gate()
    ask(ways, ASKED)
    ways.plays(steps(gate, answers.whole(answers.chat_body("late"))))
    assert label(ask(ways, SAME)) == "HIT semantic"
    assert label(ask(ways, SAME)) == "HIT semantic"
    shown = settled(ways)
    assert (shown["fetches"], shown["hits"]) == (1, 2)
    gate.open()


@needs_model
def test_the_shadow_serves_nothing_and_says_what_it_would_have_done(start: Start) -> None:
    ways = start(own=True, semantic__policy="shadow", semantic__max_error_rate="1")
    ask(ways, ASKED)
    answer = ask(ways, SAME)
    assert label(answer) == "MISS not_found"
    assert why(answer) in ("shadow", "unsure")
    shown = wait_for_stats(ways.proxy, lambda shown: shown["semantic"]["compared"] == 1)
    assert shown["semantic"]["served"] == 0


@needs_model
@pytest.mark.parametrize("named", ["x-cache-request-id", "x-cache-key"])
def test_a_wrong_answer_that_is_reported_is_not_given_again(start: Start, named: str) -> None:
    ways = start(own=True)
    ask(ways, ASKED)
    hit = ask(ways, SAME)
    told = report(ways, {"key" if named == "x-cache-key" else "request_id": hit.get(named), "verdict": "wrong"})
    assert (told.status, json.loads(told.body)) == (200, {"verdict": "wrong", "concerned": 1})
    again = ask(ways, SAME)
    assert (label(again), why(again)) == ("MISS not_found", "told_apart")
    assert stats(ways.proxy)["semantic"]["feedback"] == {"right": 0, "wrong": 1}


@needs_model
def test_a_question_by_hand_is_answered_by_meaning_too(start: Start) -> None:
    ways = start(own=True)
    model = f"model-{ways.nonce}"

    def by_hand(path: str, prompt: str, key: str = "sk-a", **more: object) -> Mapping[str, Any]:
        fields = (("Content-Type", "application/json"), ("Authorization", f"Bearer {key}"))
        octets = answers.compact({"prompt": prompt, "model": model, **more})
        answer = raw_client.exchange(
            ways.proxy, raw_client.request("POST", f"/v1/cache/{path}", fields, octets, host=b"localhost")
        )
        assert answer.status == 200, bytes(answer.body)
        told: Mapping[str, Any] = json.loads(answer.body)
        return told

    miss = {"hit": False, "tier": None, "response": None, "similarity": None}
    assert by_hand("get", SAME) == miss
    assert by_hand("set", ASKED, response="Click on it.") == {"status": "cached"}
    wait_for_stats(ways.proxy, lambda shown: shown["semantic"]["vector_bytes"] > 0)
    found = by_hand("get", SAME)
    assert (found["hit"], found["tier"], found["response"]) == (True, "l2_semantic", "Click on it.")
    assert 0.9 <= found["similarity"] < 1
    assert by_hand("get", ASKED)["tier"] == "l1_exact"
    # What separates requests separates questions by hand.
    assert by_hand("get", NEAR_MISS) == miss
    assert by_hand("get", SAME, system_prompt="Be rude.") == miss
    assert by_hand("get", SAME, temperature=0.5) == miss
    assert by_hand("get", SAME, key="sk-b") == miss
    # A request is answered by it, too.
    body = {"model": model, "messages": [{"role": "user", "content": SAME}], "temperature": 0}
    fields = (("Content-Type", "application/json"), ("Authorization", "Bearer sk-a"))
    hit = raw_client.exchange(ways.proxy, ways.request("POST", "/v1/chat/completions", fields, answers.compact(body)))
    assert (label(hit), json.loads(hit.body)["choices"][0]["message"]["content"]) == ("HIT semantic", "Click on it.")
    shown = json.loads(raw_client.exchange(ways.proxy, raw_client.request("GET", "/v1/cache/stats")).body)
    assert shown["semantic_cache"]["hits"] == 2
    assert not ways.received()


@needs_model
def test_a_client_who_refuses_is_given_no_other_questions_answer_and_its_own_serve_others(
    start: Start, keys: tuple[Mapping[str, str], Mapping[str, str]]
) -> None:
    names, settings = keys
    alice, bob, mallory = names["alice"], names["bob"], names["mallory"]
    ways = start(own=True, semantic__refused_by="alice", **settings)
    for key in (bob, mallory):
        ask(ways, ASKED, key=key)
    unkept = (("x-askonce-ttl", "0"),)
    assert label(ask(ways, SAME, key=bob, headers=unkept)) == "HIT semantic"
    assert label(ask(ways, SAME, key=alice, headers=unkept)) == "MISS not_found"
    # No request takes that back.
    insisting = (("x-askonce-semantic", "on"), ("x-askonce-min-similarity", "0.1"), *unkept)
    assert label(ask(ways, SAME, key=alice, headers=insisting)) == "MISS not_found"
    assert stats(ways.proxy)["semantic"]["apart"]["refused"] == 2
    assert label(ask(ways, ASKED, key=alice)) == "HIT exact"
    # She does not join a flight that another question's answer may end, either; what she asks still serves others.
    asks, alike = "How do I delete my account?", "How can I delete my account?"
    assert label(ask(ways, asks, key=alice)) == "MISS not_found"
    assert label(ask(ways, asks, key=mallory)) == "HIT exact"
    assert label(ask(ways, alike, key=bob, headers=unkept)) == "HIT semantic"
    assert label(ask(ways, alike, key=alice, headers=unkept)) == "MISS not_found"


@needs_model
def test_a_verdict_may_come_to_any_of_several_workers(start: Start, tmp_path: Path) -> None:
    path = str(tmp_path / "askonce.db")
    ways = start(own=True, server__workers="2", store__kind="sqlite", store__path=path)
    # Each on a connection of its own: the kernel deals them out.
    ask(ways, ASKED)
    deadline = time.monotonic() + 15
    while label(hit := ask(ways, SAME, headers=(("x-askonce-ttl", "0"),))) != "HIT semantic":
        assert time.monotonic() < deadline
    right = {"request_id": hit.get("x-cache-request-id"), "verdict": "right"}
    while {report(ways, right).status for _ in range(12)} != {200}:
        assert time.monotonic() < deadline
    assert report(ways, {**right, "verdict": "wrong"}).status == 200
    # Whoever gave it hears of the verdict within seconds.
    while {label(ask(ways, SAME, headers=(("x-askonce-ttl", "0"),))) for _ in range(8)} != {"MISS not_found"}:
        assert time.monotonic() < deadline


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"request_id": "0123456789abcdef"}, 400),
        ({"request_id": "0123456789abcdef", "verdict": "perhaps"}, 400),
        ({"request_id": "", "verdict": "wrong"}, 400),
        ({"request_id": 5, "verdict": "wrong"}, 400),
        ({"key": "a", "request_id": "0123456789abcdef", "verdict": "wrong"}, 400),
        ({"request_id": "0123456789abcdef", "verdict": "wrong"}, 404),
        ({"key": "0123456789abcdef", "verdict": "right", "note": "fine"}, 404),
    ],
)
def test_a_verdict_that_names_nothing_is_refused(
    start_proxy: StartProxy, body: Mapping[str, object], status: int
) -> None:
    ways = start_proxy()
    assert report(ways, body).status == status
    assert report(ways, body, path="/_askonce/feedback").status == status


def test_a_verdict_is_for_the_operator(start_proxy: StartProxy) -> None:
    ways = start_proxy(admin__token="the-operators-word")
    body = {"request_id": "0123456789abcdef", "verdict": "wrong"}
    assert report(ways, body).status == 401
    assert report(ways, body, headers=(("x-askonce-admin-token", "the-operators-word"),)).status == 404


def report(
    ways: Ways, body: Mapping[str, object], *, path: str = "/v1/cache/feedback", headers: Headers = ()
) -> RawAnswer:
    """What the proxy says to a verdict."""
    asked_for = ways.request("POST", path, headers, answers.compact(body))
    return raw_client.exchange(ways.proxy, asked_for.replace(b"Host: client.example", b"Host: localhost"))


def test_without_the_model_everything_else_works_and_it_is_said(start_proxy: StartProxy, tmp_path: Any) -> None:
    ways = start_proxy(environment={"XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": os.getcwd()})
    shown = wait_for_stats(ways.proxy, lambda shown: shown["semantic"]["state"] != "loading")
    if shown["semantic"]["state"] == "ready":
        pytest.skip("the model is installed as a package")
    assert shown["semantic"]["missing"] != ""
    assert (label(ask(ways, ASKED)), label(ask(ways, ASKED)), label(ask(ways, SAME))) == (
        "MISS not_found",
        "HIT exact",
        "MISS not_found",
    )
    assert ways.process is not None
    lines = ways.process.said().splitlines()
    assert ["listening on" in line for line in lines[:2]] == [True, False]
    assert sum("the semantic tier is off" in line for line in lines) == 1


HOSTILE = {
    "empty": "",
    "long": "why " * 25_000,
    "controls": "reset\x00my\x1bpassword",
    "right-to-left": "كيف أعيد تعيين كلمة المرور؟",
    "emoji": "🙂" * 50,
    "code": "def f(x):\n    return {x: [x ** 2 for _ in range(10)]}",
    "base64": "aGVsbG8gd29ybGQgaGVsbG8gd29ybGQgaGVsbG8gd29ybGQgaGVsbG8gd29ybGQ=",
    "german": "Wie kann ich mein Passwort zurücksetzen?",
    "chinese": "如何重置我的密码",
    "half a surrogate": "reset \ud83d password",
    "words without end": "a " * 249,
    "one word": "password",
    "punctuation": "How do I (really!) reset — 'my' \"password\"??!",
}


@needs_model
def test_no_text_makes_it_stumble(start: Start) -> None:
    ways = start(own=True, semantic__threshold="0.71")
    ask(ways, ASKED)
    for name, text in HOSTILE.items():
        first, again = ask(ways, text), ask(ways, text)
        assert first.status == 200, name
        assert label(again) in ("HIT exact", "HIT semantic"), name
    shown = stats(ways.proxy)["semantic"]["apart"]
    assert shown["fault"] == 0
    for word in ("empty", "too_long", "controls", "script", "code", "language"):
        assert shown[word] > 0, word
