"""What every dialect promises, whatever it is given."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.dialects import BY_SUFFIX, jsontext, tools
from proxy.model import WHOLE, Finding, Form, Reason, Unkept

STREAM = Form(stream=True)
STREAM_WITH_USAGE = Form(stream=True, include_usage=True)
UNPADDED = Form(stream=True, obfuscation=False)
ODD = Form(stream=True, other_options='{"stream_options.new":1}')
FORMS = (WHOLE, STREAM, STREAM_WITH_USAGE, UNPADDED, ODD, Form(include_usage=True))

CHAT, COMPLETIONS, RESPONSES, EMBEDDINGS, MESSAGES = (
    BY_SUFFIX[suffix] for suffix in ("/chat/completions", "/completions", "/responses", "/embeddings", "/messages")
)
DIALECTS = pytest.mark.parametrize("dialect", BY_SUFFIX.values(), ids=lambda dialect: dialect.name)


def event(value: Any, name: str = "") -> bytes:
    """One event with *value* as its data."""
    return (f"event: {name}\n" if name else "").encode() + b"data: " + json.dumps(value).encode() + b"\n\n"


def chat_chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **around: Any) -> dict[str, Any]:
    """A chunk of a chat stream; without a delta it has no choices."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return {"id": "c1", "object": "chat.completion.chunk", "created": 7, "model": "m", "choices": choices} | around


def stream(*chunks: dict[str, Any]) -> bytes:
    """A chat or completions stream, ended."""
    return b"".join(map(event, chunks)) + b"data: [DONE]\n\n"


USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
CHAT_STREAM = stream(
    chat_chunk({"role": "assistant", "content": ""}),
    chat_chunk({"content": "Hel"}),
    chat_chunk({"content": "lo"}),
    chat_chunk({}, "stop"),
    chat_chunk(usage=USAGE),
)
CHAT_WHOLE = json.dumps(
    {
        "id": "c1",
        "object": "chat.completion",
        "created": 7,
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
        "usage": USAGE,
    }
).encode()
TEXT_WHOLE = json.dumps(
    {
        "id": "t1",
        "object": "text_completion",
        "created": 7,
        "model": "m",
        "choices": [{"text": "Hello", "index": 0, "logprobs": None, "finish_reason": "stop"}],
        "usage": USAGE,
    }
).encode()
TEXT_STREAM = stream(
    {"id": "t1", "object": "text_completion", "created": 7, "model": "m"}
    | {"choices": [{"text": "Hel", "index": 0, "logprobs": None, "finish_reason": None}]},
    {"id": "t1", "object": "text_completion", "created": 7, "model": "m"}
    | {"choices": [{"text": "lo", "index": 0, "logprobs": None, "finish_reason": "stop"}]},
    {"id": "t1", "object": "text_completion", "created": 7, "model": "m", "choices": [], "usage": USAGE},
)
ITEM = {
    "id": "msg_1",
    "type": "message",
    "status": "completed",
    "role": "assistant",
    "content": [{"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}],
}
RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "created_at": 7,
    "status": "completed",
    "error": None,
    "incomplete_details": None,
    "model": "m",
    "output": [ITEM],
    "usage": {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5},
}
RESPONSES_WHOLE = json.dumps(RESPONSE).encode()
BLANK = RESPONSE | {"status": "in_progress", "output": [], "usage": None}
AT = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
RESPONSES_EVENTS: list[tuple[str, dict[str, Any]]] = [
    ("response.created", {"response": BLANK}),
    ("response.in_progress", {"response": BLANK}),
    ("response.output_item.added", {"output_index": 0, "item": ITEM | {"status": "in_progress", "content": []}}),
    (
        "response.content_part.added",
        AT | {"part": {"type": "output_text", "text": "", "annotations": [], "logprobs": []}},
    ),
    ("response.output_text.delta", AT | {"delta": "Hello", "logprobs": []}),
    ("response.output_text.done", AT | {"text": "Hello", "logprobs": []}),
    ("response.content_part.done", AT | {"part": ITEM["content"][0]}),
    ("response.output_item.done", {"output_index": 0, "item": ITEM}),
    ("response.completed", {"response": RESPONSE}),
]


def responses_stream(*events: tuple[str, dict[str, Any]]) -> bytes:
    """A Responses stream with its numbers."""
    return b"".join(
        event({"type": kind, "sequence_number": number} | said, kind) for number, (kind, said) in enumerate(events)
    )


RESPONSES_STREAM = responses_stream(*RESPONSES_EVENTS)
MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [{"type": "text", "text": "Hello"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 3, "output_tokens": 2},
}
MESSAGES_WHOLE = json.dumps(MESSAGE).encode()
START = MESSAGE | {"content": [], "stop_reason": None, "usage": {"input_tokens": 3, "output_tokens": 1}}
MESSAGES_EVENTS: list[dict[str, Any]] = [
    {"type": "message_start", "message": START},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "ping"},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "lo"}},
    {"type": "content_block_stop", "index": 0},
    {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": {"output_tokens": 2},
    },
    {"type": "message_stop"},
]


