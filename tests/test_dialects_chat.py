"""Chat completions: what is worth keeping, and what each form looks like in the other."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.model import WHOLE, Form, Unkept
from tests.test_dialects import (
    CHAT,
    CHAT_STREAM,
    CHAT_WHOLE,
    JSON,
    STREAM,
    STREAM_WITH_USAGE,
    UNPADDED,
    USAGE,
    chat_chunk,
    event,
    stream,
)
from tests.test_dialects_oracles import chat_streamed, chat_whole


def chunks(body: bytes | None) -> list[dict[str, Any]]:
    """The chunks of a chat stream that ends as it should."""
    assert body is not None
    *blocks, done, rest = body.split(b"\n\n")
    assert (done, rest) == (b"data: [DONE]", b"")
    return [json.loads(block.removeprefix(b"data: ")) for block in blocks]


def folded(*parts: dict[str, Any]) -> Any:
    """The whole form of a stream of *parts*, or None."""
    whole = CHAT.render(stream(*parts), STREAM_WITH_USAGE, WHOLE)
    return None if whole is None else json.loads(whole)


def choice_of(*choices: dict[str, Any]) -> Any:
    """What a stream whose chunks have these choices, and then usage, tells of its first choice; None for no whole."""
    answer = folded(*(chat_chunk(choices=[{"index": 0} | choice]) for choice in choices), chat_chunk(usage=USAGE))
    return None if answer is None else answer["choices"][0]


def message_of(*deltas: dict[str, Any]) -> Any:
    """The message that *deltas* tell; None for no whole form."""
    told = choice_of(*({"delta": delta} for delta in deltas), {"delta": {}, "finish_reason": "stop"})
    return None if told is None else told["message"]


def whole(message: dict[str, Any], **around: Any) -> dict[str, Any]:
    """A whole chat answer with one choice."""
    choice = {"index": 0, "message": {"role": "assistant"} | message, "finish_reason": "stop"}
    answer: dict[str, Any] = json.loads(CHAT_WHOLE)
    return answer | {"choices": [choice | around.pop("choice", {})]} | around


def spelled(answer: Any) -> bytes:
    """*answer* as JSON."""
    return json.dumps(answer).encode()


CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("change", "unkept"),
    [
        ({}, None),
        ({"error": None}, None),
        ({"error": {"code": 502}}, Unkept.ERROR_INSIDE),
        ({"choices": None}, Unkept.UNREADABLE),
        ({"choices": "x"}, Unkept.UNREADABLE),
        ({"choices": ["x"]}, Unkept.UNREADABLE),
        ({"choices": []}, Unkept.EMPTY),
        ({"citations": ["https://x.invalid"]}, Unkept.SIDE_EFFECT),
    ],
)
def test_a_whole_answer_is_judged_by_what_is_around_its_choices(change: dict[str, Any], unkept: Unkept | None) -> None:
    assert CHAT.examine(spelled(json.loads(CHAT_WHOLE) | change), WHOLE).unkept is unkept


CHOICES = pytest.mark.parametrize(
    ("message", "finish", "unkept"),
    [
        ({"content": "a"}, "stop", None),
        ({"content": "a"}, "eos", None),
        ({"content": " "}, "stop", None),
        ({"content": None, "tool_calls": [CALL]}, "tool_calls", None),
        ({"content": None, "function_call": {"name": "f", "arguments": ""}}, "function_call", None),
        ({"content": None, "refusal": "no"}, "stop", None),
        ({"content": "", "reasoning_content": "hm"}, "stop", None),
        ({"content": None, "audio": {"id": "a", "data": "AAAA"}}, "stop", None),
        ({"content": [{"type": "text", "text": "a"}]}, "stop", None),
        ({"content": ""}, "stop", Unkept.EMPTY),
        ({"content": None, "tool_calls": []}, "stop", Unkept.EMPTY),
        ({"content": [{"type": "text", "text": ""}]}, "stop", Unkept.EMPTY),
        ({}, "stop", Unkept.EMPTY),
        ({"content": "a"}, None, Unkept.INCOMPLETE),
        ({"content": "a"}, "", Unkept.INCOMPLETE),
        ({"content": "a"}, 7, Unkept.INCOMPLETE),
        ({"content": "a"}, "abort", Unkept.INCOMPLETE),
        ({"content": "a"}, "insufficient_system_resource", Unkept.INCOMPLETE),
        ({"content": "a"}, "error", Unkept.ERROR_INSIDE),
        ({"content": "a"}, "length", Unkept.LENGTH),
        ({"content": "a"}, "MAX_TOKENS", Unkept.LENGTH),
        ({"content": "a"}, "content_filter", Unkept.CONTENT_FILTER),
        ({"content": ""}, "length", Unkept.EMPTY),
        ({"content": ""}, "content_filter", Unkept.EMPTY),
        ({"content": "a", "executed_tools": [{"type": "search"}]}, "stop", Unkept.SIDE_EFFECT),
        ({"content": "a", "annotations": [{"type": "url_citation"}]}, "length", Unkept.SIDE_EFFECT),
        ({"content": "a", "annotations": [{"type": "file"}, 7]}, "stop", None),
    ],
)


@CHOICES
def test_a_whole_choice_is_judged(message: dict[str, Any], finish: Any, unkept: Unkept | None) -> None:
    assert CHAT.examine(spelled(whole(message, choice={"finish_reason": finish})), WHOLE).unkept is unkept


@CHOICES
def test_a_streamed_choice_is_judged_alike(message: dict[str, Any], finish: Any, unkept: Unkept | None) -> None:
    body = stream(chat_chunk({"role": "assistant"} | message), chat_chunk({}, finish), chat_chunk(usage=USAGE))
    assert CHAT.examine(body, STREAM).unkept is unkept


def two(first: str | None, second: str | None, *, places: tuple[int, int] = (0, 1)) -> tuple[bytes, bytes]:
    """An answer of two choices, streamed and whole, which end for these reasons."""
    choices = [
        {"index": place, "message": {"role": "assistant", "content": "a"}, "finish_reason": reason}
        for place, reason in zip(places, (first, second), strict=True)
    ]
    parts = [
        chat_chunk(choices=[{"index": place, "delta": {"content": "a"}, "finish_reason": reason}])
        for place, reason in zip(places, (first, second), strict=True)
    ]
    return stream(*parts), spelled(json.loads(CHAT_WHOLE) | {"choices": choices})


@pytest.mark.parametrize(
    ("first", "second", "unkept"),
    [
        ("stop", "stop", None),
        ("stop", None, Unkept.INCOMPLETE),
        (None, "stop", Unkept.INCOMPLETE),
        ("stop", "length", Unkept.LENGTH),
        ("content_filter", "stop", Unkept.CONTENT_FILTER),
        ("content_filter", "length", Unkept.INCOMPLETE),
    ],
)
def test_every_choice_counts(first: str | None, second: str | None, unkept: Unkept | None) -> None:
    streamed, all_at_once = two(first, second)
    assert CHAT.examine(streamed, STREAM).unkept is unkept
    assert CHAT.examine(all_at_once, WHOLE).unkept is unkept


def test_a_choice_that_never_began_makes_a_stream_incomplete() -> None:
    assert CHAT.examine(two("stop", "stop", places=(0, 2))[0], STREAM).unkept is Unkept.INCOMPLETE


def test_a_choice_without_a_message_is_incomplete_and_a_text_for_one_unreadable() -> None:
    answer = whole({})
    del answer["choices"][0]["message"]
    assert CHAT.examine(spelled(answer), WHOLE).unkept is Unkept.INCOMPLETE
    answer["choices"][0]["message"] = "a"
    assert CHAT.examine(spelled(answer), WHOLE).unkept is Unkept.UNREADABLE


def test_an_error_in_a_choice_is_an_error() -> None:
    body = stream(chat_chunk(choices=[{"index": 0, "delta": {"content": "a"}, "error": {"code": 502}}]))
    assert CHAT.examine(body, STREAM).unkept is Unkept.ERROR_INSIDE


def test_a_stream_without_its_end_is_not_kept() -> None:
    body = CHAT_STREAM.removesuffix(b"data: [DONE]\n\n")
    assert CHAT.examine(body, STREAM).unkept is Unkept.INCOMPLETE
    assert CHAT.render(body, STREAM_WITH_USAGE, WHOLE) is None
    assert CHAT.render(body, STREAM_WITH_USAGE, STREAM) is None


@pytest.mark.parametrize("choices", ["x", {}, [7]])
def test_choices_that_are_none_make_a_stream_unreadable(choices: Any) -> None:
    assert CHAT.examine(stream(chat_chunk(choices=choices)), STREAM).unkept is Unkept.UNREADABLE


def test_an_end_without_a_choice_is_not_kept() -> None:
    assert CHAT.examine(stream(chat_chunk(usage=USAGE)), STREAM).unkept is Unkept.INCOMPLETE


def test_the_model_and_the_usage_are_read_past_an_empty_first_chunk() -> None:
    found = CHAT.examine(stream(chat_chunk(model="", id="")) + CHAT_STREAM, STREAM)
    assert found.model == "m"
    assert found.usage is not None
    assert found.usage.total_tokens == 5


# Streams told whole.


def test_a_stream_becomes_the_answer_that_it_tells() -> None:
    told = CHAT.render(CHAT_STREAM, STREAM_WITH_USAGE, WHOLE)
    assert told is not None
    assert json.loads(told) == json.loads(CHAT_WHOLE)
    assert list(json.loads(told)["choices"][0]) == ["index", "message", "finish_reason"]


@pytest.mark.parametrize(
    ("deltas", "message"),
    [
        pytest.param(
            [{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}],
            {"role": "assistant", "content": "ab"},
            id="a-role-in-every-delta",
        ),
        pytest.param([{"content": None}, {"content": "a"}], {"role": "assistant", "content": "a"}, id="null-then-text"),
        pytest.param(
            [{"tool_calls": None}, {"tool_calls": None}], {"role": "assistant", "tool_calls": None}, id="null-for-calls"
        ),
        pytest.param([{"content": None}], {"role": "assistant", "content": None}, id="null"),
        pytest.param(
            [{"refusal": None, "content": None}, {"refusal": "I "}, {"refusal": "won't"}],
            {"role": "assistant", "refusal": "I won't", "content": None},
            id="refusal",
        ),
        pytest.param(
            [{"reasoning_content": "h"}, {"reasoning_content": "m"}, {"content": "a"}],
            {"role": "assistant", "reasoning_content": "hm", "content": "a"},
            id="reasoning-content",
        ),
        pytest.param(
            [{"content": "", "reasoning": "h"}, {"content": "", "reasoning": "m"}, {"content": "a"}],
            {"role": "assistant", "content": "a", "reasoning": "hm"},
            id="reasoning",
        ),
        pytest.param(
            [
                {"reasoning_details": [{"type": "reasoning.text", "text": "h", "format": "x", "index": 0}]},
                {"reasoning_details": [{"type": "reasoning.text", "text": "m", "format": "x", "index": 0}]},
                {"reasoning_details": [{"type": "reasoning.encrypted", "data": "Zz", "index": 1}]},
                {"reasoning_details": [{"type": "reasoning.text", "signature": "s", "index": 0}]},
            ],
            {
                "role": "assistant",
                "reasoning_details": [
                    {"type": "reasoning.text", "text": "hm", "format": "x", "index": 0, "signature": "s"},
                    {"type": "reasoning.encrypted", "data": "Zz", "index": 1},
                ],
            },
            id="reasoning-details",
        ),
        pytest.param(
            [
                {
                    "tool_calls": [
                        {"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": ""}}
                    ]
                },
                {
                    "tool_calls": [
                        {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": "{"}}
                    ]
                },
                {
                    "tool_calls": [
                        {"index": 1, "function": {"arguments": "[]"}},
                        {"index": 0, "function": {"arguments": "}"}},
                    ]
                },
            ],
            {
                "role": "assistant",
                "tool_calls": [
                    {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
                    {"id": "b", "type": "function", "function": {"name": "g", "arguments": "[]"}},
                ],
            },
            id="interleaved-tool-calls",
        ),
        pytest.param(
            [
                {
                    "tool_calls": [
                        {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": None}}
                    ]
                },
                {"tool_calls": [{"index": 0, "id": "a", "type": None, "function": {"name": "f", "arguments": "{"}}]},
                {"tool_calls": [{"index": 0, "id": "", "function": {"name": None, "arguments": "}"}}]},
            ],
            {
                "role": "assistant",
                "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
            },
            id="a-tool-call-that-repeats-its-names",
        ),
        pytest.param(
            [
                {"tool_calls": [{"index": 0, "id": "a", "type": "custom", "custom": {"name": "f", "input": "x"}}]},
                {"tool_calls": [{"index": 0, "custom": {"input": "y"}}]},
            ],
            {
                "role": "assistant",
                "tool_calls": [{"id": "a", "type": "custom", "custom": {"name": "f", "input": "xy"}}],
            },
            id="custom-tool-call",
        ),
        pytest.param(
            [{"tool_calls": None}, {"tool_calls": []}], {"role": "assistant", "tool_calls": []}, id="no-calls"
        ),
        pytest.param(
            [{"function_call": {"name": "f", "arguments": ""}}, {"function_call": {"arguments": "{}"}}],
            {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}},
            id="function-call",
        ),
        pytest.param(
            [
                {"audio": {"id": "au", "transcript": "he"}},
                {"audio": {"data": "AAAA", "transcript": "y"}},
                {"audio": {"data": "AA=="}},
                {"audio": {"expires_at": 9}},
            ],
            {"role": "assistant", "audio": {"id": "au", "transcript": "hey", "data": "AAAAAA==", "expires_at": 9}},
            id="audio",
        ),
        pytest.param(
            [{"annotations": [{"type": "a"}]}, {"annotations": []}, {"annotations": [{"type": "b"}]}],
            {"role": "assistant", "annotations": [{"type": "a"}, {"type": "b"}]},
            id="annotations",
        ),
        pytest.param(
            [
                {"x_new": None},
                {"x_new": {"a": 1}},
                {"x_new": {"b": [2]}},
                {"x_flag": True},
                {"x_flag": True},
                {"x_s": ""},
            ],
            {"role": "assistant", "x_new": {"a": 1, "b": [2]}, "x_flag": True, "x_s": ""},
            id="unknown-members",
        ),
        pytest.param(
            [{"content": [{"type": "text"}]}], {"role": "assistant", "content": [{"type": "text"}]}, id="parts"
        ),
    ],
)
def test_deltas_become_the_message_that_they_spell(deltas: list[dict[str, Any]], message: dict[str, Any]) -> None:
    assert message_of(*deltas) == message


@pytest.mark.parametrize(
    "deltas",
    [
        pytest.param([{"x_new": "a"}, {"x_new": "a"}], id="constant-or-text"),
        pytest.param([{"x_new": "a"}, {"x_new": "b"}], id="text-or-states"),
        pytest.param([{"x_new": [1]}, {"x_new": [2]}], id="more-items-or-another-list"),
        pytest.param([{"x_new": 1}, {"x_new": 2}], id="two-numbers"),
        pytest.param([{"x_new": 1}, {"x_new": True}], id="a-number-and-a-claim"),
        pytest.param([{"x_new": 1}, {"x_new": {}}], id="a-number-and-an-object"),
        pytest.param([{"content": "a"}, {"content": [{"type": "text"}]}], id="text-and-parts"),
        pytest.param([{"content": [1]}, {"content": [2]}], id="parts-twice"),
        pytest.param([{"annotations": "a"}], id="no-list"),
        pytest.param([{"function_call": "f"}], id="no-object"),
        pytest.param([{"role": "assistant"}, {"role": "tool"}], id="two-roles"),
        pytest.param([{"tool_calls": [{"id": "a"}]}], id="a-call-without-index"),
        pytest.param([{"tool_calls": [{"index": True}]}], id="an-index-that-is-none"),
        pytest.param([{"tool_calls": [{"index": 0, "id": "a"}, {"index": 0, "id": "b"}]}], id="two-calls-in-one-place"),
        pytest.param(
            [{"function_call": {"name": "f"}}, {"function_call": {"name": "g"}}], id="a-name-in-pieces-or-two-names"
        ),
        pytest.param([{"audio": {"data": "AA=="}}, {"audio": {"data": "AA=="}}], id="data-encoded-by-the-piece"),
    ],
)
def test_what_deltas_do_not_spell_for_certain_has_no_whole_form(deltas: list[dict[str, Any]]) -> None:
    assert message_of(*deltas) is None


def test_log_probabilities_are_joined() -> None:
    told = choice_of(
        {"delta": {"content": ""}, "logprobs": None},
        {"delta": {"content": "a"}, "logprobs": {"content": [{"token": "a"}], "refusal": None}},
        {"delta": {"content": "b"}, "logprobs": {"content": [{"token": "b"}], "refusal": None}},
        {"delta": {"refusal": "c"}, "logprobs": {"content": None, "refusal": [{"token": "c"}]}},
        {"delta": {}, "logprobs": None, "finish_reason": "stop"},
    )
    assert told["logprobs"] == {"content": [{"token": "a"}, {"token": "b"}], "refusal": [{"token": "c"}]}


def test_members_beside_a_delta_are_carried_over() -> None:
    told = choice_of(
        {"delta": {"content": "a"}, "native_finish_reason": None, "token_ids": [1], "content_filter_results": {}},
        {
            "delta": {"content": "b"},
            "token_ids": [2],
            "content_filter_results": {"hate": {"filtered": False, "severity": "safe"}},
        },
        {"content_filter_results": {"hate": {"filtered": False, "severity": "safe"}, "violence": {"filtered": False}}},
        {"delta": {}, "finish_reason": "stop", "native_finish_reason": "end", "stop_reason": 7, "x_new": {"a": 1.0}},
    )
    assert told == {
        "index": 0,
        "message": {"role": "assistant", "content": "ab"},
        "native_finish_reason": "end",
        "token_ids": [1, 2],
        "content_filter_results": {"hate": {"filtered": False, "severity": "safe"}, "violence": {"filtered": False}},
        "finish_reason": "stop",
        "stop_reason": 7,
        "x_new": {"a": 1.0},
    }


@pytest.mark.parametrize(
    "choices",
    [
        pytest.param([{"delta": {"content": "a"}}], id="no-end"),
        pytest.param([{"finish_reason": "stop"}], id="nothing-said"),
        pytest.param([{"delta": {}, "finish_reason": "stop"}, {"delta": {}, "finish_reason": "length"}], id="two-ends"),
        pytest.param([{"delta": {}, "message": {}, "finish_reason": "stop"}], id="a-message-beside-the-delta"),
        pytest.param(
            [
                {"delta": {}, "content_filter_results": {"hate": {"severity": "safe"}}},
                {"delta": {}, "content_filter_results": {"hate": {"severity": "low"}}, "finish_reason": "stop"},
            ],
            id="filters-that-disagree",
        ),
    ],
)
def test_a_choice_that_does_not_add_up_has_no_whole_form(choices: list[dict[str, Any]]) -> None:
    assert choice_of(*choices) is None


def test_several_choices_are_told_apart_and_put_in_order() -> None:
    def part(index: int, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        return chat_chunk(choices=[{"index": index, "delta": delta, "finish_reason": finish}])

    answer = folded(
        part(1, {"content": "x"}),
        part(0, {"content": "a"}),
        part(1, {"content": "y"}, "stop"),
        part(0, {"content": "b"}, "length"),
        chat_chunk(usage=USAGE),
    )
    assert [
        (choice["index"], choice["message"]["content"], choice["finish_reason"]) for choice in answer["choices"]
    ] == [
        (0, "ab", "length"),
        (1, "xy", "stop"),
    ]


def test_what_stands_around_the_choices_is_carried_over() -> None:
    answer = folded(
        chat_chunk(id="", model="", object="", created=0, prompt_filter_results=[{"prompt_index": 0}]),
        chat_chunk({"content": "a"}, provider="P", service_tier="default", obfuscation="aa", usage=None, x_new=[1.0]),
        chat_chunk({}, "stop", provider="P", created=8, obfuscation="b", x_groq={"id": "r"}, stream_options={"a": 1}),
        chat_chunk(usage={"total_tokens": 1}, obfuscation="cc", x_groq={"usage": 2}, timings={"cache_n": 3}),
    )
    assert answer == {
        "id": "c1",
        "object": "chat.completion",
        "created": 7,
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"}],
        "prompt_filter_results": [{"prompt_index": 0}],
        "provider": "P",
        "service_tier": "default",
        "usage": {"total_tokens": 1},
        "x_new": [1.0],
        "x_groq": {"id": "r", "usage": 2},
        "timings": {"cache_n": 3},
    }


def test_figures_that_grow_with_every_chunk_are_the_last() -> None:
    answer = folded(
        chat_chunk({"content": "a"}, usage={"total_tokens": 1}, timings={"n": 1}),
        chat_chunk({}, "stop", usage={"total_tokens": 2}, timings={"n": 2}),
    )
    assert (answer["usage"], answer["timings"]) == ({"total_tokens": 2}, {"n": 2})


def test_the_usage_that_counts_is_the_last() -> None:
    body = stream(chat_chunk({"content": "a"}, "stop", usage={"total_tokens": 1}), chat_chunk(usage=USAGE))
    found = CHAT.examine(body, STREAM).usage
    assert found is not None
    assert found.total_tokens == 5


@pytest.mark.parametrize("changed", [{"id": "c2"}, {"model": "n"}, {"x_new": "b"}])
def test_a_constant_that_changes_has_no_whole_form(changed: dict[str, Any]) -> None:
    assert folded(chat_chunk({"content": "a"}, x_new="a"), chat_chunk({}, "stop", usage=USAGE, **changed)) is None


def test_without_usage_there_is_no_whole_form() -> None:
    assert folded(chat_chunk({"content": "a"}), chat_chunk({}, "stop")) is None
    assert folded(chat_chunk({"content": "a"}, usage=None), chat_chunk({}, "stop", usage=None)) is None
    assert folded(chat_chunk(usage=USAGE)) is None


def test_a_stream_that_goes_on_after_its_end_has_no_other_form() -> None:
    for more in (event(chat_chunk({"content": "b"})), b"data: x"):
        assert CHAT.render(CHAT_STREAM + more, STREAM_WITH_USAGE, WHOLE) is None
    assert CHAT.render(CHAT_STREAM + b"data: x\n\n", STREAM_WITH_USAGE, STREAM) is None


def test_a_surrogate_pair_that_two_deltas_split_is_whole_again() -> None:
    assert message_of({"content": "\ud83d"}, {"content": "\ude00"})["content"] == "\U0001f600"


# Whole answers told as streams.


def test_an_answer_becomes_a_stream_as_it_is_documented() -> None:
    base = {"id": "c1", "object": "chat.completion.chunk", "created": 7, "model": "m"}

    def choice(delta: dict[str, Any], finish: str | None = None) -> list[dict[str, Any]]:
        return [{"index": 0, "delta": delta, "finish_reason": finish}]

    told = [
        {**base, "choices": choice({"role": "assistant", "content": ""})},
        {**base, "choices": choice({"content": "Hello"})},
        {**base, "choices": choice({}, "stop")},
    ]
    assert chunks(CHAT.render(CHAT_WHOLE, WHOLE, STREAM)) == told
    assert chunks(CHAT.render(CHAT_WHOLE, WHOLE, UNPADDED)) == told
    assert chunks(CHAT.render(CHAT_WHOLE, WHOLE, STREAM_WITH_USAGE)) == [
        *({**chunk, "usage": None} for chunk in told),
        {**base, "choices": [], "usage": USAGE},
    ]


def deltas(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """The deltas of *answer* as a stream, without the last, which only ends it."""
    told = [chunk["choices"][0] for chunk in chunks(CHAT.render(spelled(answer), WHOLE, STREAM))]
    assert told[-1]["delta"] == {}
    assert [choice["finish_reason"] for choice in told] == [None] * (len(told) - 1) + ["stop"]
    return [choice["delta"] for choice in told[:-1]]


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ({"content": ""}, [{"role": "assistant", "content": ""}]),
        ({"content": None, "refusal": "no"}, [{"role": "assistant", "content": None}, {"refusal": "no"}]),
        (
            {"content": "a", "refusal": None, "annotations": [], "reasoning_content": "hm"},
            [
                {"role": "assistant", "content": "", "refusal": None, "annotations": []},
                {"reasoning_content": "hm"},
                {"content": "a"},
            ],
        ),
        (
            {"content": None, "tool_calls": [CALL, CALL | {"id": "call_2", "index": 1}]},
            [
                {"role": "assistant", "content": None},
                {"tool_calls": [{"index": 0, **CALL}, {"index": 1, **CALL, "id": "call_2"}]},
            ],
        ),
        (
            {"content": None, "function_call": {"name": "f", "arguments": "{}"}},
            [{"role": "assistant", "content": None}, {"function_call": {"name": "f", "arguments": "{}"}}],
        ),
        (
            {"content": "a", "audio": {"id": "au"}, "x_new": 1, "annotations": [{"type": "a"}]},
            [
                {"role": "assistant", "content": ""},
                {"content": "a"},
                {"audio": {"id": "au"}, "x_new": 1, "annotations": [{"type": "a"}]},
            ],
        ),
    ],
)
def test_a_message_becomes_deltas(message: dict[str, Any], told: list[dict[str, Any]]) -> None:
    assert deltas(whole(message)) == told


@pytest.mark.parametrize(
    ("message", "place"),
    [({"content": "a"}, 1), ({"content": None, "refusal": "no"}, 1), ({"content": None, "tool_calls": [CALL]}, 1)],
)
def test_log_probabilities_go_with_the_text(message: dict[str, Any], place: int) -> None:
    logged = {"content": [{"token": "a"}], "refusal": None}
    told = chunks(CHAT.render(spelled(whole(message, choice={"logprobs": logged})), WHOLE, STREAM))
    assert [chunk["choices"][0]["logprobs"] for chunk in told] == [logged if at == place else None for at in range(3)]


def test_what_an_answer_says_around_its_choices_is_told_once_or_on_every_chunk() -> None:
    answer = whole({"content": "a"}, choice={"native_finish_reason": "end"}, provider="P", timings={"n": 1}, x_new=[1])
    answer["prompt_filter_results"] = [{"prompt_index": 0}]
    prompt, role, text, end = chunks(CHAT.render(spelled(answer), WHOLE, STREAM))
    assert (prompt["choices"], prompt["prompt_filter_results"]) == ([], [{"prompt_index": 0}])
    assert [chunk["provider"] for chunk in (prompt, role, text, end)] == ["P"] * 4
    assert [chunk.get("x_new") for chunk in (prompt, role, text, end)] == [None, [1], None, None]
    assert [chunk.get("timings") for chunk in (prompt, role, text, end)] == [None, None, None, {"n": 1}]
    assert end["choices"][0]["native_finish_reason"] == "end"
    *told, usage = chunks(CHAT.render(spelled(answer), WHOLE, STREAM_WITH_USAGE))
    assert usage["timings"] == {"n": 1}
    assert [place for place, chunk in enumerate(told) if "timings" in chunk] == []
    assert [place for place, chunk in enumerate(told) if "prompt_filter_results" in chunk] == [0]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param([], id="no-object"),
        pytest.param(whole({"content": [{"type": "text", "text": "a"}]}), id="content-in-parts"),
        pytest.param(whole({}, choice={"finish_reason": None}), id="no-end"),
        pytest.param(whole({}, choice={"message": "a"}), id="no-message"),
        pytest.param(whole({}, choice={"index": None}), id="no-index"),
        pytest.param(whole({}, choice={"delta": {}}), id="a-delta"),
        pytest.param(whole({}, choices=[]), id="no-choice"),
        pytest.param(whole({}, choices=[7]), id="no-choice-object"),
        pytest.param(whole({"tool_calls": {"a": 1}}), id="calls-that-are-no-list"),
        pytest.param(whole({"tool_calls": [CALL | {"index": 1}]}), id="a-call-out-of-place"),
    ],
)
def test_an_answer_that_has_no_documented_stream_has_no_other_form(answer: Any) -> None:
    assert CHAT.render(spelled(answer), WHOLE, STREAM) is None


@pytest.mark.parametrize("usage", [None, 7])
def test_usage_is_never_invented(usage: Any) -> None:
    answer = json.loads(CHAT_WHOLE) | {"usage": usage}
    assert CHAT.render(spelled(answer), WHOLE, STREAM_WITH_USAGE) is None
    assert CHAT.render(spelled(answer), WHOLE, STREAM) is not None


# Streams in another dress.

PADDED = (
    b": PROCESSING\n\n"
    + event(chat_chunk({"role": "assistant", "content": ""}, usage=None, obfuscation="aa"))
    + b": note\n"
    + event(chat_chunk({"content": "a"}, "stop", usage=None, obfuscation="b"))
    + b": last\n"
    + event(chat_chunk(usage=USAGE, obfuscation="", x_new=1))
    + b"data: [DONE]\n\n"
)


def test_usage_that_was_not_asked_for_is_taken_out() -> None:
    assert CHAT.render(PADDED, STREAM_WITH_USAGE, STREAM) == (
        b": PROCESSING\n\n"
        + compact(chat_chunk({"role": "assistant", "content": ""}, obfuscation="aa"))
        + b": note\n"
        + compact(chat_chunk({"content": "a"}, "stop", obfuscation="b", x_new=1))
        + b": last\n\n"
        + b"data: [DONE]\n\n"
    )


def test_padding_that_was_not_asked_for_is_taken_out() -> None:
    want = Form(stream=True, include_usage=True, obfuscation=False)
    assert CHAT.render(PADDED, STREAM_WITH_USAGE, want) == (
        b": PROCESSING\n\n"
        + compact(chat_chunk({"role": "assistant", "content": ""}, usage=None))
        + b": note\n"
        + compact(chat_chunk({"content": "a"}, "stop", usage=None))
        + b": last\n"
        + compact(chat_chunk(usage=USAGE, x_new=1))
        + b"data: [DONE]\n\n"
    )


def compact(value: Any) -> bytes:
    """An event as we write it."""
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"


def test_events_that_need_no_change_keep_their_bytes() -> None:
    choice = b'data:{"id" : "c", "choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}]}'
    body = choice + b"\r\n\r\ndata:[DONE]\r\n\r\n: after"
    assert CHAT.render(body, STREAM_WITH_USAGE, STREAM) == body


def test_usage_on_a_chunk_with_a_choice_is_taken_off_it() -> None:
    body = stream(chat_chunk({"content": "a"}, "stop", usage=USAGE))
    assert chunks(CHAT.render(body, STREAM_WITH_USAGE, STREAM)) == [chat_chunk({"content": "a"}, "stop")]


def test_usage_and_padding_that_were_not_recorded_are_not_invented() -> None:
    body = stream(chat_chunk({"content": "a"}, "stop"))
    assert CHAT.render(body, STREAM, STREAM_WITH_USAGE) is None
    assert CHAT.render(body, UNPADDED, STREAM) is None


def test_usage_that_a_provider_always_sends_is_as_good_as_asked_for() -> None:
    assert CHAT.render(CHAT_STREAM, STREAM, STREAM_WITH_USAGE) == CHAT_STREAM


def test_what_only_the_usage_chunk_says_needs_another_chunk_to_carry_it() -> None:
    assert CHAT.render(stream(chat_chunk(usage=USAGE, x_new=1)), STREAM_WITH_USAGE, STREAM) is None
    assert CHAT.render(stream(chat_chunk(usage=USAGE)), STREAM_WITH_USAGE, STREAM) == stream()


# Properties, judged by the real client where it knows the members.

NAMES = st.text(max_size=4).map("x_{}".format)
EXTRAS = st.dictionaries(NAMES, JSON, max_size=3)
CALLS = st.builds(
    lambda name, arguments, extra: {
        "id": name,
        "type": "function",
        "function": {"name": name, "arguments": arguments} | extra,
    },
    st.text(min_size=1, max_size=5),
    st.text(max_size=9),
    EXTRAS,
)
LOGGED = st.none() | st.fixed_dictionaries(
    {"content": st.none() | st.lists(st.fixed_dictionaries({"token": st.text(max_size=3)}), min_size=1, max_size=3)}
)
MESSAGES_SAID = st.builds(
    lambda known, extra: {"role": "assistant"} | known | extra,
    st.fixed_dictionaries(
        {"content": st.none() | st.text(max_size=9)},
        optional={
            "refusal": st.none() | st.text(min_size=1, max_size=5),
            "reasoning_content": st.none() | st.text(max_size=5),
            "reasoning": st.text(max_size=5),
            "tool_calls": st.lists(CALLS, max_size=3),
            "annotations": st.lists(JSON.filter(lambda value: value is not None), max_size=2),
        },
    ),
    EXTRAS,
)
ANSWERS = st.builds(
    lambda choices, extra, usage: (
        {
            "id": "c",
            "object": "chat.completion",
            "created": 7,
            "model": "m",
            "choices": [{"index": at} | choice for at, choice in enumerate(choices)],
            "usage": USAGE | usage,
        }
        | extra
    ),
    st.lists(
        st.builds(
            lambda message, logged, extra: {"message": message, "logprobs": logged, "finish_reason": "stop"} | extra,
            MESSAGES_SAID,
            LOGGED,
            EXTRAS,
        ),
        min_size=1,
        max_size=3,
    ),
    EXTRAS,
    EXTRAS,
)


@given(ANSWERS)
def test_any_answer_survives_being_a_stream(answer: dict[str, Any]) -> None:
    streamed = CHAT.render(spelled(answer), WHOLE, STREAM_WITH_USAGE)
    assert streamed is not None
    again = CHAT.render(streamed, STREAM_WITH_USAGE, WHOLE)
    assert again is not None
    # Spelled out, so that 1, 1.0 and true are three values.
    assert json.dumps(json.loads(again), sort_keys=True) == json.dumps(answer, sort_keys=True)


@given(ANSWERS)
def test_any_answer_is_judged_alike_in_both_forms(answer: dict[str, Any]) -> None:
    streamed = CHAT.render(spelled(answer), WHOLE, STREAM_WITH_USAGE)
    assert streamed is not None
    assert CHAT.examine(streamed, STREAM_WITH_USAGE) == CHAT.examine(spelled(answer), WHOLE)


@pytest.mark.parametrize(
    "message",
    [
        {"content": "Hello"},
        {"content": "", "refusal": None},
        {"content": None, "refusal": "I won't"},
        {"content": "a", "tool_calls": [CALL, CALL | {"id": "call_2"}]},
        {"content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"content": "a", "reasoning_content": "hm", "x_new": {"a": [1]}},
    ],
)
def test_the_real_client_reads_the_same_in_both_forms(message: dict[str, Any]) -> None:
    logged = {"content": [{"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}], "refusal": None}
    body = spelled(whole(message, choice={"logprobs": logged}, system_fingerprint="fp"))
    streamed = CHAT.render(body, WHOLE, STREAM_WITH_USAGE)
    assert streamed is not None
    assert chat_streamed(streamed) == chat_whole(body)
    again = CHAT.render(streamed, STREAM_WITH_USAGE, WHOLE)
    assert again is not None
    assert chat_whole(again) == chat_whole(body)
