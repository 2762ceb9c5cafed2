"""The Responses API: what is worth keeping, and what each form looks like in the other."""

import json
from typing import Any

import pytest

from proxy.model import WHOLE, Unkept
from tests.test_dialects import (
    BLANK,
    ITEM,
    RESPONSE,
    RESPONSES,
    RESPONSES_EVENTS,
    RESPONSES_STREAM,
    RESPONSES_WHOLE,
    STREAM,
    UNPADDED,
    event,
    responses_stream,
)
from tests.test_dialects_oracles import responses_streamed, responses_whole

CALL = {
    "id": "fc_1",
    "type": "function_call",
    "status": "completed",
    "call_id": "call_1",
    "name": "f",
    "arguments": '{"a":1}',
}
CUSTOM = {"id": "ct_1", "type": "custom_tool_call", "call_id": "call_2", "name": "g", "input": "ls"}
THOUGHT = {
    "id": "rs_1",
    "type": "reasoning",
    "summary": [{"type": "summary_text", "text": "I "}, {"type": "summary_text", "text": "think"}],
    "encrypted_content": "sealed",
}
OPEN_THOUGHT = {
    "id": "rs_2",
    "type": "reasoning",
    "status": "completed",
    "summary": [],
    "content": [{"type": "reasoning_text", "text": "hm"}],
}
SPOKEN = {
    "id": "msg_2",
    "type": "message",
    "status": "completed",
    "role": "assistant",
    "content": [
        {
            "type": "output_text",
            "text": "see",
            "annotations": [{"type": "file_path", "file_id": "a", "index": 0}],
            "logprobs": [{"token": "see", "bytes": [115], "logprob": -0.5, "top_logprobs": []}],
        },
        {"type": "refusal", "refusal": "no"},
        {"type": "output_text", "text": "", "annotations": [], "logprobs": []},
    ],
}


def ended(**change: Any) -> bytes:
    """A stream that ends in a response with this *change*."""
    response = RESPONSE | change
    kind = f"response.{response['status']}"
    return responses_stream(*RESPONSES_EVENTS[:-1], (kind, {"response": response}))


CUT = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}


@pytest.mark.parametrize(
    ("change", "unkept"),
    [
        ({"status": "failed", "error": {"code": "server_error"}}, Unkept.ERROR_INSIDE),
        ({"status": "failed"}, Unkept.ERROR_INSIDE),
        ({"status": "completed", "error": {"code": "server_error"}}, Unkept.ERROR_INSIDE),
        ({"status": "cancelled"}, Unkept.INCOMPLETE),
        (CUT, Unkept.LENGTH),
        (CUT | {"incomplete_details": {"reason": "content_filter"}}, Unkept.CONTENT_FILTER),
        (CUT | {"incomplete_details": {"reason": "steered"}}, Unkept.INCOMPLETE),
        (CUT | {"incomplete_details": None}, Unkept.INCOMPLETE),
        ({"output": [ITEM | {"status": "incomplete"}]}, Unkept.INCOMPLETE),
        (CUT | {"output": [ITEM | {"status": "incomplete"}]}, Unkept.LENGTH),
        ({"output": None}, Unkept.UNREADABLE),
        ({"output": ["a"]}, Unkept.UNREADABLE),
        ({"output": [ITEM, {"type": "web_search_call", "status": "completed"}]}, Unkept.SIDE_EFFECT),
        (CUT | {"output": [{"type": "code_interpreter_call"}]}, Unkept.SIDE_EFFECT),
        ({"output": [ITEM, {"type": "brand_new_item"}]}, Unkept.SIDE_EFFECT),
    ],
)
def test_a_response_is_judged_alike_in_both_forms(change: dict[str, Any], unkept: Unkept) -> None:
    assert RESPONSES.examine(json.dumps(RESPONSE | change).encode(), WHOLE).unkept is unkept
    assert RESPONSES.examine(ended(**change), STREAM).unkept is unkept


