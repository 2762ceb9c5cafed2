"""Do two answers say the same: what they say, in every form, and the judge that rather says nothing than guesses."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.dialects.said import said
from proxy.semantic import sameness
from tests import answers

SAID = "Click on it, then wait 5 minutes."


def whole(content: object = SAID, **more: object) -> bytes:
    """A whole chat answer."""
    message = {"role": "assistant", "content": content, **more}
    return json.dumps({"id": "chatcmpl-1", "choices": [{"index": 0, "message": message}]}).encode()


def stream(*events: object) -> bytes:
    """An event stream."""
    return b"".join(answers.event(each) for each in events) + b"data: [DONE]\n\n"


CHAT_STREAM = stream(
    {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]},
    {"choices": [{"index": 0, "delta": {"content": "Click on it, "}}]},
    {"choices": [{"index": 0, "delta": {"content": "then wait 5 minutes."}, "finish_reason": "stop"}]},
    {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}},
)
RESPONSE = {"id": "resp_1", "output": [{"type": "message", "content": [{"type": "output_text", "text": SAID}]}]}
RESPONSES_STREAM = stream(
    {"type": "response.created", "response": {"id": "resp_1", "output": []}},
    {"type": "response.output_text.delta", "delta": "Click on it, "},
    {"type": "response.output_text.delta", "delta": "then wait 5 minutes."},
    {"type": "response.output_text.done", "text": SAID},
    {"type": "response.completed", "response": RESPONSE},
)
MESSAGES = {"id": "msg_1", "type": "message", "role": "assistant", "content": [{"type": "text", "text": SAID}]}
MESSAGES_STREAM = stream(
    {"type": "message_start", "message": {"id": "msg_1", "content": []}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Click on it, "}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "then wait 5 minutes."}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_stop"},
)


@pytest.mark.parametrize(
    ("dialect", "body", "streamed"),
    [
        ("chat", whole(), False),
        ("chat", CHAT_STREAM, True),
        ("responses", json.dumps(RESPONSE).encode(), False),
        ("responses", RESPONSES_STREAM, True),
        ("messages", json.dumps(MESSAGES).encode(), False),
        ("messages", MESSAGES_STREAM, True),
    ],
)
def test_an_answer_says_the_same_in_every_form(dialect: str, body: bytes, streamed: bool) -> None:
    assert said(dialect, body, stream=streamed) == SAID


def test_calls_of_tools_are_said_too() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"in":"Paris"}'}}
    assert said("chat", whole(None, tool_calls=[call]), stream=False) == 'weather{"in":"Paris"}'
    other = {"id": "call_2", "type": "function", "function": {"name": "weather", "arguments": '{"in":"Rome"}'}}
    assert said("chat", whole(None, tool_calls=[other]), stream=False) != 'weather{"in":"Paris"}'


@given(st.sampled_from(["chat", "responses", "messages", "completions"]), st.binary(max_size=200), st.booleans())
def test_what_cannot_be_read_says_nothing(dialect: str, body: bytes, streamed: bool) -> None:
    assert isinstance(said(dialect, body, stream=streamed), str | None)


@pytest.mark.parametrize(
    ("fresh", "cached", "same"),
    [
        (SAID, SAID, True),
        (SAID, " click ON it; then   wait 5 minutes", True),
        (SAID, "Click on it, then wait 15 minutes.", False),
        (SAID, "Click on it, then wait.", False),
        ("It takes 3 to 5 days.", "It takes 5 to 3 days.", None),
        ("Yes, it is safe.", "No, it is not safe.", False),
        ("Yes, it is safe.", "Yes, you may.", None),
        ("", "", True),
        ("Paris", "", False),
        ("Paris", "Rome", None),
    ],
)
def test_the_texts_alone_tell_some_answers_apart(fresh: str, cached: str, same: bool | None) -> None:
    assert sameness.by_text(fresh, cached) is same
    assert sameness.by_text(cached, fresh) is same


@pytest.mark.parametrize(
    ("fresh", "cached", "cosine", "same"),
    [
        ("It is in Paris.", "You find it in Paris.", 0.95, True),
        ("It is in Paris.", "You find it in Rome.", 0.95, None),
        ("It is in Paris.", "You find it in Paris.", 0.8, None),
        ("It is in Paris.", "Boil them for long.", 0.3, False),
    ],
)
def test_the_meaning_tells_others(fresh: str, cached: str, cosine: float, same: bool | None) -> None:
    assert sameness.by_meaning(fresh, cached, cosine) is same


@given(st.text(max_size=300), st.text(max_size=300), st.floats(-1, 1))
def test_the_judge_stumbles_over_no_text(fresh: str, cached: str, cosine: float) -> None:
    assert sameness.by_text(fresh, fresh) is True
    assert sameness.by_text(fresh, cached) in (True, False, None)
    assert sameness.by_meaning(fresh, cached, cosine) in (True, False, None)
