"""Anthropic's Messages: what is worth keeping, and what each form looks like in the other."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.dialects.messages_stream import Block
from proxy.model import WHOLE, Unkept
from tests.test_dialects import (
    JSON,
    MESSAGE,
    MESSAGES,
    MESSAGES_EVENTS,
    MESSAGES_STREAM,
    MESSAGES_WHOLE,
    START,
    STREAM,
    UNPADDED,
    event,
    messages_stream,
)
from tests.test_dialects_oracles import messages_streamed, messages_whole

TEXT = {"type": "text", "text": "Hello"}
THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "sealed"}
SEALED = {"type": "redacted_thinking", "data": "Zz"}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"b": 1.0, "a": [1, {"c": None}]}}
BARE_CALL = {"type": "tool_use", "id": "toolu_2", "name": "g", "input": {}}
CITED = {
    "type": "text",
    "text": "so",
    "citations": [{"type": "char_location", "cited_text": "a"}, {"type": "char_location", "cited_text": "b"}],
}


def streamed(*blocks: tuple[dict[str, Any], list[dict[str, Any]]], **delta: Any) -> bytes:
    """A stream of blocks, each with its deltas, that ends in *delta*."""
    events: list[dict[str, Any]] = [{"type": "message_start", "message": START}]
    for index, (block, deltas) in enumerate(blocks):
        events.append({"type": "content_block_start", "index": index, "content_block": block})
        events += ({"type": "content_block_delta", "index": index, "delta": said} for said in deltas)
        events.append({"type": "content_block_stop", "index": index})
    ending = {"stop_reason": "end_turn", "stop_sequence": None} | delta
    events.append({"type": "message_delta", "delta": ending, "usage": {"output_tokens": 2}})
    return messages_stream(*events, {"type": "message_stop"})


def folded(body: bytes) -> Any:
    """The whole form of the stream *body*, or None."""
    whole = MESSAGES.render(body, STREAM, WHOLE)
    return None if whole is None else json.loads(whole)


def events(**change: Any) -> list[dict[str, Any]]:
    """The events of a message with this *change*."""
    body = MESSAGES.render(json.dumps(MESSAGE | change).encode(), WHOLE, STREAM)
    assert body is not None
    told = []
    for block in body.split(b"\n\n")[:-1]:
        name, data = block.split(b"\n")
        told.append(json.loads(data.removeprefix(b"data: ")))
        assert name == b"event: " + told[-1]["type"].encode()
    return told


@pytest.mark.parametrize(
    ("reason", "unkept"),
    [
        ("end_turn", None),
        ("stop_sequence", None),
        ("tool_use", None),
        ("max_tokens", Unkept.LENGTH),
        ("model_context_window_exceeded", Unkept.LENGTH),
        ("refusal", Unkept.CONTENT_FILTER),
        ("pause_turn", Unkept.INCOMPLETE),
        ("compaction", Unkept.INCOMPLETE),
        ("brand_new", Unkept.INCOMPLETE),
        (None, Unkept.INCOMPLETE),
        (7, Unkept.INCOMPLETE),
    ],
)
def test_a_stop_reason_is_judged_alike_in_both_forms(reason: Any, unkept: Unkept | None) -> None:
    assert MESSAGES.examine(json.dumps(MESSAGE | {"stop_reason": reason}).encode(), WHOLE).unkept is unkept
    assert MESSAGES.examine(streamed((TEXT, []), stop_reason=reason), STREAM).unkept is unkept


@pytest.mark.parametrize(
    ("blocks", "unkept"),
    [
        ([], Unkept.EMPTY),
        ([{"type": "text", "text": ""}], Unkept.EMPTY),
        ([TEXT], None),
        ([THOUGHT], None),
        ([BARE_CALL], None),
        ([TEXT, {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}], Unkept.SIDE_EFFECT),
        ([TEXT, {"type": "web_search_tool_result", "content": []}], Unkept.SIDE_EFFECT),
        ([TEXT, {"type": "mcp_tool_use"}], Unkept.SIDE_EFFECT),
        ([TEXT, {"type": "brand_new"}], Unkept.SIDE_EFFECT),
        ([TEXT, {}], Unkept.SIDE_EFFECT),
    ],
)
def test_blocks_are_judged_alike_in_both_forms(blocks: list[dict[str, Any]], unkept: Unkept | None) -> None:
    assert MESSAGES.examine(json.dumps(MESSAGE | {"content": blocks}).encode(), WHOLE).unkept is unkept
    assert MESSAGES.examine(streamed(*((block, []) for block in blocks)), STREAM).unkept is unkept


@pytest.mark.parametrize(
    ("change", "unkept"),
    [
        ({"content": None}, Unkept.UNREADABLE),
        ({"content": ["a"]}, Unkept.UNREADABLE),
        ({"container": {"id": "c"}}, Unkept.SIDE_EFFECT),
        (
            {"usage": {"input_tokens": 1, "output_tokens": 1, "server_tool_use": {"web_search_requests": 1}}},
            Unkept.SIDE_EFFECT,
        ),
        ({"usage": {"input_tokens": 1, "output_tokens": 1, "server_tool_use": {"web_search_requests": 0}}}, None),
        ({"content": [], "stop_reason": "refusal"}, Unkept.EMPTY),
    ],
)
def test_a_whole_message_is_judged(change: dict[str, Any], unkept: Unkept | None) -> None:
    assert MESSAGES.examine(json.dumps(MESSAGE | change).encode(), WHOLE).unkept is unkept


def test_a_container_that_the_end_of_a_stream_names_is_a_trace() -> None:
    assert MESSAGES.examine(streamed((TEXT, []), container={"id": "c"}), STREAM).unkept is Unkept.SIDE_EFFECT


@pytest.mark.parametrize("missing", [0, 1, 5, 6, 7])
def test_a_stream_that_lacks_an_event_is_not_complete(missing: int) -> None:
    told = [said for place, said in enumerate(MESSAGES_EVENTS) if place != missing]
    kept = MESSAGES.examine(messages_stream(*told), STREAM).unkept
    # The start tells only who and what it cost: without it the answer is there, but it has no whole form.
    assert kept is (None if missing in (0, 1) else Unkept.INCOMPLETE)
    assert folded(messages_stream(*told)) is None


def test_the_usage_is_that_of_both_ends() -> None:
    body = MESSAGES_STREAM.replace(
        b'"usage": {"input_tokens": 3,', b'"usage": {"input_tokens": 3, "cache_read_input_tokens": 4,'
    )
    body = body.replace(b'"usage": {"output_tokens": 2}', b'"usage": {"output_tokens": 2, "input_tokens": null}')
    usage = MESSAGES.examine(body, STREAM).usage
    assert usage is not None
    assert (usage.input_tokens, usage.cached_tokens, usage.output_tokens) == (7, 4, 2)


def test_a_stream_becomes_the_message_that_it_tells() -> None:
    assert MESSAGES.render(MESSAGES_STREAM, STREAM, WHOLE) == json.dumps(MESSAGE, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    ("start", "deltas", "block"),
    [
        pytest.param(
            {"type": "thinking", "thinking": "", "signature": ""},
            [
                {"type": "thinking_delta", "thinking": "h"},
                {"type": "thinking_delta", "thinking": "m"},
                {"type": "signature_delta", "signature": "sealed"},
            ],
            THOUGHT,
            id="thinking",
        ),
        pytest.param(SEALED, [], SEALED, id="redacted-thinking"),
        pytest.param(
            CALL | {"input": {}},
            [
                {"type": "input_json_delta", "partial_json": ""},
                {"type": "input_json_delta", "partial_json": '{"b":1.0,"a"'},
                {"type": "input_json_delta", "partial_json": ':[1,{"c":null}]}'},
            ],
            CALL,
            id="tool-use",
        ),
        pytest.param(BARE_CALL, [{"type": "input_json_delta", "partial_json": ""}], BARE_CALL, id="no-input"),
        pytest.param(
            {"type": "text", "text": "", "citations": []},
            [
                {"type": "text_delta", "text": "s"},
                {"type": "citations_delta", "citation": {"type": "char_location", "cited_text": "a"}},
                {"type": "text_delta", "text": "o"},
                {"type": "citations_delta", "citation": {"type": "char_location", "cited_text": "b"}},
            ],
            CITED,
            id="citations",
        ),
        pytest.param(
            {"type": "text", "text": "a", "x_new": 1}, [], {"type": "text", "text": "a", "x_new": 1}, id="unknown"
        ),
        pytest.param(
            {"type": "text", "text": "a"},
            [{"type": "text_delta", "text": "b"}],
            {"type": "text", "text": "ab"},
            id="begun",
        ),
    ],
)
def test_deltas_become_the_block_that_they_spell(
    start: dict[str, Any], deltas: list[dict[str, Any]], block: dict[str, Any]
) -> None:
    assert folded(streamed((TEXT, []), (start, deltas)))["content"] == [TEXT, block]


@pytest.mark.parametrize(
    ("start", "deltas"),
    [
        pytest.param(TEXT, [{"type": "brand_new_delta", "text": "a"}], id="unknown-delta"),
        pytest.param(TEXT, [{"type": "text_delta", "text": "a", "x_new": 1}], id="more-than-a-delta-says"),
        pytest.param(TEXT, [{"type": "text_delta", "text": None}], id="no-text"),
        pytest.param({"type": "text", "text": [1]}, [{"type": "text_delta", "text": "a"}], id="text-after-no-text"),
        pytest.param(THOUGHT, [{"type": "signature_delta", "signature": "other"}], id="signed-twice"),
        pytest.param(CALL, [{"type": "input_json_delta", "partial_json": "{"}], id="half-an-input"),
        pytest.param(
            CALL, [{"type": "input_json_delta", "partial_json": '{"a":1,"a":2}'}], id="an-input-with-a-key-twice"
        ),
        pytest.param(
            {"type": "text", "text": "", "citations": "a"},
            [{"type": "citations_delta", "citation": {}}],
            id="no-citations",
        ),
    ],
)
def test_what_deltas_do_not_spell_for_certain_has_no_whole_form(
    start: dict[str, Any], deltas: list[dict[str, Any]]
) -> None:
    assert folded(streamed((start, deltas))) is None


STOP = {"type": "content_block_stop", "index": 0}


@pytest.mark.parametrize(
    "told",
    [
        pytest.param([*MESSAGES_EVENTS[:5], STOP, *MESSAGES_EVENTS[4:]], id="a-delta-after-the-end-of-its-block"),
        pytest.param([*MESSAGES_EVENTS[:1], *MESSAGES_EVENTS[3:]], id="a-delta-before-its-block"),
        pytest.param(
            [*MESSAGES_EVENTS[:1], MESSAGES_EVENTS[1] | {"index": 1}, *MESSAGES_EVENTS[2:]], id="out-of-place"
        ),
        pytest.param([*MESSAGES_EVENTS[:2], {"type": "brand_new"}, *MESSAGES_EVENTS[2:]], id="an-unknown-event"),
        pytest.param([MESSAGES_EVENTS[0] | {"type": "brand_new"}, *MESSAGES_EVENTS[1:]], id="another-beginning"),
        pytest.param([*MESSAGES_EVENTS, {"type": "ping"}], id="something-after-the-end"),
        pytest.param([MESSAGES_EVENTS[0] | {"message": MESSAGE}, *MESSAGES_EVENTS[1:]], id="content-at-the-start"),
        pytest.param(
            [*MESSAGES_EVENTS[:6], MESSAGES_EVENTS[6] | {"usage": {"output_tokens": None}}, MESSAGES_EVENTS[7]],
            id="no-usage",
        ),
        pytest.param([*MESSAGES_EVENTS[:6], MESSAGES_EVENTS[6] | {"usage": None}, MESSAGES_EVENTS[7]], id="null-usage"),
    ],
)
def test_a_stream_that_does_not_add_up_has_no_whole_form(told: list[dict[str, Any]]) -> None:
    assert folded(messages_stream(*told)) is None


def test_bytes_after_the_end_leave_no_whole_form() -> None:
    assert folded(MESSAGES_STREAM + b"data: {") is None
    assert folded(event([]) + MESSAGES_STREAM) is None


def test_what_the_end_tells_is_part_of_the_message() -> None:
    told = [
        MESSAGES_EVENTS[0]
        | {"message": START | {"usage": {"input_tokens": 3, "output_tokens": 1, "tier": "a", "x": 5}}},
        *MESSAGES_EVENTS[1:6],
        MESSAGES_EVENTS[6]
        | {
            "delta": {"stop_reason": "stop_sequence", "stop_sequence": "END", "stop_details": None},
            "usage": {"output_tokens": 9, "input_tokens": None, "x": 6, "new": None},
            "context_management": {"applied_edits": []},
        },
        MESSAGES_EVENTS[7],
    ]
    assert folded(messages_stream(*told)) == MESSAGE | {
        "stop_reason": "stop_sequence",
        "stop_sequence": "END",
        "stop_details": None,
        "usage": {"input_tokens": 3, "output_tokens": 9, "tier": "a", "x": 6, "new": None},
        "context_management": {"applied_edits": []},
    }


def test_a_message_becomes_the_documented_events() -> None:
    assert events() == [
        {"type": "message_start", "message": START | {"usage": {"input_tokens": 3, "output_tokens": 0}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": 2},
        },
        {"type": "message_stop"},
    ]


@pytest.mark.parametrize(
    ("block", "start", "deltas"),
    [
        (
            THOUGHT,
            {"type": "thinking", "thinking": "", "signature": ""},
            [{"type": "thinking_delta", "thinking": "hm"}, {"type": "signature_delta", "signature": "sealed"}],
        ),
        (SEALED, SEALED, []),
        (
            CALL,
            CALL | {"input": {}},
            [{"type": "input_json_delta", "partial_json": '{"b":1.0,"a":[1,{"c":null}]}'}],
        ),
        (BARE_CALL, BARE_CALL, [{"type": "input_json_delta", "partial_json": ""}]),
        (
            CITED,
            {"type": "text", "text": "", "citations": []},
            [
                {"type": "text_delta", "text": "so"},
                {"type": "citations_delta", "citation": {"type": "char_location", "cited_text": "a"}},
                {"type": "citations_delta", "citation": {"type": "char_location", "cited_text": "b"}},
            ],
        ),
        ({"type": "text", "text": "", "citations": None}, {"type": "text", "text": "", "citations": None}, []),
    ],
)
def test_a_block_becomes_events(block: dict[str, Any], start: dict[str, Any], deltas: list[dict[str, Any]]) -> None:
    assert events(content=[TEXT, block])[4:-2] == [
        {"type": "content_block_start", "index": 1, "content_block": start},
        *({"type": "content_block_delta", "index": 1, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": 1},
    ]


def test_what_a_message_has_only_at_its_end_is_told_there() -> None:
    start, *_, end, _ = events(stop_details=None, context_management={"applied_edits": []}, x_new=1)
    assert start["message"]["stop_reason"] is None
    assert start["message"]["x_new"] == 1
    assert "context_management" not in start["message"]
    assert end["context_management"] == {"applied_edits": []}
    assert end["delta"] == {"stop_reason": "end_turn", "stop_sequence": None, "stop_details": None}


@pytest.mark.parametrize(
    "change",
    [
        {"usage": None},
        {"usage": {"input_tokens": 3}},
        {"stop_reason": None},
        {"content": None},
        {"content": [7]},
        {"content": [{"type": "brand_new"}]},
        {"content": [TEXT | {"text": None}]},
        {"content": [CITED | {"citations": "a"}]},
        {"content": [CITED | {"citations": ["a"]}]},
        {"content": [THOUGHT | {"signature": None}]},
        {"content": [CALL | {"input": []}]},
    ],
)
def test_a_message_whose_events_we_do_not_know_has_no_stream(change: dict[str, Any]) -> None:
    assert MESSAGES.render(json.dumps(MESSAGE | change).encode(), WHOLE, STREAM) is None
    assert MESSAGES.render(b"[]", WHOLE, STREAM) is None


def test_there_is_only_one_kind_of_stream() -> None:
    assert MESSAGES.render(MESSAGES_STREAM, STREAM, UNPADDED) is None


def test_a_block_in_the_making_says_what_it_is() -> None:
    assert repr(Block({"type": "text", "text": ""})) == "<Block text>"


BLOCKS = st.one_of(
    st.builds(
        lambda text, extra: {"type": "text", "text": text} | extra,
        st.text(max_size=9),
        st.just({}) | st.just({"citations": None}),
    ),
    st.builds(lambda text: {"type": "thinking", "thinking": text, "signature": "s"}, st.text(max_size=9)),
    st.builds(lambda given: CALL | {"input": given}, st.dictionaries(st.text(max_size=3), JSON, max_size=3)),
    st.sampled_from([CITED, SEALED, BARE_CALL]),
)
EXTRAS = st.dictionaries(st.text(max_size=4).map("x_{}".format), JSON, max_size=3)


@given(st.lists(BLOCKS, max_size=4), EXTRAS, EXTRAS)
def test_any_message_survives_being_a_stream(blocks: list[Any], extra: dict[str, Any], costs: dict[str, Any]) -> None:
    message = MESSAGE | {"content": blocks, "usage": {"input_tokens": 3, "output_tokens": 2} | costs} | extra
    body = MESSAGES.render(json.dumps(message).encode(), WHOLE, STREAM)
    assert body is not None
    assert json.dumps(folded(body)) == json.dumps(message)
    assert MESSAGES.examine(body, STREAM) == MESSAGES.examine(json.dumps(message).encode(), WHOLE)


@pytest.mark.parametrize("content", [[TEXT], [THOUGHT, TEXT, CALL], [CITED, BARE_CALL], [SEALED, TEXT]])
def test_the_real_client_reads_the_same_in_both_forms(content: list[dict[str, Any]]) -> None:
    body = json.dumps(MESSAGE | {"content": content}).encode()
    told = MESSAGES.render(body, WHOLE, STREAM)
    assert told is not None
    assert messages_streamed(told) == messages_whole(body)
    assert messages_whole(json.dumps(folded(told)).encode()) == messages_whole(body)
    assert messages_streamed(MESSAGES_STREAM) == messages_whole(MESSAGES_WHOLE)
