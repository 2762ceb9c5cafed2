"""C1-C17: what is answered from the cache is what the provider would have said, and nothing else is."""

import gzip
import json
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests import answers, raw_client
from tests.answers import DONE, EVENTS, JSON, Fields, chunk, event
from tests.comparison import Passage, Ways, answer_differences, answer_fields
from tests.raw_client import Ending, Framing, Headers, RawAnswer
from tests.scripted_provider import End, Exchange, Gate, Script, Step, steps

pytestmark = pytest.mark.proxy_only

CHAT = "/v1/chat/completions"
FROM_CACHE = ("HIT", "JOINED")
BOTH_FORMS = pytest.mark.parametrize("stream", [False, True])

SCHEMA = {"type": "json_schema", "json_schema": {"name": "a", "strict": True, "schema": {"type": "object"}}}
TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]
STREAM = [*answers.chat_events(["one ", "two ", "three "]), DONE]
RECORDED: Fields = (
    ("Date", "Tue, 04 Nov 2025 10:20:30 GMT"),
    ("x-request-id", "req_recorded"),
    ("openai-organization", "user-abc"),
    ("openai-processing-ms", "512"),
    ("openai-version", "2020-10-01"),
    ("x-ratelimit-remaining-requests", "9999"),
    ("X-Odd", b"caf\xe9"),
    ("x-twice", "1"),
    ("x-twice", "2"),
    ("x-empty", ""),
    ("Strict-Transport-Security", "max-age=31536000"),
    ("CF-RAY", "9a0b-AMS"),
    ("Server", "cloudflare"),
)


def from_cache(passage: Passage) -> bool:
    """Whether it was answered without a request to the provider; the label must agree."""
    cached = passage.answer.get("x-cache") in FROM_CACHE
    assert cached == (not passage.received), (passage.answer.header_lines, passage.received)
    return cached


def ask_twice(ways: Ways, octets: bytes, again: bytes | None = None) -> tuple[Passage, Passage]:
    """The first passage, which must reach the provider, and the second."""
    first = ways.through(octets)
    assert not from_cache(first)
    second = ways.through(octets if again is None else again)
    return first, second


def assert_kept(ways: Ways, octets: bytes, again: bytes | None = None) -> tuple[RawAnswer, RawAnswer]:
    """The second request is answered as the first was, without the provider."""
    first, second = ask_twice(ways, octets, again)
    assert from_cache(second), second.answer.header_lines
    assert bytes(second.answer.body) == bytes(first.answer.body)
    assert second.answer.status == first.answer.status
    assert second.answer.ending is Ending.WHOLE
    return first.answer, second.answer


def assert_not_kept(ways: Ways, octets: bytes, again: bytes | None = None) -> tuple[Passage, Passage]:
    """The second request reaches the provider, too."""
    first, second = ask_twice(ways, octets, again)
    assert not from_cache(second), second.answer.header_lines
    return first, second


def streamed(*events: bytes, fields: Fields = EVENTS) -> bytes:
    """A stream, one chunk an event."""
    return answers.chunked_head(fields) + b"".join(map(chunk, events)) + answers.LAST_CHUNK


CACHEABLE: dict[str, tuple[str, dict[str, object]]] = {
    "chat": (CHAT, {}),
    "chat-without-v1": ("/chat/completions", {}),
    "n": (CHAT, {"n": 3}),
    "tools": (CHAT, {"tools": TOOLS, "tool_choice": "auto"}),
    "logprobs": (CHAT, {"logprobs": True, "top_logprobs": 2}),
    "json-schema": (CHAT, {"response_format": SCHEMA}),
    "seed": (CHAT, {"seed": 7, "max_tokens": 10}),
    "azure": ("/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21", {}),
    "completions": ("/v1/completions", {"messages": None, "prompt": "Once"}),
    "responses": ("/v1/responses", {"messages": None, "input": "Say it", "store": False}),
    "messages": ("/v1/messages", {"max_tokens": 20}),
    "embeddings": ("/v1/embeddings", {"messages": None, "temperature": None, "input": "a text"}),
}
STREAMABLE = [name for name in CACHEABLE if name != "embeddings"]


def cacheable(ways: Ways, name: str, **more: object) -> bytes:
    """One of the requests that are worth keeping; its nonce stands in a field that any dialect counts."""
    path, asked = CACHEABLE[name]
    named = {field: f"{value} {ways.nonce}" for field, value in asked.items() if field in ("prompt", "input")}
    return ways.post(path, ways.chat_body(**{**asked, **named, **more}))


@pytest.mark.parametrize("name", CACHEABLE)
def test_c01_the_same_request_again_is_answered_without_the_provider(ways: Ways, name: str) -> None:
    octets = cacheable(ways, name)
    first, _ = assert_kept(ways, octets)
    for _ in range(3):
        again = ways.through(octets)
        assert again.answer.get("x-cache") == "HIT"
        assert bytes(again.answer.body) == bytes(first.body)
    assert len(ways.received()) == 1


@pytest.mark.parametrize("name", STREAMABLE)
def test_c01_the_same_stream_again_is_answered_without_the_provider(ways: Ways, name: str) -> None:
    assert_kept(ways, cacheable(ways, name, stream=True))


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_c01_the_body_is_byte_identical_whatever_its_spelling(ways: Ways, framing: str) -> None:
    said = (
        '{ "choices":[{"finish_reason":"stop","index":0,"message":{"content":"\\u00e9 é","role":"assistant"}}]}\r\n \n'
    )
    body = said.encode()
    ways.plays(
        {
            "length": steps(answers.whole(body)),
            "chunked": steps(answers.chunked(body, size=11)),
            "close": steps(answers.until_close(body), End.CLOSE),
        }[framing]
    )
    _, again = assert_kept(ways, ways.chat())
    assert bytes(again.body) == body


