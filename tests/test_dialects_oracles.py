"""What the real SDKs make of an answer: the judges of every change of form, and a look at the judges themselves."""

import json
import sys
from typing import Any

import anthropic
import openai
import pytest

ASKED: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


def openai_client(body: bytes, kind: str) -> openai.OpenAI:
    """The real client, whose provider answers *body* to everything."""
    return openai.OpenAI(
        api_key="key",
        base_url="http://provider.invalid/v1",
        max_retries=0,
        http_client=answering(openai.DefaultHttpxClient, body, kind),
    )


def anthropic_client(body: bytes, kind: str) -> anthropic.Anthropic:
    """The real client, whose provider answers *body* to everything."""
    return anthropic.Anthropic(
        api_key="key",
        base_url="http://provider.invalid",
        max_retries=0,
        http_client=answering(anthropic.DefaultHttpxClient, body, kind),
    )


def answering(default: Any, body: bytes, kind: str) -> Any:
    """An SDK's *default* HTTP client that answers *body* as content type *kind* and opens no socket."""
    # The SDKs differ by version in which fork of httpx they stand on, and accept no other.
    fork = sys.modules[default.__mro__[1].__module__.partition(".")[0]]
    answer = fork.Response(200, content=body, headers={"content-type": kind})
    return default(transport=fork.MockTransport(lambda _: answer), trust_env=False)


def chat_streamed(body: bytes) -> Any:
    """What `openai` accumulates from a chat stream."""
    with openai_client(body, "text/event-stream") as client, client.chat.completions.stream(**ASKED) as stream:
        stream.until_done()
        return told(stream.current_completion_snapshot.to_dict())


def chat_whole(body: bytes) -> Any:
    """What `openai` reads in a whole chat answer."""
    with openai_client(body, "application/json") as client:
        return told(client.chat.completions.create(**ASKED).to_dict())


def responses_streamed(body: bytes) -> Any:
    """What `openai` accumulates from a Responses stream."""
    with (
        openai_client(body, "text/event-stream") as client,
        client.responses.stream(model="m", input="hello") as stream,
    ):
        return told(stream.get_final_response().to_dict())


def responses_whole(body: bytes) -> Any:
    """What `openai` reads in a whole Responses answer."""
    with openai_client(body, "application/json") as client:
        return told(client.responses.create(model="m", input="hello").to_dict())


def messages_streamed(body: bytes) -> Any:
    """What `anthropic` accumulates from a stream."""
    with (
        anthropic_client(body, "text/event-stream") as client,
        client.messages.stream(max_tokens=9, **ASKED) as stream,
    ):
        return told(stream.get_final_message().to_dict())


def messages_whole(body: bytes) -> Any:
    """What `anthropic` reads in a whole message."""
    with anthropic_client(body, "application/json") as client:
        return told(client.messages.create(max_tokens=9, **ASKED).to_dict())


def told(answer: Any) -> Any:
    """*answer* without what an accumulator adds or cannot know: nulls, parsed copies, places, repeated roles."""
    match answer:
        case dict():
            kept = {name: told(value) for name, value in answer.items() if name not in ("parsed", "parsed_arguments")}
            # Some engines name the role in every delta, and `openai` joins it like text.
            if isinstance(kept.get("role"), str):
                kept["role"] = "assistant"
            if {"function", "custom"} & set(kept):
                kept.pop("index", None)
            return {name: value for name, value in kept.items() if value not in (None, [])}
        case list():
            return [told(value) for value in answer]
        case _:
            return answer


def chat_stream(*chunks: dict[str, Any]) -> bytes:
    """A stream of *chunks*, ended."""
    return b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"


def test_the_chat_oracle_sees_a_lost_word() -> None:
    def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}

    whole = chat_streamed(chat_stream(chunk({"role": "assistant", "content": "a"}), chunk({"content": "b"}, "stop")))
    less = chat_streamed(chat_stream(chunk({"role": "assistant", "content": "a"}), chunk({}, "stop")))
    assert whole["choices"][0]["message"]["content"] == "ab"
    assert whole != less


def test_the_oracles_refuse_a_stream_that_does_not_end() -> None:
    with pytest.raises(RuntimeError):
        responses_streamed(
            b'data: {"type":"response.created","sequence_number":0,"response":{"id":"r","output":[]}}\n\n'
        )
