"""Tools that the provider runs: their answers are kept by nobody's leave but the operator's."""

import json
from typing import Any

import pytest

from proxy.dialects import by_suffix
from proxy.model import WHOLE, Form, Reason, Unkept
from proxy.settings import SERVER_TOOLS
from tests import answers
from tests.conftest import StartProxy

USAGE = {"input_tokens": 5, "output_tokens": 5, "total_tokens": 10}
MESSAGE = {"type": "message", "status": "completed", "content": [{"type": "output_text", "text": "Rain."}]}


def response(*kinds: str) -> bytes:
    """A response in which things of these types happened before anything was said."""
    output = [*({"type": kind, "id": "x", "status": "completed"} for kind in kinds), MESSAGE]
    return answers.compact(
        {"object": "response", "status": "completed", "output": output, "usage": USAGE, "model": "m"}
    )


def message(*blocks: dict[str, Any], **usage: object) -> bytes:
    """A message with these blocks before its text."""
    content = [*blocks, {"type": "text", "text": "Rain."}]
    whole = {
        "type": "message",
        "model": "m",
        "content": content,
        "stop_reason": "end_turn",
        "usage": {**USAGE, **usage},
    }
    return answers.compact(whole)


def chat(**more: object) -> bytes:
    """A chat answer whose message says more than its content."""
    choice = {"index": 0, "message": {"role": "assistant", "content": "Rain.", **more}, "finish_reason": "stop"}
    return answers.compact({"object": "chat.completion", "choices": [choice], "usage": {"prompt_tokens": 1}})


REQUESTS: list[tuple[str, dict[str, Any], str]] = [
    ("/responses", {"tools": [{"type": "web_search_preview_2025_03_11"}]}, "web_search"),
    ("/responses", {"tools": [{"type": "code_interpreter", "container": {}}]}, "code_interpreter"),
    ("/responses", {"tools": [{"type": "mcp", "server_label": "x"}]}, "mcp"),
    ("/responses", {"tools": [{"type": "computer_use_preview"}]}, "computer"),
    ("/messages", {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "web_search"),
    ("/messages", {"mcp_servers": [{"url": "x"}]}, "mcp"),
    ("/messages", {"container": "c"}, "code_execution"),
    ("/chat/completions", {"web_search_options": {}}, "web_search"),
    ("/chat/completions", {"data_sources": [{}]}, "file_search"),
    ("/chat/completions", {"model": "gpt-4o-search-preview"}, "web_search"),
    ("/chat/completions", {"tools": [{"type": "retrieval"}]}, "retrieval"),
]

ANSWERS: list[tuple[str, bytes, tuple[str, ...]]] = [
    ("/responses", response("web_search_call"), ("web_search",)),
    ("/responses", response("mcp_list_tools", "mcp_call"), ("mcp",)),
    ("/responses", response("web_search_call", "code_interpreter_call"), ("web_search", "code_interpreter")),
    ("/messages", message({"type": "server_tool_use", "name": "web_search"}), ("web_search",)),
    ("/messages", message({"type": "web_search_tool_result", "content": []}), ("web_search",)),
    ("/messages", message({"type": "mcp_tool_use", "name": "any"}), ("mcp",)),
    ("/messages", message(server_tool_use={"web_search_requests": 1}), ("web_search",)),
    ("/chat/completions", chat(annotations=[{"type": "url_citation"}]), ("web_search",)),
    ("/chat/completions", chat(executed_tools=[{"type": "python"}]), ("web_search", "code_interpreter")),
]


@pytest.mark.parametrize(("suffix", "request_body", "family"), REQUESTS)
def test_a_request_for_a_tool_passes_by_unless_its_family_is_allowed(
    suffix: str, request_body: dict[str, Any], family: str
) -> None:
    others = set(SERVER_TOOLS) - {family}
    assert by_suffix()[suffix].refuses(request_body) is Reason.SIDE_EFFECT
    assert by_suffix(others)[suffix].refuses(request_body) is Reason.SIDE_EFFECT
    assert by_suffix([family])[suffix].refuses(request_body) is None


@pytest.mark.parametrize(("suffix", "body", "families"), ANSWERS)
def test_an_answer_in_which_a_tool_ran_is_kept_only_where_all_of_it_is_allowed(
    suffix: str, body: bytes, families: tuple[str, ...]
) -> None:
    assert by_suffix()[suffix].examine(body, WHOLE).unkept is Unkept.SIDE_EFFECT
    for family in families:
        others = set(SERVER_TOOLS) - {family}
        assert by_suffix(others)[suffix].examine(body, WHOLE).unkept is Unkept.SIDE_EFFECT
    assert by_suffix(families)[suffix].examine(body, WHOLE).unkept is None


def test_a_stream_is_judged_alike() -> None:
    done = {"type": "response.output_item.done", "item": {"type": "web_search_call", "id": "x"}}
    completed = {"type": "response.completed", "response": json.loads(response("web_search_call"))}
    body = answers.event(done, "response.output_item.done") + answers.event(completed, "response.completed")
    assert by_suffix()["/responses"].examine(body, Form(stream=True)).unkept is Unkept.SIDE_EFFECT
    assert by_suffix(["web_search"])["/responses"].examine(body, Form(stream=True)).unkept is None


def test_stored_and_stateful_requests_are_allowed_by_nothing() -> None:
    every = by_suffix(SERVER_TOOLS)
    assert every["/chat/completions"].refuses({"store": True}) is Reason.SIDE_EFFECT
    assert every["/responses"].refuses({"previous_response_id": "x"}) is Reason.STATEFUL
    assert every["/responses"].refuses({"background": True}) is Reason.STATEFUL
    assert every["/responses"].refuses({"tools": [{"type": "brand_new"}]}) is Reason.SIDE_EFFECT


@pytest.mark.proxy_only
def test_the_operator_may_let_searches_be_repeated(start_proxy: StartProxy) -> None:
    ways = start_proxy(cache__server_tools="web_search")
    ways.plays(answers.whole(response("web_search_call")))
    body = {"model": "m", "temperature": 0, "input": ways.nonce, "tools": [{"type": "web_search"}]}
    octets = ways.post("/v1/responses", answers.compact(body))
    assert [ways.through(octets).answer.get("x-cache") for _ in range(2)] == ["MISS", "HIT"]
    code = ways.post("/v1/responses", answers.compact({**body, "tools": [{"type": "code_interpreter"}]}))
    assert ways.through(code).answer.get("x-cache-reason") == "side_effect"