@pytest.mark.parametrize("coding", [None, "gzip"])
@BOTH_FORMS
def test_c02_a_hit_carries_the_headers_of_the_miss(ways: Ways, stream: bool, coding: str | None) -> None:
    body = b"".join(STREAM) if stream else answers.chat_body("Yes.")
    kind: Fields = (*RECORDED, ("Content-Type", "text/event-stream" if stream else "application/json; charset=utf-8"))
    if coding:
        body, kind = gzip.compress(body), (*kind, ("Content-Encoding", coding), ("Vary", "Accept-Encoding"))
    ways.plays(answers.chunked(body, kind) if stream else answers.whole(body, kind))
    octets = ways.chat(stream=stream, headers=(("Accept-Encoding", "gzip"),))
    first, _ = assert_kept(ways, octets)
    hit = ways.through(octets).answer
    assert hit.get("x-cache") == "HIT"
    assert answer_differences(first, hit, spelling=True, hit=True) == []
    assert hit.values("x-request-id") == [b"req_recorded"]
    assert int(str(hit.get("age"))) >= 0


@pytest.mark.parametrize("label", ["text/event-stream", "text/event-stream; charset=utf-8"])
def test_c03_a_streamed_hit_is_the_same_stream(ways: Ways, label: str) -> None:
    spelled = b": ping\r\n\r\n" + b"".join(STREAM).replace(b"data: {", b"data:{", 1)
    ways.plays(answers.chunked(spelled, (("Content-Type", label),), size=17))
    octets = ways.chat(stream=True)
    assert_kept(ways, octets)
    hit = ways.through(octets).answer
    assert bytes(hit.body) == spelled
    assert hit.values("content-type") == [label.encode()]
    assert hit.framing is Framing.CHUNKED


@pytest.mark.parametrize("name", STREAMABLE)
@pytest.mark.parametrize("stream_first", [False, True])
def test_c04_each_form_is_answered_in_its_own_format(ways: Ways, name: str, stream_first: bool) -> None:
    for stream in (stream_first, not stream_first, stream_first):
        answer = ways.through(cacheable(ways, name, stream=stream)).answer
        assert answer.status == 200
        label = str(answer.get("content-type"))
        if stream:
            assert label.startswith("text/event-stream")
            assert answer.body.startswith((b"data: ", b"event: "))
        else:
            assert label.startswith("application/json")
            assert isinstance(json.loads(answer.body), dict)


def test_c04_an_absent_stream_field_means_the_whole_form(ways: Ways) -> None:
    ways.through(ways.chat(stream=True))
    plain = ways.through(ways.chat()).answer
    assert json.loads(plain.body)["object"] == "chat.completion"


@pytest.mark.parametrize("status", [400, 401, 404, 408, 409, 429, 500, 503, 529])
@BOTH_FORMS
def test_c05_errors_are_never_stored(ways: Ways, status: int, stream: bool) -> None:
    error = b'{"error":{"message":"no","type":"t","param":null,"code":null}}'
    good = streamed(*STREAM) if stream else ways.fixed()
    ways.plays(answers.whole(error, status=status), answers.whole(error, status=status), good)
    first, second = assert_not_kept(ways, ways.chat(stream=stream))
    third = ways.through(ways.chat(stream=stream))
    assert [passage.answer.status for passage in (first, second, third)] == [status, status, 200]


@pytest.mark.parametrize("status", [201, 202, 203, 204, 206, 301, 302])
def test_c05_only_a_200_is_stored(ways: Ways, status: int) -> None:
    body = answers.chat_body("Yes.")
    ways.plays(answers.head(204) if status == 204 else answers.whole(body, status=status))
    assert_not_kept(ways, ways.chat())


WHOLE_BODY = answers.chat_body("An answer that is cut.")
CUT: dict[str, tuple[Step, ...]] = {
    "length": (answers.whole(WHOLE_BODY)[:-9], End.CLOSE),
    "length-reset": (answers.whole(WHOLE_BODY)[:-9], End.RESET),
    "chunked": (answers.chunked_head() + chunk(WHOLE_BODY), End.CLOSE),
    "close-delimited": (answers.until_close(WHOLE_BODY[:-9]), End.CLOSE),
    "stream": (answers.chunked_head(EVENTS) + b"".join(map(chunk, STREAM)), End.CLOSE),
    "stream-reset": (answers.chunked_head(EVENTS) + b"".join(map(chunk, STREAM)), End.RESET),
    "stream-middle": (answers.chunked_head(EVENTS) + b"".join(map(chunk, STREAM[:3])), End.CLOSE),
    "stream-close-delimited": (answers.until_close(b"".join(STREAM[:3]), EVENTS), End.CLOSE),
    "stream-inside-done": (answers.until_close(b"".join(STREAM)[:-5], EVENTS), End.CLOSE),
    "empty": (answers.whole(b""), End.CLOSE),
}


