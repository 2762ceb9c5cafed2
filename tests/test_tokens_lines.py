"""A file of requests is counted line by line."""

import json
from collections.abc import Mapping

import pytest

from proxy.tokens.counter import TokenCounter
from proxy.tokens.lines import count_line, path_of

COUNTER = TokenCounter()
CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "How are you?"}]}


def told(line: object) -> Mapping[str, object]:
    answer = json.loads(count_line(json.dumps(line), COUNTER))
    assert isinstance(answer, dict)
    return answer


def test_a_body_and_a_wrapped_body_count_alike() -> None:
    expected = {"prompt_tokens": 11, "method": "counted", "model": "gpt-4o"}
    assert told(CHAT) == told({"request": CHAT}) == expected


def test_the_model_that_answered_may_stand_beside_the_body() -> None:
    body = {"messages": CHAT["messages"]}
    assert told({"request": body, "model": "gpt-4o"}) == told(CHAT)
    assert told(body)["method"] == "estimated"


def test_the_endpoint_may_stand_beside_the_body() -> None:
    line = {"request": {"model": "custom", "input": "hello world"}, "endpoint": "embeddings"}
    assert told(line)["prompt_tokens"] == 2


def test_a_lower_bound_is_said() -> None:
    assert told({"model": "gpt-4o", "input": "a", "previous_response_id": "r"})["lower_bound"] is True


@pytest.mark.parametrize("line", ["", "nonsense", "[]", "7", "[" * 100_000])
def test_what_is_no_request_is_said(line: str) -> None:
    assert count_line(line, COUNTER) == '{"error": "not a JSON object"}'


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"messages": []}, "/v1/chat/completions"),
        ({"prompt": "a"}, "/v1/completions"),
        ({"prompt": {"id": "p"}}, "/v1/responses"),
        ({"input": "a", "model": "text-embedding-3-small"}, "/v1/embeddings"),
        ({"input": "a", "encoding_format": "base64"}, "/v1/embeddings"),
        ({"input": "a", "model": "gpt-4o"}, "/v1/responses"),
        ({}, "/v1/responses"),
    ],
)
def test_a_body_tells_its_endpoint(body: Mapping[str, object], path: str) -> None:
    assert path_of(body) == path