@pytest.mark.parametrize(
    ("output", "unkept"),
    [
        ([], Unkept.EMPTY),
        ([ITEM | {"content": []}], Unkept.EMPTY),
        ([ITEM | {"content": [{"type": "output_text", "text": ""}]}], Unkept.EMPTY),
        ([THOUGHT | {"summary": []}], Unkept.EMPTY),
        ([THOUGHT], None),
        ([OPEN_THOUGHT], None),
        ([CALL], None),
        ([CUSTOM], None),
        ([SPOKEN], None),
    ],
)
def test_what_holds_no_answer_is_empty(output: list[Any], unkept: Unkept | None) -> None:
    assert RESPONSES.examine(json.dumps(RESPONSE | {"output": output}).encode(), WHOLE).unkept is unkept
    body = responses_stream(
        ("response.created", {"response": BLANK}), ("response.completed", {"response": RESPONSE | {"output": output}})
    )
    assert RESPONSES.examine(body, STREAM).unkept is unkept
    empty_and_cut = RESPONSE | CUT | {"output": output}
    assert RESPONSES.examine(json.dumps(empty_and_cut).encode(), WHOLE).unkept is (unkept or Unkept.LENGTH)


@pytest.mark.parametrize("status", ["queued", "in_progress", None])
def test_a_response_that_is_still_being_made_is_incomplete(status: str | None) -> None:
    assert RESPONSES.examine(json.dumps(RESPONSE | {"status": status}).encode(), WHOLE).unkept is Unkept.INCOMPLETE


def test_items_that_only_the_stream_showed_are_judged_too() -> None:
    search = ("response.output_item.done", {"output_index": 0, "item": {"type": "web_search_call"}})
    body = responses_stream(search, ("response.completed", {"response": RESPONSE}))
    assert RESPONSES.examine(body, STREAM).unkept is Unkept.SIDE_EFFECT
    spoken = ("response.output_item.done", {"output_index": 0, "item": ITEM})
    body = responses_stream(spoken, ("response.completed", {"response": RESPONSE | {"output": []}}))
    assert RESPONSES.examine(body, STREAM).unkept is None
    assert RESPONSES.render(body, STREAM, WHOLE) is None


def test_a_last_event_without_a_response_is_unreadable() -> None:
    assert RESPONSES.examine(responses_stream(("response.completed", {})), STREAM).unkept is Unkept.UNREADABLE


def test_a_gateway_may_end_a_stream_in_done() -> None:
    body = RESPONSES_STREAM + b"data: [DONE]\n\n"
    assert RESPONSES.examine(body, STREAM) == RESPONSES.examine(RESPONSES_STREAM, STREAM)
    assert RESPONSES.render(body, STREAM, WHOLE) == RESPONSES.render(RESPONSES_STREAM, STREAM, WHOLE)


def test_a_whole_error_for_a_stream_is_an_error() -> None:
    assert RESPONSES.examine(RESPONSES_WHOLE, STREAM).unkept is Unkept.INCOMPLETE


def test_a_stream_becomes_the_response_of_its_last_event() -> None:
    told = RESPONSES.render(RESPONSES_STREAM, STREAM, WHOLE)
    assert told == json.dumps(RESPONSE, separators=(",", ":")).encode()


def test_a_response_that_was_cut_has_both_forms() -> None:
    told = RESPONSES.render(ended(**CUT), STREAM, WHOLE)
    assert told is not None
    assert json.loads(told) == RESPONSE | CUT
    again = RESPONSES.render(told, WHOLE, STREAM)
    assert again is not None
    assert b"event: response.incomplete\n" in again


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(RESPONSES_STREAM + event({"type": "response.new"}), id="something-after-the-end"),
        pytest.param(RESPONSES_STREAM + b"data: {", id="half-an-event-after-the-end"),
        pytest.param(ended(status="failed"), id="failed"),
        pytest.param(responses_stream(("response.completed", {"response": 7})), id="no-response"),
        pytest.param(responses_stream(("response.completed", {"response": RESPONSE})), id="items-that-were-not-told"),
        pytest.param(b": note\n\n", id="no-event"),
        pytest.param(event([]), id="no-object"),
    ],
)
def test_a_stream_that_does_not_end_well_has_no_whole_form(body: bytes) -> None:
    assert RESPONSES.render(body, STREAM, WHOLE) is None