@pytest.mark.parametrize("name", CUT)
def test_c06_a_truncated_answer_is_never_stored(ways: Ways, name: str) -> None:
    stream = name.startswith("stream")
    good = b"".join(STREAM) if stream else WHOLE_BODY
    ways.plays(steps(*CUT[name]), steps(streamed(good) if stream else answers.whole(good)))
    octets = ways.chat(stream=stream)
    try:
        raw_client.exchange(ways.proxy, octets)
    except raw_client.DroppedError:
        pass
    again = ways.through(octets)
    assert len(again.received) == 1
    assert bytes(again.answer.body) == good


@BOTH_FORMS
@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("close", ["fin", "rst"])
def test_c06_an_answer_whose_client_left_is_not_stored_in_part(
    ways: Ways, stream: bool, begun: bool, close: str
) -> None:
    gate = Gate()
    good = b"".join(STREAM) if stream else WHOLE_BODY
    head = answers.chunked_head(EVENTS if stream else JSON)
    cut = len(good) // 2
    first: list[Step] = [head, chunk(good[:cut]), gate] if begun else [gate, head, chunk(good[:cut])]
    ways.plays(
        steps(*first, chunk(good[cut:]), answers.LAST_CHUNK),
        steps(streamed(good, fields=EVENTS if stream else JSON)),
    )
    octets = ways.chat(stream=stream)
    connection = ways.connect()
    connection.send(octets)
    (request,) = ways.provider.wait_for(ways.nonce)
    if begun:
        connection.start_answer("POST").read_size(cut)
    if close == "rst":
        connection.reset()
    else:
        connection.close()
    assert ways.provider.wait_until(lambda: request.link.closed_at is not None, 3), "the provider never saw it"
    gate.open()
    again = ways.through(octets)
    assert len(again.received) == 1
    assert (again.answer.ending, bytes(again.answer.body)) == (Ending.WHOLE, good)


ERROR_EVENT = event({"error": {"message": "overloaded", "type": "server_error", "param": None, "code": None}})
SAID_BY_RESPONSES = answers.friendly(7, "POST", "/v1/responses", b'{"stream":true}').events
SAID_BY_MESSAGES = answers.friendly(7, "POST", "/v1/messages", b'{"stream":true}').events
SAID_BY_COMPLETIONS = answers.friendly(7, "POST", "/v1/completions", b'{"stream":true}').events
FAILED = event({"type": "response.failed", "response": {"status": "failed", "error": {"code": "x"}}}, "response.failed")
INCOMPLETE = event({"type": "response.incomplete", "response": {"status": "incomplete"}}, "response.incomplete")
UNWORTHY: dict[str, tuple[str, list[bytes]]] = {
    "error-inside": (CHAT, [*STREAM[:2], ERROR_EVENT, *STREAM[2:]]),
    "error-at-the-end": (CHAT, [*STREAM[:-1], ERROR_EVENT, DONE]),
    "error-named": (CHAT, [*STREAM[:2], b"event: error\n" + ERROR_EVENT, *STREAM[2:]]),
    "error-alone": (CHAT, [ERROR_EVENT]),
    "error-spelled-tightly": (CHAT, [*STREAM[:2], ERROR_EVENT.replace(b"data: ", b"data:"), *STREAM[2:]]),
    "error-with-crlf": (CHAT, [one.replace(b"\n", b"\r\n") for one in (*STREAM[:2], ERROR_EVENT, *STREAM[2:])]),
    "no-finish-reason": (CHAT, [*STREAM[:-2], DONE]),
    "no-done": (CHAT, STREAM[:-1]),
    "nothing-but-done": (CHAT, [DONE]),
    "nothing": (CHAT, []),
    "not-json": (CHAT, [STREAM[0], b"data: {broken\n\n", *STREAM[1:]]),
    "one-of-two-choices": (CHAT, [event({"choices": [{"index": 1, "delta": {"content": "x"}}]}), *STREAM]),
    "responses-failed": ("/v1/responses", [*SAID_BY_RESPONSES[:-1], FAILED]),
    "responses-incomplete": ("/v1/responses", [*SAID_BY_RESPONSES[:-1], INCOMPLETE]),
    "responses-no-end": ("/v1/responses", [*SAID_BY_RESPONSES[:-1]]),
    "responses-error": ("/v1/responses", [SAID_BY_RESPONSES[0], event({"type": "error", "message": "x"}, "error")]),
    "messages-error": ("/v1/messages", [*SAID_BY_MESSAGES[:3], event({"type": "error", "error": {}}, "error")]),
    "messages-no-stop": ("/v1/messages", [*SAID_BY_MESSAGES[:-1]]),
    "completions-no-done": ("/v1/completions", [*SAID_BY_COMPLETIONS[:-1]]),
}


@pytest.mark.parametrize("name", UNWORTHY)
def test_c07_a_stream_with_an_error_or_without_an_end_is_not_stored(ways: Ways, name: str) -> None:
    path, events = UNWORTHY[name]
    ways.plays(streamed(*events))
    first, second = assert_not_kept(ways, ways.chat(path=path, stream=True, max_tokens=99))
    assert bytes(first.answer.body) == bytes(second.answer.body) == b"".join(events)


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/messages", "/v1/completions", CHAT])
def test_c07_the_same_stream_with_its_end_is_stored(ways: Ways, path: str) -> None:
    """The tests above would pass if nothing was ever stored."""
    said = {
        "/v1/responses": SAID_BY_RESPONSES,
        "/v1/messages": SAID_BY_MESSAGES,
        "/v1/completions": SAID_BY_COMPLETIONS,
    }
    ways.plays(streamed(*said.get(path, tuple(STREAM))))
    assert_kept(ways, ways.chat(path=path, stream=True, max_tokens=99))