def messages_stream(*events: dict[str, Any]) -> bytes:
    """An Anthropic stream."""
    return b"".join(event(said, said["type"]) for said in events)


MESSAGES_STREAM = messages_stream(*MESSAGES_EVENTS)
VECTORS: dict[str, Any] = {
    "object": "list",
    "model": "m",
    "data": [
        {"object": "embedding", "index": 0, "embedding": [0.5, -1.0]},
        {"object": "embedding", "index": 1, "embedding": "AAAAPwAAgL8="},
    ],
    "usage": {"prompt_tokens": 3, "total_tokens": 3},
}
EMBEDDINGS_WHOLE = json.dumps(VECTORS).encode()

WHOLES = {
    "chat": CHAT_WHOLE,
    "completions": TEXT_WHOLE,
    "responses": RESPONSES_WHOLE,
    "embeddings": EMBEDDINGS_WHOLE,
    "messages": MESSAGES_WHOLE,
}
STREAMS = {
    "chat": CHAT_STREAM,
    "completions": TEXT_STREAM,
    "responses": RESPONSES_STREAM,
    "messages": MESSAGES_STREAM,
}
SAMPLES = [(name, WHOLE, body) for name, body in WHOLES.items()]
SAMPLES += [(name, STREAM, body) for name, body in STREAMS.items()]
BY_NAME = {dialect.name: dialect for dialect in BY_SUFFIX.values()}
SAMPLED = pytest.mark.parametrize(
    ("name", "form", "body"),
    SAMPLES,
    ids=[f"{name}-{'stream' if form.stream else 'whole'}" for name, form, _ in SAMPLES],
)


def test_each_path_has_its_dialect() -> None:
    assert {suffix: dialect.name for suffix, dialect in BY_SUFFIX.items()} == {
        "/chat/completions": "chat",
        "/completions": "completions",
        "/responses": "responses",
        "/embeddings": "embeddings",
        "/messages": "messages",
    }


def test_only_embeddings_are_the_same_every_time() -> None:
    assert [dialect.name for dialect in BY_SUFFIX.values() if dialect.deterministic] == ["embeddings"]


@SAMPLED
def test_a_whole_good_answer_is_worth_keeping(name: str, form: Form, body: bytes) -> None:
    found = BY_NAME[name].examine(body, form)
    assert (found.unkept, found.model) == (None, "m")
    assert found.usage is not None
    assert (found.usage.input_tokens, found.usage.output_tokens) == (3, 0 if name == "embeddings" else 2)


@SAMPLED
def test_no_beginning_of_an_answer_is_worth_keeping(name: str, form: Form, body: bytes) -> None:
    dialect = BY_NAME[name]
    assert [end for end in range(len(body)) if dialect.examine(body[:end], form).unkept is None] == []


@SAMPLED
def test_no_beginning_of_a_stream_has_another_form(name: str, form: Form, body: bytes) -> None:
    other = STREAM if form == WHOLE else WHOLE
    assert [end for end in range(len(body)) if BY_NAME[name].render(body[:end], form, other) is not None] == []


@SAMPLED
def test_an_answer_in_the_form_that_was_asked_for_is_the_bytes_themselves(name: str, form: Form, body: bytes) -> None:
    assert BY_NAME[name].render(body, form, form) is body
    assert BY_NAME[name].render(b"{ no json", ODD, ODD) == b"{ no json"


