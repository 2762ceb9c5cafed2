"""Why two requests share an answer or do not, as people ask it: by command, and of a running proxy."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from proxy import cli
from proxy.canonical import write
from proxy.dialects import BY_SUFFIX
from proxy.encoder import places
from proxy.semantic.explaining import differences
from tests import answers, raw_client
from tests.comparison import Ways
from tests.conftest import StartProxy
from tests.json_texts import objects
from tests.observation import wait_for_stats
from tests.raw_client import Headers

needs_model = pytest.mark.skipif(
    places.find("") is None, reason="the model of the semantic tier is not on this machine"
)

CHAT = BY_SUFFIX["/chat/completions"]
ASKED = "How do I cancel order 48213?"


def chat(text: str, **more: object) -> dict[str, Any]:
    """A request with one question."""
    return {"model": "gpt-4o", "temperature": 0, "messages": [{"role": "user", "content": text}], **more}


def explained(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, *requests: Any, arguments: tuple[str, ...] = ()
) -> str:
    """What the command prints."""
    file = tmp_path / "requests.jsonl"
    file.write_text("\n".join(json.dumps(each) for each in requests))
    assert cli.main(["explain", str(file), *arguments]) == 0
    return capsys.readouterr().out


@given(objects, objects)
def test_two_requests_differ_where_their_values_do(one: dict[str, Any], other: dict[str, Any]) -> None:
    found = list(differences(one, other, CHAT))
    assert (found == []) == (write(one) == write(other))
    assert list(differences(one, one, CHAT)) == []
    assert len(list(differences(other, one, CHAT))) == len(found)


def test_fields_that_tell_no_requests_apart_are_marked() -> None:
    found = {each.place: each.counts for each in differences(chat("a", user="x"), chat("b", user="y", top_p=1), CHAT)}
    assert found == {"messages[0].content": True, "top_p": True, "user": False}


def test_a_boolean_is_no_number() -> None:
    assert [each.place for each in differences(chat("a", top_p=1), chat("a", top_p=True), CHAT)] == ["top_p"]


def test_the_same_request_is_an_exact_hit(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    said = explained(capsys, tmp_path, chat("a", user="x"), {"request": chat("a")})
    assert said.startswith("served: they are the same request")


def test_another_scope_is_told_field_by_field(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    said = explained(capsys, tmp_path, chat(ASKED, seed=1), chat(ASKED + "!", seed=2))
    assert said.startswith("not served: another scope: they differ in seed")
    assert "differs:   seed: 1 / 2" in said


def test_a_question_that_stays_out_says_why(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    said = explained(capsys, tmp_path, chat("What is the weather like?"), chat("How is the weather?"))
    assert said.startswith("not served: the asked question stays out: fresh")


@needs_model
def test_the_guards_name_their_words(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    said = explained(capsys, tmp_path, chat(ASKED), chat("How can I cancel order 48231?"))
    assert said.startswith("not served: guards fired: ")
    assert "'48213' / '48231'" in said
    assert "cosine:    0.9" in said


@needs_model
def test_what_would_be_served_is_told_with_its_bar(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    fixed = ("--set", "semantic.policy=fixed", "--set", "semantic.threshold=0.8")
    said = explained(capsys, tmp_path, chat(ASKED), chat("How can I cancel order 48213?"), arguments=fixed)
    assert said.startswith("served: the cosine 0.9")
    assert "bar:       a cosine of 0.8000" in said


@pytest.mark.parametrize("text", ["", "[]", "1", "[1]", "[{}, {}, {}]", "{", "{}\n{}\n{}"])
def test_what_is_no_request_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str) -> None:
    file = tmp_path / "requests"
    file.write_text(text)
    assert cli.main(["explain", str(file)]) == 1
    assert "expected one or two requests" in capsys.readouterr().err or text in ("", "{")


def test_one_request_needs_a_proxy(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "request"
    file.write_text(json.dumps(chat("a")))
    assert cli.main(["explain", str(file)]) == 2
    assert "--at URL" in capsys.readouterr().err


def page(ways: Ways, body: object, headers: Headers = ()) -> tuple[int, Mapping[str, Any]]:
    """What /_askonce/explain answers."""
    asked = ways.request("POST", "/_askonce/explain", headers, answers.compact(body))
    answer = raw_client.exchange(ways.proxy, asked.replace(b"Host: client.example", b"Host: localhost"))
    return answer.status, json.loads(answer.body)


@needs_model
def test_a_running_proxy_explains_one_request_by_what_it_keeps(
    start_proxy: StartProxy, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    environment = {"XDG_CACHE_HOME": str(places.home().parent.parent)}
    ways = start_proxy(environment=environment, semantic__policy="fixed", semantic__threshold="0.8")
    wait_for_stats(ways.proxy, lambda shown: shown["semantic"]["state"] == "ready", timeout_s=15.0)
    fields = (("Content-Type", "application/json"), ("Authorization", "Bearer sk-a"))
    raw_client.exchange(ways.proxy, ways.request("POST", "/v1/chat/completions", fields, answers.compact(chat(ASKED))))
    wait_for_stats(ways.proxy, lambda shown: shown["semantic"]["questions"] == 1)
    near = chat("How can I cancel order 48213?")
    status, shown = page(ways, {"asked": near, "headers": {"Authorization": "Bearer sk-a"}})
    assert (status, shown["served"]) == (200, True)
    assert [each["text"] for each in shown["neighbours"]] == [ASKED]
    _, others = page(ways, {"asked": near, "headers": {"Authorization": "Bearer sk-b"}})
    assert others["why"] == "no other question of its scope has an answer"
    host, port = ways.proxy
    arguments = ("--at", f"http://{host}:{port}", "--header", "Authorization: Bearer sk-a")
    assert explained(capsys, tmp_path, near, arguments=arguments).startswith("served: ")
    assert page(ways, {"asked": near, "cached": chat(ASKED)})[1]["served"] is True
    # Explaining is not asking: nothing was fetched, served or remembered.
    assert len(ways.received()) == 1


@pytest.mark.parametrize("more", [{}, {"asked": 1}, {"cached": 1}, {"path": 1}, {"headers": {"a": "\n"}}])
def test_a_page_that_is_asked_nothing_says_so(ways: Ways, more: Mapping[str, object]) -> None:
    assert page(ways, {"asked": {}, **more} if more else {})[0] == 400


def test_explaining_is_for_the_operator(start_proxy: StartProxy) -> None:
    ways = start_proxy(admin__token="the-operators-word")
    assert page(ways, {"asked": chat("a"), "cached": chat("b")})[0] == 401