@pytest.mark.parametrize(
    "body",
    [
        b'{"error":{"message":"no"}}',
        b'{"id":"1","choices":[]}',
        b'{"id":"1","choices":[{"index":0,"message":{"role":"assistant","content":"x"},"finish_reason":null}]}',
        b'{"id":"1","choices":[{"index":0,"message":{"role":"assistant","content":"x"}}',
        b"null",
        b"[]",
        b"<html>It works</html>",
    ],
)
def test_c07_a_200_that_is_no_answer_is_not_stored(ways: Ways, body: bytes) -> None:
    ways.plays(answers.whole(body))
    assert_not_kept(ways, ways.chat())


FIELD_CHANGES: dict[str, dict[str, object]] = {
    "model": {"model": "gpt-4o"},
    "model-case": {"model": "GPT-4o-mini"},
    "seed": {"seed": 1},
    "seed-zero": {"seed": 0},
    "tools": {"tools": TOOLS},
    "no-tools": {"tools": []},
    "n": {"n": 2},
    "max-tokens": {"max_tokens": 5},
    "max-completion-tokens": {"max_completion_tokens": 5},
    "top-p": {"top_p": 0.5},
    "min-p": {"min_p": 0.9},
    "stop": {"stop": ["a"]},
    "stop-order": {"stop": ["b", "a"]},
    "logprobs": {"logprobs": True},
    "logit-bias": {"logit_bias": {"50256": -100}},
    "response-format": {"response_format": SCHEMA},
    "reasoning-effort": {"reasoning_effort": "low"},
    "modalities": {"modalities": ["text"]},
    "unknown-field": {"brand_new_knob": 1},
    "unknown-field-true": {"brand_new_knob": True},
    "unknown-field-text": {"brand_new_knob": "1"},
    "unknown-field-other": {"brand_new_knob": 2},
    "unknown-field-nested": {"brand_new_knob": {"a": [1, {"b": 2}]}},
    "unknown-field-nested-other": {"brand_new_knob": {"a": [{"b": 2}, 1]}},
    "unknown-field-huge": {"brand_new_knob": 12345678901234567890123},
    "unknown-field-huge-other": {"brand_new_knob": 12345678901234567890124},
    "litellm-cache-field": {"cache": {"no-cache": False}},
}


def test_c08_every_field_of_the_body_counts(ways: Ways) -> None:
    changes: list[dict[str, object]] = [{}, *FIELD_CHANGES.values()]
    bodies = set()
    for change in changes:
        passage = ways.through(ways.post(CHAT, ways.chat_body(**change)))
        assert not from_cache(passage), change
        bodies.add(bytes(passage.answer.body))
    assert len(bodies) == len(changes)
    for change in changes:
        again = ways.through(ways.post(CHAT, ways.chat_body(**change)))
        assert again.received == (), change
        assert bytes(again.answer.body) in bodies, change


CONVERSATIONS: dict[str, list[dict[str, object]]] = {
    "base": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "NONCE one"}],
    "order": [{"role": "user", "content": "NONCE one"}, {"role": "system", "content": "Be brief."}],
    "role": [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "NONCE one"}],
    "letter-case": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "NONCE One"}],
    "trailing-blank": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "NONCE one "}],
    "inner-blanks": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "NONCE  one"}],
    "composed": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "NONCE caf\u00e9"}],
    "decomposed": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "NONCE cafe\u0301"}],
    "parts": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "NONCE one"}]},
    ],
    "parts-cut": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "NONCE "}, {"type": "text", "text": "one"}]},
    ],
    "name": [{"role": "system", "content": "Be brief."}, {"role": "user", "name": "bob", "content": "NONCE one"}],
    "image": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x.example/NONCE.png"}}]},
    ],
    "image-detail": [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [{"type": "image_url", "image_url": {"url": "https://x.example/NONCE.png", "detail": "low"}}],
        },
    ],
}


def test_c08_every_detail_of_the_conversation_counts(ways: Ways) -> None:
    # A semantic answer says what it is; here the question is what is exactly the same.
    exact: Headers = (("x-askonce-semantic", "off"),)
    for name, messages in CONVERSATIONS.items():
        spelled = json.loads(json.dumps(messages).replace("NONCE", ways.nonce))
        assert not from_cache(ways.through(ways.chat(messages=spelled, headers=exact))), name


HEADER_CHANGES: dict[str, Headers] = {
    "beta": (("OpenAI-Beta", "assistants=v2"),),
    "other-beta": (("OpenAI-Beta", "assistants=v1"),),
    "organization": (("OpenAI-Organization", "org-a"),),
    "other-organization": (("OpenAI-Organization", "org-b"),),
    "project": (("OpenAI-Project", "proj-a"),),
    "organization-and-project": (("OpenAI-Organization", "org-a"), ("OpenAI-Project", "proj-a")),
    "anthropic-version": (("anthropic-version", "2023-06-01"),),
    "anthropic-beta": (("anthropic-beta", "tools"),),
}


def test_c08_the_headers_that_change_the_answer_count(ways: Ways) -> None:
    for headers in ((), *HEADER_CHANGES.values()):
        assert not from_cache(ways.through(ways.chat(headers=headers))), headers
    for headers in ((), *HEADER_CHANGES.values()):
        assert from_cache(ways.through(ways.chat(headers=headers))), headers