@SAMPLED
@pytest.mark.parametrize("form_asked", [ODD, Form(include_usage=True), Form(other_options="x")])
def test_an_unknown_option_is_a_form_of_its_own(name: str, form: Form, body: bytes, form_asked: Form) -> None:
    assert BY_NAME[name].render(body, form, form_asked) is None
    assert BY_NAME[name].render(body, ODD, WHOLE) is None


@DIALECTS
@pytest.mark.parametrize("form", [WHOLE, STREAM])
@pytest.mark.parametrize(
    ("body", "unkept"),
    [
        (b"", Unkept.EMPTY),
        (b" \r\n ", Unkept.EMPTY),
        (b"<html>502 Bad Gateway</html>", Unkept.UNREADABLE),
        (b"\xff\xfe{}", Unkept.UNREADABLE),
        (b"[" * 100_000, Unkept.UNREADABLE),
        (b'{"a":' * 100_000, Unkept.UNREADABLE),
        (b'{"model":"m","usage":{"n":' + b"9" * 5000 + b"}}", Unkept.UNREADABLE),
        (b'{"error":{"message":"no","type":"server_error"}}', Unkept.ERROR_INSIDE),
        (b'{"object":"error","message":"no"}', Unkept.ERROR_INSIDE),
        (b'{"type":"error","error":{"type":"overloaded_error"}}', Unkept.ERROR_INSIDE),
    ],
)
def test_what_is_no_answer_is_never_kept(dialect: Any, form: Form, body: bytes, unkept: Unkept) -> None:
    found = dialect.examine(body, form).unkept
    if form.stream and dialect.name != "embeddings" and unkept is Unkept.UNREADABLE:
        assert found in (Unkept.UNREADABLE, Unkept.INCOMPLETE)
    else:
        assert found is unkept


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize(
    "bad",
    [
        event({"error": {"message": "overloaded"}}),
        event({"type": "error", "message": "overloaded"}),
        b'event: error\ndata: {"message":"overloaded"}\n\n',
        b"event: error\ndata: overloaded\n\n",
    ],
    ids=["error-object", "error-type", "error-event", "error-event-of-plain-text"],
)
def test_an_error_anywhere_in_a_stream_is_the_finding(name: str, bad: bytes) -> None:
    events = STREAMS[name].split(b"\n\n")
    for at in range(len(events)):
        body = b"\n\n".join(events[:at]) + (b"\n\n" if at else b"") + bad + b"\n\n".join(events[at:])
        assert BY_NAME[name].examine(body, STREAM).unkept is Unkept.ERROR_INSIDE


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize(
    "bad", [b"data: {\n\n", b"data: 7\n\n", b"data: \xff\n\n", b'data: {"a":NaN}\n\n', b'data: {"a":1e999}\n\n']
)
def test_an_unreadable_event_spoils_a_stream(name: str, bad: bytes) -> None:
    body = bad + STREAMS[name]
    assert BY_NAME[name].examine(body, STREAM).unkept is Unkept.UNREADABLE
    assert BY_NAME[name].render(body, STREAM, WHOLE) is None


@SAMPLED
def test_an_answer_that_names_a_key_twice_has_no_other_form(name: str, form: Form, body: bytes) -> None:
    twice = body.replace(b'"model": "m"', b'"model": "m", "model": "m"')
    assert twice != body
    other = STREAM if form == WHOLE else WHOLE
    assert BY_NAME[name].render(twice, form, other) is None
    assert BY_NAME[name].render(twice, form, form) == twice


@pytest.mark.parametrize("name", STREAMS)
def test_other_line_ends_comments_and_a_mark_change_no_finding(name: str) -> None:
    dialect, body = BY_NAME[name], STREAMS[name]
    for respelled in (
        body.replace(b"\n", b"\r\n"),
        body.replace(b"\n", b"\r"),
        b"\xef\xbb\xbf" + body,
        b": PROCESSING\n\n" + body.replace(b"data:", b":note\ndata:"),
    ):
        assert dialect.examine(respelled, STREAM) == dialect.examine(body, STREAM)