def test_a_response_becomes_the_documented_events() -> None:
    told = RESPONSES.render(RESPONSES_WHOLE, WHOLE, STREAM)
    assert told is not None
    assert told.replace(b" ", b"") == RESPONSES_STREAM.replace(b" ", b"")


def unfolded(*output: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The events of a response with this *output*, between its beginning and its end."""
    body = RESPONSES.render(json.dumps(RESPONSE | {"output": output}).encode(), WHOLE, STREAM)
    assert body is not None
    told = []
    for number, block in enumerate(body.split(b"\n\n")[:-1]):
        name, data = block.split(b"\n")
        said = json.loads(data.removeprefix(b"data: "))
        assert (said.pop("type"), said.pop("sequence_number")) == (name.removeprefix(b"event: ").decode(), number)
        told.append((name.removeprefix(b"event: response.").decode(), said))
    assert [name for name, _ in told[:2]] == ["created", "in_progress"]
    assert told[-1] == ("completed", {"response": RESPONSE | {"output": list(output)}})
    return told[2:-1]


def test_a_function_call_is_told_in_events() -> None:
    at = {"item_id": "fc_1", "output_index": 0}
    assert unfolded(CALL) == [
        ("output_item.added", {"output_index": 0, "item": CALL | {"status": "in_progress", "arguments": ""}}),
        ("function_call_arguments.delta", at | {"delta": '{"a":1}'}),
        ("function_call_arguments.done", at | {"name": "f", "arguments": '{"a":1}'}),
        ("output_item.done", {"output_index": 0, "item": CALL}),
    ]


def test_what_is_empty_has_no_delta() -> None:
    assert [name for name, _ in unfolded(CALL | {"arguments": ""})] == [
        "output_item.added",
        "function_call_arguments.done",
        "output_item.done",
    ]


def test_a_response_begins_without_what_it_has_only_at_its_end() -> None:
    body = RESPONSES.render(json.dumps(RESPONSE | {"completed_at": 9}).encode(), WHOLE, STREAM)
    assert body is not None
    first = json.loads(body.split(b"\n")[1].removeprefix(b"data: "))["response"]
    assert first == BLANK | {"completed_at": None}


def test_a_custom_tool_call_is_told_in_events() -> None:
    at = {"item_id": "ct_1", "output_index": 1}
    assert unfolded(ITEM, CUSTOM)[-4:] == [
        ("output_item.added", {"output_index": 1, "item": CUSTOM | {"input": ""}}),
        ("custom_tool_call_input.delta", at | {"delta": "ls"}),
        ("custom_tool_call_input.done", at | {"input": "ls"}),
        ("output_item.done", {"output_index": 1, "item": CUSTOM}),
    ]


def test_a_summary_of_reasoning_is_told_in_events() -> None:
    first, second = ({"item_id": "rs_1", "output_index": 0, "summary_index": place} for place in (0, 1))
    empty = {"part": {"type": "summary_text", "text": ""}}
    assert unfolded(THOUGHT) == [
        ("output_item.added", {"output_index": 0, "item": THOUGHT | {"summary": []}}),
        ("reasoning_summary_part.added", first | empty),
        ("reasoning_summary_text.delta", first | {"delta": "I "}),
        ("reasoning_summary_text.done", first | {"text": "I "}),
        ("reasoning_summary_part.done", first | {"part": THOUGHT["summary"][0]}),
        ("reasoning_summary_part.added", second | empty),
        ("reasoning_summary_text.delta", second | {"delta": "think"}),
        ("reasoning_summary_text.done", second | {"text": "think"}),
        ("reasoning_summary_part.done", second | {"part": THOUGHT["summary"][1]}),
        ("output_item.done", {"output_index": 0, "item": THOUGHT}),
    ]


def test_open_reasoning_is_told_in_events() -> None:
    at = {"item_id": "rs_2", "output_index": 0, "content_index": 0}
    assert unfolded(OPEN_THOUGHT) == [
        ("output_item.added", {"output_index": 0, "item": OPEN_THOUGHT | {"status": "in_progress", "content": []}}),
        ("content_part.added", at | {"part": {"type": "reasoning_text", "text": ""}}),
        ("reasoning_text.delta", at | {"delta": "hm"}),
        ("reasoning_text.done", at | {"text": "hm"}),
        ("content_part.done", at | {"part": {"type": "reasoning_text", "text": "hm"}}),
        ("output_item.done", {"output_index": 0, "item": OPEN_THOUGHT}),
    ]


def test_annotations_refusals_and_log_probabilities_are_told_in_events() -> None:
    said, refused, silent = ({"item_id": "msg_2", "output_index": 0, "content_index": place} for place in range(3))
    text, refusal, nothing = SPOKEN["content"]
    logged = {"logprobs": [{"token": "see", "bytes": [115], "logprob": -0.5, "top_logprobs": []}]}
    blank = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    assert unfolded(SPOKEN)[1:-1] == [
        ("content_part.added", said | {"part": blank}),
        ("output_text.delta", said | {"delta": "see"} | logged),
        (
            "output_text.annotation.added",
            said | {"annotation_index": 0, "annotation": {"type": "file_path", "file_id": "a", "index": 0}},
        ),
        ("output_text.done", said | {"text": "see"} | logged),
        ("content_part.done", said | {"part": text}),
        ("content_part.added", refused | {"part": {"type": "refusal", "refusal": ""}}),
        ("refusal.delta", refused | {"delta": "no"}),
        ("refusal.done", refused | {"refusal": "no"}),
        ("content_part.done", refused | {"part": refusal}),
        ("content_part.added", silent | {"part": nothing}),
        ("output_text.done", silent | {"text": "", "logprobs": []}),
        ("content_part.done", silent | {"part": nothing}),
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"status": "in_progress"},
        {"output": None},
        {"output": [7]},
        {"output": [ITEM | {"id": None}]},
        {"output": [ITEM | {"content": None}]},
        {"output": [ITEM | {"content": [7]}]},
        {"output": [ITEM | {"content": [{"type": "output_audio"}]}]},
        {"output": [ITEM | {"content": [{"type": "output_text"}]}]},
        {"output": [CALL | {"arguments": None}]},
        {"output": [THOUGHT | {"summary": [{"type": "brand_new"}]}]},
        {"output": [{"id": "x", "type": "compaction"}]},
    ],
)
def test_a_response_whose_events_we_do_not_know_has_no_stream(change: dict[str, Any]) -> None:
    assert RESPONSES.render(json.dumps(RESPONSE | change).encode(), WHOLE, STREAM) is None
    assert RESPONSES.render(b"[]", WHOLE, STREAM) is None


def test_padding_that_was_not_asked_for_is_taken_out() -> None:
    padded = event(
        {"type": "response.output_text.delta", "delta": "a", "obfuscation": "xyz"}, "response.output_text.delta"
    )
    body = b": note\n\n" + padded + RESPONSES_STREAM
    want = padded.replace(b', "obfuscation": "xyz"', b"").replace(b'": "', b'":"').replace(b', "', b',"')
    assert RESPONSES.render(body, STREAM, UNPADDED) == b": note\n\n" + want + RESPONSES_STREAM
    assert RESPONSES.render(body, UNPADDED, STREAM) is None


@pytest.mark.parametrize("output", [[ITEM], [CALL, CUSTOM], [THOUGHT, ITEM], [OPEN_THOUGHT, CALL], [SPOKEN]])
def test_the_real_client_reads_the_same_in_both_forms(output: list[dict[str, Any]]) -> None:
    body = json.dumps(RESPONSE | {"output": output}).encode()
    streamed = RESPONSES.render(body, WHOLE, STREAM)
    assert streamed is not None
    assert responses_streamed(streamed) == responses_whole(body)
    assert RESPONSES.examine(streamed, STREAM) == RESPONSES.examine(body, WHOLE)
    # The client takes the last event for the answer, so what the others spell is asked apart.
    last = streamed.rindex(b"event: response.completed")
    bare = streamed[last:].replace(json.dumps(output, separators=(",", ":")).encode(), b"null")
    assert responses_streamed(streamed[:last] + bare)["output"] == responses_whole(body)["output"]