def test_c08_path_and_query_count(ways: Ways) -> None:
    targets = (CHAT, CHAT + "?api-version=1", CHAT + "?api-version=2", CHAT + "?a=1&a=2", CHAT + "?a=2&a=1")
    azure = tuple(f"/openai/deployments/{name}/chat/completions?api-version=1" for name in ("gpt-4o", "gpt-4o-mini"))
    for path in (*targets, *azure, "/v1/completions", "/v1/messages"):
        assert not from_cache(ways.through(ways.chat(path=path))), path


CREDENTIALS: dict[str, Headers] = {
    "none": (),
    "one": (("Authorization", "Bearer sk-one"),),
    "other": (("Authorization", "Bearer sk-other"),),
    "azure": (("api-key", "sk-third"),),
    "anthropic": (("x-api-key", "sk-fourth"),),
    "two": (("Authorization", "Bearer sk-one"), ("api-key", "sk-fifth")),
}


def test_c08_the_credential_counts(ways: Ways) -> None:
    asked = {name: raw_client.request("POST", CHAT, given, ways.chat_body()) for name, given in CREDENTIALS.items()}
    for name, octets in asked.items():
        assert not from_cache(ways.through(octets)), name
    for name, octets in asked.items():
        assert from_cache(ways.through(octets)), name


IRRELEVANT: dict[str, dict[str, object]] = {
    "user": {"user": "user-1"},
    "safety-identifier": {"safety_identifier": "u"},
    "metadata": {"metadata": {"trace": "1"}},
    "service-tier": {"service_tier": "auto"},
    "prompt-cache-key": {"prompt_cache_key": "k"},
    "prompt-cache-retention": {"prompt_cache_retention": "24h"},
    "stream-false": {"stream": False},
    "temperature-as-float": {"temperature": 0.0},
}


@pytest.mark.parametrize("name", IRRELEVANT)
def test_c08_what_cannot_change_the_answer_is_left_out(ways: Ways, name: str) -> None:
    assert_kept(ways, ways.chat(), ways.post(CHAT, ways.chat_body(**{"temperature": 0, **IRRELEVANT[name]})))


def test_c08_another_spelling_of_the_same_body_is_the_same_request(ways: Ways) -> None:
    plain = ways.chat_body(top_p=1, seed=10)
    asked = json.loads(plain)
    respelled = json.dumps(dict(reversed(asked.items())), indent=3).replace('"top_p": 1', '"top_p": 1.0e0')
    escaped = respelled.replace("Tell", "\\u0054ell")
    assert_kept(ways, ways.post(CHAT, plain), ways.post(CHAT, escaped.encode()))


def test_c08_a_responses_answer_echoes_what_others_leave_out(ways: Ways) -> None:
    asked = {"messages": None, "input": ways.nonce, "store": False}
    assert not from_cache(ways.through(ways.post("/v1/responses", ways.chat_body(**asked))))
    for more in ({"user": "u1"}, {"metadata": {"a": "1"}}, {"metadata": {"a": "2"}}, {"safety_identifier": "s"}):
        assert not from_cache(ways.through(ways.post("/v1/responses", ways.chat_body(**asked, **more)))), more


@pytest.mark.parametrize("temperature", [1, 0.7, 0.1, 1e-9, 2, "0", True, False, []], ids=repr)
@BOTH_FORMS
def test_c09_a_temperature_that_is_not_zero_is_not_stored(ways: Ways, temperature: object, stream: bool) -> None:
    first, second = assert_not_kept(ways, ways.chat(temperature=temperature, stream=stream))
    assert bytes(first.answer.body) != bytes(second.answer.body)


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/responses", "/v1/messages"])
def test_c09_an_absent_temperature_is_not_stored(ways: Ways, path: str) -> None:
    assert_not_kept(ways, ways.chat(path=path, temperature=None, input=ways.nonce))


def test_c09_a_null_temperature_is_not_stored(ways: Ways) -> None:
    body = ways.chat_body().replace(b'"temperature":0', b'"temperature":null')
    assert_not_kept(ways, ways.post(CHAT, body))


def encoding_provider(body: bytes, fields: Fields) -> Script:
    """A provider that packs for those who asked for it, as a CDN does."""

    async def play(exchange: Exchange) -> None:
        wish = b",".join(exchange.request.values("accept-encoding"))
        if b"gzip" in wish and b"gzip;q=0" not in wish:
            packed: Fields = (*fields, ("Content-Encoding", "gzip"), ("Vary", "Accept-Encoding"))
            await exchange.send(answers.whole(gzip.compress(body), packed))
        else:
            await exchange.send(answers.whole(body, (*fields, ("Vary", "Accept-Encoding"))))

    return Script(play=play)


@pytest.mark.parametrize("wish", [None, "identity", "br", "deflate, br, zstd", "gzip;q=0", "gzip;q=0, *;q=0.5", ""])
@BOTH_FORMS
def test_c10_a_stored_gzip_body_is_not_sent_to_who_did_not_ask(ways: Ways, wish: str | None, stream: bool) -> None:
    body = b"".join(STREAM) if stream else WHOLE_BODY
    ways.plays(encoding_provider(body, EVENTS if stream else JSON))
    packed = ways.through(ways.chat(stream=stream, headers=(("Accept-Encoding", "gzip, deflate"),))).answer
    assert packed.values("content-encoding") == [b"gzip"]
    plain = ways.through(ways.chat(stream=stream, headers=(("Accept-Encoding", wish),) if wish is not None else ()))
    assert plain.answer.values("content-encoding") in ([], [b"identity"])
    assert bytes(plain.answer.body) == body
    again = ways.through(ways.chat(stream=stream, headers=(("Accept-Encoding", "gzip, deflate"),))).answer
    decoded = zlib.decompress(again.body, wbits=31) if again.values("content-encoding") else bytes(again.body)
    assert decoded == body