@pytest.mark.parametrize("name", STREAMS)
def test_a_number_keeps_its_kind_and_its_digits_in_the_other_form(name: str) -> None:
    odd = '{"b":1.0,"a":1,"huge":123456789012345678901234567890,"small":1e-07,"text":"\\ud800 é"}'
    body = WHOLES[name].replace(b'"model"', b'"x_new": ' + odd.encode() + b', "model"')
    streamed = BY_NAME[name].render(body, WHOLE, STREAM)
    assert streamed is not None
    for spelled in (b'{"b":1.0,"a":1,"huge":123456789012345678901234567890,"small":1e-07,"text":"\\ud800',):
        assert spelled in streamed


def test_a_number_that_cannot_be_written_back_has_no_other_form() -> None:
    for digits in (b"1e999", b"1e-999", b"NaN", b"9" * 5000):
        body = CHAT_WHOLE.replace(b'"created": 7', b'"created": ' + digits)
        assert CHAT.render(body, WHOLE, STREAM) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
# Members that the dialects look at, in any place and with any value.
WORDS = st.sampled_from(
    """
    choices index delta message content role tool_calls function arguments name id type text logprobs finish_reason
    stop usage prompt_tokens model error response output status item incomplete_details reason data embedding completed
    content_block content_block_start content_block_delta content_block_stop message_start message_delta message_stop
    text_delta input_json_delta partial_json citations stop_reason response.completed response.output_item.done stream
    stream_options include_usage store tools background input web_search annotations audio function_call
    reasoning_details x_groq content_filter_results summary conversation mcp_servers
    """.split()  # noqa: SIM905 - words, not code
)
HOSTILE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-1, 2)
    | st.floats(allow_nan=False, allow_infinity=False)
    | WORDS
    | st.just(""),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=6),
    max_leaves=25,
)
HOSTILE_STREAM = st.lists(st.tuples(HOSTILE, WORDS | st.just("")), max_size=5).map(
    lambda events: b"".join(event(value, name) for value, name in events) + b"data: [DONE]\n\n"
)
BODIES = st.binary(max_size=300) | HOSTILE.map(lambda value: json.dumps(value).encode()) | HOSTILE_STREAM


@DIALECTS
@given(body=BODIES, have=st.sampled_from(FORMS), want=st.sampled_from(FORMS))
def test_no_bytes_make_a_dialect_raise(dialect: Any, body: bytes, have: Form, want: Form) -> None:
    assert isinstance(dialect.examine(body, have), Finding)
    assert isinstance(dialect.render(body, have, want), bytes | None)


@SAMPLED
@given(data=st.data())
def test_no_damage_makes_a_dialect_raise(name: str, form: Form, body: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(body)))
    spoilt = body[:at] + data.draw(st.binary(max_size=6)) + body[data.draw(st.integers(at, len(body))) :]
    assert isinstance(BY_NAME[name].examine(spoilt, form), Finding)
    for want in FORMS:
        assert isinstance(BY_NAME[name].render(spoilt, form, want), bytes | None)


@DIALECTS
@given(request=st.dictionaries(WORDS, HOSTILE, max_size=6))
def test_no_request_makes_a_dialect_raise(dialect: Any, request: dict[str, Any]) -> None:
    assert isinstance(dialect.form(request), Form)
    assert isinstance(dialect.refuses(request), Reason | None)


@pytest.mark.parametrize(
    ("asked", "form"),
    [
        ({}, WHOLE),
        ({"stream": None}, WHOLE),
        ({"stream": False, "stream_options": None}, WHOLE),
        ({"stream": True}, STREAM),
        ({"stream": True, "stream_options": {}}, STREAM),
        ({"stream": True, "stream_options": {"include_usage": True}}, STREAM_WITH_USAGE),
        ({"stream": True, "stream_options": {"include_usage": False, "include_obfuscation": False}}, UNPADDED),
        ({"stream_options": {"include_usage": True}}, Form(include_usage=True)),
        ({"stream": 1}, Form(other_options='{"stream":1}')),
        ({"stream": "true"}, Form(other_options='{"stream":"true"}')),
        ({"stream": True, "stream_options": 7}, Form(stream=True, other_options='{"stream_options":7}')),
        (
            {"stream": True, "stream_options": {"include_usage": "yes", "b": [1], "a": None}},
            Form(
                stream=True,
                other_options='{"stream_options.a":null,"stream_options.b":[1],"stream_options.include_usage":"yes"}',
            ),
        ),
    ],
)
def test_the_form_is_read_from_the_request(asked: dict[str, Any], form: Form) -> None:
    assert CHAT.form(asked) == form
    assert COMPLETIONS.form(asked) == form


