"""Legacy completions: what is worth keeping, and what each form looks like in the other."""

import json
from typing import Any

import pytest

from proxy.model import WHOLE, Unkept
from tests.test_dialects import COMPLETIONS, STREAM, STREAM_WITH_USAGE, TEXT_STREAM, TEXT_WHOLE, USAGE, stream


def chunk(*choices: dict[str, Any], **around: Any) -> dict[str, Any]:
    """A chunk of a completions stream."""
    base = {"id": "t1", "object": "text_completion", "created": 7, "model": "m"}
    return base | {"choices": [{"index": 0} | choice for choice in choices]} | around


def folded(*parts: dict[str, Any]) -> Any:
    """The whole form of a stream of *parts*, or None."""
    whole = COMPLETIONS.render(stream(*parts), STREAM_WITH_USAGE, WHOLE)
    return None if whole is None else json.loads(whole)


@pytest.mark.parametrize(
    ("text", "finish", "unkept"),
    [
        ("a", "stop", None),
        ("", "stop", Unkept.EMPTY),
        (None, "stop", Unkept.EMPTY),
        ("a", "length", Unkept.LENGTH),
        ("a", "content_filter", Unkept.CONTENT_FILTER),
        ("a", None, Unkept.INCOMPLETE),
    ],
)
def test_a_completion_is_judged_alike_in_both_forms(text: Any, finish: Any, unkept: Unkept | None) -> None:
    answer = chunk({"text": text, "finish_reason": finish})
    assert COMPLETIONS.examine(json.dumps(answer).encode(), WHOLE).unkept is unkept
    assert COMPLETIONS.examine(stream(answer), STREAM).unkept is unkept


def test_a_stream_without_its_end_is_not_kept() -> None:
    body = TEXT_STREAM.removesuffix(b"data: [DONE]\n\n")
    assert COMPLETIONS.examine(body, STREAM).unkept is Unkept.INCOMPLETE


def test_a_stream_becomes_the_completion_that_it_tells() -> None:
    told = COMPLETIONS.render(TEXT_STREAM, STREAM_WITH_USAGE, WHOLE)
    assert told is not None
    assert json.loads(told) == json.loads(TEXT_WHOLE)


def test_texts_and_log_probabilities_of_several_choices_are_joined() -> None:
    def logged(token: str, offset: int) -> dict[str, Any]:
        top = [{token: -0.5}]
        return {"tokens": [token], "token_logprobs": [-0.5], "top_logprobs": top, "text_offset": [offset]}

    answer = folded(
        chunk({"index": 1, "text": "x", "logprobs": logged("x", 3)}, obfuscation="a"),
        chunk({"text": "a", "logprobs": logged("a", 3), "token_ids": [1]}, obfuscation="b"),
        chunk({"index": 1, "text": "y", "logprobs": None, "finish_reason": "stop"}),
        chunk(
            {"text": "b", "logprobs": logged("b", 4), "token_ids": [2], "finish_reason": "length", "stop_reason": None}
        ),
        chunk(usage=USAGE, timings={"n": 1}),
    )
    assert answer == chunk(
        {
            "index": 0,
            "text": "ab",
            "logprobs": {
                "tokens": ["a", "b"],
                "token_logprobs": [-0.5, -0.5],
                "top_logprobs": [{"a": -0.5}, {"b": -0.5}],
                "text_offset": [3, 4],
            },
            "token_ids": [1, 2],
            "finish_reason": "length",
            "stop_reason": None,
        },
        {"index": 1, "text": "xy", "logprobs": logged("x", 3), "finish_reason": "stop"},
        usage=USAGE,
        timings={"n": 1},
    )


def test_log_probabilities_in_the_manner_of_chat_are_joined() -> None:
    answer = folded(
        chunk({"text": "a", "logprobs": {"content": [{"token": "a"}]}}),
        chunk({"text": "b", "logprobs": {"content": [{"token": "b"}]}}),
        chunk({"text": "", "logprobs": None, "finish_reason": "length"}, usage=USAGE),
    )
    assert answer["choices"][0]["logprobs"] == {"content": [{"token": "a"}, {"token": "b"}]}


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([chunk({"text": "a", "finish_reason": "stop"})], id="no-usage"),
        pytest.param([chunk({"text": "a"}), chunk(usage=USAGE)], id="no-end"),
        pytest.param([chunk(usage=USAGE)], id="no-choice"),
        pytest.param([chunk({"text": "a"}, id="t2"), chunk({"finish_reason": "stop"}, usage=USAGE)], id="two-ids"),
    ],
)
def test_what_does_not_add_up_has_no_whole_form(parts: list[dict[str, Any]]) -> None:
    assert folded(*parts) is None


def test_a_completion_becomes_a_chunk_per_choice() -> None:
    choices = [{"text": "a", "index": 0, "finish_reason": "stop"}, {"text": "b", "index": 1, "finish_reason": "length"}]
    answer = chunk(*choices, usage=USAGE, x_new=1, timings={"n": 1})
    body = json.dumps(answer).encode()
    streamed = COMPLETIONS.render(body, WHOLE, STREAM)
    assert streamed is not None
    assert [json.loads(block.removeprefix(b"data: ")) for block in streamed.split(b"\n\n")[:-2]] == [
        chunk(choices[0], x_new=1),
        chunk(choices[1], timings={"n": 1}),
    ]
    assert streamed.endswith(b"\n\ndata: [DONE]\n\n")
    with_usage = COMPLETIONS.render(body, WHOLE, STREAM_WITH_USAGE)
    assert with_usage is not None
    assert json.loads(with_usage.split(b"\n\n")[0].removeprefix(b"data: "))["usage"] is None
    assert json.loads(with_usage.split(b"\n\n")[2].removeprefix(b"data: ")) == chunk(usage=USAGE, timings={"n": 1})
    again = COMPLETIONS.render(with_usage, STREAM_WITH_USAGE, WHOLE)
    assert again is not None
    assert json.loads(again) == answer


@pytest.mark.parametrize(
    "answer",
    [
        [],
        chunk(),
        chunk({"text": "a", "finish_reason": None}, usage=USAGE),
        chunk({"text": "a", "finish_reason": "stop", "index": None}, usage=USAGE),
        chunk() | {"choices": [7]},
        chunk() | {"choices": "a"},
    ],
)
def test_an_answer_that_did_not_finish_has_no_stream(answer: Any) -> None:
    assert COMPLETIONS.render(json.dumps(answer).encode(), WHOLE, STREAM) is None


def test_usage_is_never_invented() -> None:
    body = json.dumps(chunk({"text": "a", "finish_reason": "stop"})).encode()
    assert COMPLETIONS.render(body, WHOLE, STREAM_WITH_USAGE) is None
    assert COMPLETIONS.render(body, WHOLE, STREAM) is not None


def test_usage_that_was_not_asked_for_is_taken_out() -> None:
    body = stream(chunk({"text": "a", "finish_reason": "stop"}, usage=None), chunk(usage=USAGE))
    assert COMPLETIONS.render(body, STREAM_WITH_USAGE, STREAM) is not None
    assert b"usage" not in (COMPLETIONS.render(body, STREAM_WITH_USAGE, STREAM) or b"usage")