SIDE_EFFECTS: dict[str, tuple[str, str, dict[str, object]]] = {
    "files": ("POST", "/v1/files", {}),
    "batches": ("POST", "/v1/batches", {}),
    "fine-tuning": ("POST", "/v1/fine_tuning/jobs", {}),
    "assistants": ("POST", "/v1/assistants", {}),
    "threads": ("POST", "/v1/threads", {}),
    "thread-messages": ("POST", "/v1/threads/thread_1/messages", {}),
    "thread-runs": ("POST", "/v1/threads/thread_1/runs", {}),
    "images": ("POST", "/v1/images/generations", {}),
    "audio-speech": ("POST", "/v1/audio/speech", {}),
    "audio-transcriptions": ("POST", "/v1/audio/transcriptions", {}),
    "vector-stores": ("POST", "/v1/vector_stores", {}),
    "moderations": ("POST", "/v1/moderations", {}),
    "conversations": ("POST", "/v1/conversations", {}),
    "stored-completion": ("POST", "/v1/chat/completions/chatcmpl-1", {}),
    "responses-cancel": ("POST", "/v1/responses/resp_1/cancel", {}),
    "previous-response": ("POST", "/v1/responses", {"input": "x", "previous_response_id": "resp_1"}),
    "background": ("POST", "/v1/responses", {"input": "x", "background": True}),
    "conversation": ("POST", "/v1/responses", {"input": "x", "conversation": "conv_1"}),
    "conversation-object": ("POST", "/v1/responses", {"input": "x", "conversation": {"id": "conv_1"}}),
    "chat-store": ("POST", CHAT, {"store": True}),
    "chat-store-stream": ("POST", CHAT, {"store": True, "stream": True}),
    "put": ("PUT", CHAT, {}),
    "patch": ("PATCH", CHAT, {}),
    "delete": ("DELETE", CHAT, {}),
    "get": ("GET", CHAT, {}),
}


@pytest.mark.parametrize("name", SIDE_EFFECTS)
def test_c11_a_call_with_side_effects_is_never_answered_from_the_cache(ways: Ways, name: str) -> None:
    method, path, asked = SIDE_EFFECTS[name]
    octets = ways.request(method, path, JSON, ways.chat_body(**asked))
    first, second = ways.through(octets), ways.through(octets)
    assert (len(first.received), len(second.received)) == (1, 1)
    assert second.answer.get("x-cache") not in FROM_CACHE


@BOTH_FORMS
def test_c12_a_cookie_is_not_replayed(ways: Ways, stream: bool) -> None:
    cookies: Fields = (("Set-Cookie", "__cf_bm=secret; path=/; HttpOnly"), ("set-cookie", "_cfuvid=secret"))
    body = b"".join(STREAM) if stream else WHOLE_BODY
    ways.plays(answers.whole(body, (*(EVENTS if stream else JSON), *cookies)))
    octets = ways.chat(stream=stream)
    first, second = assert_kept(ways, octets)
    assert len(first.values("set-cookie")) == 2
    hit = ways.through(octets).answer
    assert second.values("set-cookie") == hit.values("set-cookie") == []
    assert b"secret" not in b"".join(hit.header_lines)


def test_c12_those_who_join_a_flight_get_no_cookie_of_its_leader(ways: Ways) -> None:
    gate = Gate()
    ways.plays(steps(gate, answers.whole(WHOLE_BODY, (*JSON, ("Set-Cookie", "sid=secret")))))
    octets = ways.chat()
    with ways.connect() as leader, ways.connect() as follower:
        leader.send(octets)
        ways.provider.wait_for(ways.nonce)
        follower.send(octets)
        ways.settle()
        gate.open()
        assert leader.read_answer("POST").values("set-cookie") == [b"sid=secret"]
        assert follower.read_answer("POST").values("set-cookie") == []


@pytest.mark.parametrize("value", ["no-store", "No-Store", "max-age=60, no-store", "no-store, no-cache"])
@BOTH_FORMS
def test_c13_no_store_keeps_the_answer_out_of_the_cache(ways: Ways, value: str, stream: bool) -> None:
    private = ways.chat(stream=stream, headers=(("Cache-Control", value),))
    plain = ways.chat(stream=stream)
    assert_not_kept(ways, private)
    first, _ = assert_kept(ways, plain)
    assert not from_cache(ways.through(private))
    assert bytes(ways.through(plain).answer.body) == bytes(first.body)


@pytest.mark.parametrize("value", ["no-cache", "NO-CACHE", "no-cache, max-age=60"])
def test_c13_no_cache_goes_upstream(ways: Ways, value: str) -> None:
    plain, fresh = ways.chat(), ways.chat(headers=(("Cache-Control", value),))
    first, _ = assert_kept(ways, plain)
    renewed = ways.through(fresh)
    assert not from_cache(renewed)
    assert bytes(renewed.answer.body) != bytes(first.body)
    assert from_cache(ways.through(plain))


def test_c13_cache_control_reaches_the_provider(ways: Ways) -> None:
    passage = ways.through(ways.chat(headers=(("Cache-Control", "no-cache"), ("Pragma", "no-cache"))))
    assert passage.only.values("cache-control") == [b"no-cache"]
    assert passage.only.values("pragma") == [b"no-cache"]