def nested(depth: int) -> Any:
    """Lists in lists."""
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


def test_what_is_too_deep_to_be_written_makes_nothing_raise() -> None:
    assert CHAT.form({"stream": True, "stream_options": {"a": nested(100_000)}}).other_options == "too_deep"
    with pytest.raises(ValueError, match="too deep to be written"):
        jsontext.write(nested(100_000))


def test_an_option_that_an_endpoint_does_not_document_separates() -> None:
    asked = {"stream": True, "stream_options": {"include_usage": True}}
    assert RESPONSES.form(asked) == Form(stream=True, other_options='{"stream_options.include_usage":true}')
    assert RESPONSES.form({"stream": True, "stream_options": {"include_obfuscation": False}}) == UNPADDED


def test_anthropic_streams_have_no_options_and_embeddings_no_stream() -> None:
    assert MESSAGES.form({"stream": True, "stream_options": {"a": 1}}) == STREAM
    assert "stream_options" not in MESSAGES.left_out
    assert EMBEDDINGS.form({"stream": True}) == WHOLE
    assert EMBEDDINGS.left_out == frozenset()


FRAMING = {"stream", "stream_options"}
PROMPT_CACHE = {"prompt_cache_key", "prompt_cache_retention", "prompt_cache_options"}


def test_what_stays_out_of_the_key_is_listed_by_name() -> None:
    assert CHAT.left_out == FRAMING | PROMPT_CACHE | {"service_tier", "user", "safety_identifier", "metadata"}
    assert COMPLETIONS.left_out == CHAT.left_out
    assert MESSAGES.left_out == {"stream", "service_tier"}


def test_what_a_responses_answer_repeats_stays_in_the_key() -> None:
    assert RESPONSES.left_out == FRAMING | {"service_tier"}


def tool(kind: str) -> dict[str, Any]:
    """A request with one tool of type *kind*."""
    return {"tools": [{"type": "function", "function": {"name": "f"}}, {"type": kind}]}


@pytest.mark.parametrize("kind", [*sorted(tools.SIDE_EFFECTING_TOOLS), "web_search_preview_2025_03_11", "brand_new"])
def test_a_tool_that_the_provider_runs_is_refused_everywhere(kind: str) -> None:
    for dialect in (CHAT, RESPONSES, MESSAGES):
        assert dialect.refuses(tool(kind)) is Reason.SIDE_EFFECT
    assert not tools.acts(tool(kind)["tools"], allowed={kind})
    assert tools.acts(tool("mcp_new")["tools"], allowed={"web_search"})


@pytest.mark.parametrize(
    "kind", ["function", "custom", "apply_patch", "namespace", "bash_20250124", "text_editor_20250728"]
)
def test_a_tool_that_the_client_runs_is_fine(kind: str) -> None:
    for dialect in (CHAT, RESPONSES, MESSAGES):
        assert dialect.refuses(tool(kind)) is None


@pytest.mark.parametrize(
    ("request_body", "reason"),
    [
        ({"store": False, "web_search_options": None, "plugins": []}, None),
        ({"store": True}, Reason.SIDE_EFFECT),
        ({"web_search_options": {}}, Reason.SIDE_EFFECT),
        ({"plugins": [{"id": "web"}]}, Reason.SIDE_EFFECT),
        ({"search_parameters": {"mode": "auto"}}, Reason.SIDE_EFFECT),
        ({"enable_search": True}, Reason.SIDE_EFFECT),
        ({"data_sources": [{"type": "azure_search"}]}, Reason.SIDE_EFFECT),
        ({"model": "openai/gpt-4o:online"}, Reason.SIDE_EFFECT),
        ({"model": "gpt-4o-mini-search-preview-2025-03-11"}, Reason.SIDE_EFFECT),
        ({"model": "perplexity/sonar-pro"}, Reason.SIDE_EFFECT),
        ({"model": "groq/compound-mini"}, Reason.SIDE_EFFECT),
        ({"model": "gpt-4o", "tools": [{"type": 7}, "x", {}]}, None),
    ],
)
def test_a_chat_request_that_does_more_than_ask_is_refused(request_body: dict[str, Any], reason: Reason | None) -> None:
    assert CHAT.refuses(request_body) is reason