DUBIOUS: dict[str, bytes] = {
    "duplicate-first": b'{"model":"a","model":"b","temperature":0,"messages":[{"role":"user","content":"NONCE"}]}',
    "duplicate-second": b'{"model":"b","model":"a","temperature":0,"messages":[{"role":"user","content":"NONCE"}]}',
    "duplicate-nested": b'{"model":"b","temperature":0,"messages":[{"role":"user","content":"x","content":"NONCE"}]}',
    "duplicate-escaped": b'{"model":"b","temperature":0,"mod\\u0065l":"a","messages":[{"content":"NONCE"}]}',
    "duplicate-temperature": b'{"model":"b","temperature":1,"temperature":0,"messages":[{"content":"NONCE"}]}',
    "not-json": b'{"model":"b","temperature":0,"messages":[{"role":"user","content":"NONCE"}],}',
    "comment": b'{"model":"b",/**/"temperature":0,"messages":[{"role":"user","content":"NONCE"}]}',
    "nan": b'{"model":"b","temperature":0,"x":NaN,"messages":[{"role":"user","content":"NONCE"}]}',
    "infinity": b'{"model":"b","temperature":0,"x":Infinity,"messages":[{"role":"user","content":"NONCE"}]}',
    "trailing-rubbish": b'{"model":"b","temperature":0,"messages":[{"role":"user","content":"NONCE"}]} x',
    "not-utf8": b'{"model":"b","temperature":0,"messages":[{"role":"user","content":"NONCE \xff"}]}',
    "control-character": b'{"model":"b","temperature":0,"messages":[{"role":"user","content":"NONCE\n"}]}',
    "absurd-exponent": b'{"model":"b","temperature":0,"x":1e999,"messages":[{"role":"user","content":"NONCE"}]}',
}


@pytest.mark.parametrize("name", DUBIOUS)
def test_c14_a_body_of_dubious_meaning_is_never_kept(ways: Ways, name: str) -> None:
    octets = ways.post(CHAT, DUBIOUS[name].replace(b"NONCE", ways.nonce.encode()))
    assert_not_kept(ways, octets)


def test_c14_a_body_of_dubious_meaning_finds_no_entry(ways: Ways) -> None:
    plain = b'{"model":"%s","temperature":0,"messages":[{"role":"user","content":"NONCE"}]}'
    for model in (b"a", b"b"):
        assert not from_cache(ways.through(ways.post(CHAT, (plain % model).replace(b"NONCE", ways.nonce.encode()))))
    for name, body in DUBIOUS.items():
        assert not from_cache(ways.through(ways.post(CHAT, body.replace(b"NONCE", ways.nonce.encode())))), name


@BOTH_FORMS
@pytest.mark.parametrize("begun", [False, True])
def test_c15_20_identical_requests_at_once_get_one_answer(ways: Ways, stream: bool, begun: bool) -> None:
    gate = Gate()
    good = b"".join(STREAM) if stream else WHOLE_BODY
    head, half = answers.chunked_head(EVENTS if stream else JSON), len(good) // 2
    first: list[Step] = [head, chunk(good[:half]), gate] if begun else [gate, head, chunk(good[:half])]
    ways.plays(steps(*first, chunk(good[half:]), answers.LAST_CHUNK), steps(ways.fixed()))
    octets = ways.chat(stream=stream)
    connections = [ways.connect() for _ in range(20)]
    connections[0].send(octets)
    ways.provider.wait_for(ways.nonce)
    for connection in connections[1:]:
        connection.send(octets)
    ways.settle()
    gate.open()
    heard = [connection.read_answer("POST") for connection in connections]
    assert [(one.status, one.ending, bytes(one.body)) for one in heard] == [(200, Ending.WHOLE, good)] * 20
    assert len(ways.received()) == 1
    assert [one.get("x-cache") for one in heard].count("MISS") == 1
    assert all(answer_fields(one, hit=True) == answer_fields(heard[0], hit=True) for one in heard)
    for connection in connections:
        connection.close()


@BOTH_FORMS
def test_c15_20_clients_in_a_race_get_one_answer(ways: Ways, stream: bool) -> None:
    octets = ways.chat(stream=stream)
    with ThreadPoolExecutor(20) as threads:
        running = [threads.submit(raw_client.exchange, ways.proxy, octets) for _ in range(20)]
        heard = [one.result() for one in running]
    assert len({bytes(one.body) for one in heard}) == 1
    assert all((one.status, one.ending) == (200, Ending.WHOLE) for one in heard)
    assert len(ways.received()) == 1


@BOTH_FORMS
@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("close", ["fin", "rst"])
def test_c15_the_leader_leaving_does_not_break_the_followers(ways: Ways, stream: bool, begun: bool, close: str) -> None:
    gate = Gate()
    good = b"".join(STREAM) if stream else WHOLE_BODY
    head, half = answers.chunked_head(EVENTS if stream else JSON), len(good) // 2
    first: list[Step] = [head, chunk(good[:half]), gate] if begun else [gate, head, chunk(good[:half])]
    ways.plays(steps(*first, chunk(good[half:]), answers.LAST_CHUNK), steps(ways.fixed()))
    octets = ways.chat(stream=stream)
    leader, followers = ways.connect(), [ways.connect() for _ in range(5)]
    leader.send(octets)
    (request,) = ways.provider.wait_for(ways.nonce)
    for follower in followers:
        follower.send(octets)
    ways.settle()
    if begun:
        leader.start_answer("POST").read_size(half)
    if close == "rst":
        leader.reset()
    else:
        leader.close()
    assert not ways.provider.wait_until(lambda: request.link.closed_at is not None, 0.8), "the flight was cancelled"
    gate.open()
    for follower in followers:
        answer = follower.read_answer("POST")
        assert (answer.status, answer.ending, bytes(answer.body)) == (200, Ending.WHOLE, good)
        follower.close()
    assert len(ways.received()) == 1
    assert from_cache(ways.through(octets))


def test_c15_a_failure_is_passed_to_all_and_kept_for_nobody(ways: Ways) -> None:
    gate = Gate()
    ways.plays(steps(gate, answers.whole(b'{"error":{"message":"no"}}', status=500)), steps(ways.fixed()))
    octets = ways.chat()
    connections = [ways.connect() for _ in range(5)]
    connections[0].send(octets)
    ways.provider.wait_for(ways.nonce)
    for connection in connections[1:]:
        connection.send(octets)
    ways.settle()
    gate.open()
    assert [connection.read_answer("POST").status for connection in connections] == [500] * 5
    assert ways.through(octets).answer.status == 200
    for connection in connections:
        connection.close()


@BOTH_FORMS
@pytest.mark.parametrize("keep_alive", [False, True])
def test_c16_a_hit_for_an_http_1_0_client_has_no_chunks(ways: Ways, stream: bool, keep_alive: bool) -> None:
    first, _ = assert_kept(ways, ways.chat(stream=stream))
    wish: Headers = (("Connection", "keep-alive"),) if keep_alive else ()
    octets = ways.chat(stream=stream, headers=wish).replace(b"HTTP/1.1", b"HTTP/1.0", 1)
    with ways.connect() as connection:
        connection.send(octets)
        answer = connection.read_answer("POST")
        assert answer.get("x-cache") == "HIT"
        assert answer.values("transfer-encoding") == []
        assert bytes(answer.body) == bytes(first.body)
        if answer.framing is Framing.CLOSE or not keep_alive:
            assert connection.ended(3) is Ending.TRUNCATED


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "OPTIONS", "DELETE"])
@pytest.mark.parametrize("with_body", [False, True])
def test_c16_another_method_is_not_answered_by_a_post_entry(ways: Ways, method: str, with_body: bool) -> None:
    assert_kept(ways, ways.chat())
    body = ways.chat_body() if with_body else None
    passage = ways.through(ways.request(method, CHAT, (("Authorization", "Bearer sk-contract"),), body))
    assert passage.only.method == method
    assert passage.answer.get("x-cache") not in FROM_CACHE


def test_c16_hits_keep_the_connection_and_its_order(ways: Ways) -> None:
    first, _ = assert_kept(ways, ways.chat())
    with ways.connect() as connection:
        connection.send(ways.chat() * 3 + ways.chat(turn=2) + ways.chat())
        heard = [connection.read_answer("POST") for _ in range(5)]
    same = [bytes(one.body) == bytes(first.body) for one in heard]
    assert same == [True, True, True, False, True]


def test_c16_a_hit_honours_connection_close(ways: Ways) -> None:
    assert_kept(ways, ways.chat())
    with ways.connect() as connection:
        connection.send(ways.chat(headers=(("Connection", "close"),)))
        assert connection.read_answer("POST").get("x-cache") == "HIT"
        assert connection.ended(3) is Ending.TRUNCATED


def test_c16_a_hit_honours_expect(ways: Ways) -> None:
    first, _ = assert_kept(ways, ways.chat())
    octets = ways.chat(headers=(("Expect", "100-continue"),))
    head, _, body = octets.partition(b"\r\n\r\n")
    with ways.connect() as connection:
        connection.send(head + b"\r\n\r\n")
        assert connection.read_head().startswith(b"HTTP/1.1 100 ")
        connection.send(body)
        assert bytes(connection.read_answer("POST").body) == bytes(first.body)


TELEMETRY: dict[str, Headers] = {
    "retry-count": (("x-stainless-retry-count", "1"),),
    "read-timeout": (("x-stainless-read-timeout", "60"),),
    "idempotency-key": (("Idempotency-Key", "stainless-python-retry-2"),),
    "traceparent": (("traceparent", "00-00000000000000000000000000000001-0000000000000001-01"), ("tracestate", "a=b")),
    "baggage": (("baggage", "userId=1"), ("sentry-trace", "1-2-0"), ("x-request-id", "mine"), ("b3", "0")),
    "user-agent": (("User-Agent", "OpenAI/JS 5.0.0"), ("x-stainless-lang", "js"), ("Accept", "*/*")),
    "forwarded": (("X-Forwarded-For", "10.0.0.1"),),
}


@pytest.mark.parametrize("name", TELEMETRY)
def test_c17_telemetry_does_not_turn_a_hit_into_a_miss(ways: Ways, name: str) -> None:
    assert_kept(ways, ways.chat(), ways.chat(headers=TELEMETRY[name]))


def test_c17_a_chunked_request_finds_the_same_entry(ways: Ways) -> None:
    body = ways.chat_body()
    head = raw_client.request(
        "POST",
        CHAT,
        (
            ("Content-Type", "application/json"),
            ("Authorization", "Bearer sk-contract"),
            ("Transfer-Encoding", "chunked"),
        ),
    )
    assert_kept(ways, ways.chat(), head + answers.chunks(body, 9))