@pytest.mark.parametrize(
    ("request_body", "reason"),
    [
        ({"input": "hello"}, None),
        ({"input": "hello", "store": True, "background": False, "previous_response_id": None}, None),
        ({"input": [{"id": "msg_0", "role": "assistant", "content": "a"}]}, None),
        ({"input": [{"role": "user", "content": "a"}, {"type": "function_call_output", "output": "b"}]}, None),
        ({"previous_response_id": "resp_0"}, Reason.STATEFUL),
        ({"conversation": "conv_0"}, Reason.STATEFUL),
        ({"conversation": {"id": "conv_0"}}, Reason.STATEFUL),
        ({"prompt": {"id": "pmpt_0"}}, Reason.STATEFUL),
        ({"background": True}, Reason.STATEFUL),
        ({"input": [{"type": "item_reference", "id": "msg_0"}]}, Reason.STATEFUL),
        ({"input": [{"id": "msg_0"}]}, Reason.STATEFUL),
    ],
)
def test_a_responses_request_that_the_provider_remembers_is_refused(
    request_body: dict[str, Any], reason: Reason | None
) -> None:
    assert RESPONSES.refuses(request_body) is reason


@pytest.mark.parametrize(
    ("request_body", "reason"),
    [
        ({"mcp_servers": [], "container": None, "tools": [{"name": "f", "input_schema": {}}]}, None),
        ({"mcp_servers": [{"url": "https://x.invalid"}]}, Reason.SIDE_EFFECT),
        ({"container": "c_1"}, Reason.SIDE_EFFECT),
        ({"thread": {"id": "t"}}, Reason.STATEFUL),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, Reason.SIDE_EFFECT),
        ({"tools": [{"type": "computer_20251124", "name": "computer"}]}, Reason.SIDE_EFFECT),
    ],
)
def test_an_anthropic_request_that_acts_is_refused(request_body: dict[str, Any], reason: Reason | None) -> None:
    assert MESSAGES.refuses(request_body) is reason


def test_completions_and_embeddings_have_nothing_to_refuse() -> None:
    assert COMPLETIONS.refuses({"store": True}) is None
    assert EMBEDDINGS.refuses({"tools": [{"type": "mcp"}]}) is None


@pytest.mark.parametrize(
    ("change", "unkept"),
    [
        ({"data": []}, Unkept.EMPTY),
        ({"data": None}, Unkept.UNREADABLE),
        ({"data": [7]}, Unkept.UNREADABLE),
        ({"data": [{"index": 0, "embedding": []}]}, Unkept.INCOMPLETE),
        ({"data": [{"index": 0, "embedding": ""}]}, Unkept.INCOMPLETE),
        ({"data": [{"index": 0, "embedding": ["a"]}]}, Unkept.INCOMPLETE),
        ({"data": [{"index": 0}]}, Unkept.INCOMPLETE),
        ({"data": [{"index": 1, "embedding": [1]}]}, Unkept.INCOMPLETE),
        ({"data": [{"embedding": [1]}]}, Unkept.INCOMPLETE),
        ({"data": [{"index": 0, "embedding": [1]}, {"index": 0, "embedding": [1]}]}, Unkept.INCOMPLETE),
        ({"data": [{"index": 1, "embedding": [1]}, {"index": 0, "embedding": [1.5]}]}, None),
        ({"data": [{"index": 0, "embedding": [[1, 2], [3, 4]]}]}, None),
        ({"error": {"message": "no"}}, Unkept.ERROR_INSIDE),
    ],
)
def test_embeddings_are_kept_when_every_item_is_there(change: dict[str, Any], unkept: Unkept | None) -> None:
    assert EMBEDDINGS.examine(json.dumps(VECTORS | change).encode(), WHOLE).unkept is unkept


def test_embeddings_have_one_form() -> None:
    assert EMBEDDINGS.render(EMBEDDINGS_WHOLE, WHOLE, STREAM) is None
