"""S1-S23: streams arrive as they were sent, when they were sent, and end when they were ended."""

import itertools
import json
import statistics
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import pytest

from tests import answers, raw_client
from tests.answers import DONE, EVENTS, chunk, event
from tests.comparison import Passage, Ways, assert_alike
from tests.raw_client import Ending, Framing, RawAnswer, RawConnection
from tests.scripted_provider import Exchange, Gate, Generate, Pause, Script, Step, steps

CHAT = "/v1/chat/completions"
AZURE = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21"
# A stream that may be kept, one that may not, and one that only passes through.
KINDS = {
    "kept": (CHAT, 0),
    "not-kept": (CHAT, 1),
    "forwarded": ("/v1/threads/thread_1/runs", None),
}
ALL_KINDS = pytest.mark.parametrize("kind", KINDS)
LATE_S = 0.040
GAP_S = 0.080

CHAT_EVENTS = [*answers.chat_events(["Hel", "lo ", "wörld ", "😀"]), DONE]


def asks(ways: Ways, kind: str = "kept", **asked: object) -> bytes:
    """A streaming request of one of the kinds."""
    path, temperature = KINDS[kind]
    return ways.post(path, ways.chat_body(**{"temperature": temperature, "stream": True, **asked}))


def flowing(pieces: Iterable[bytes], *, gap_s: float = 0.0, fields: answers.Fields = EVENTS) -> Script:
    """A stream that sends each piece as a chunk of its own, *gap_s* apart."""
    paced: list[Step] = []
    for piece in pieces:
        paced += [chunk(piece), Pause(gap_s)] if gap_s else [chunk(piece)]
    return steps(answers.chunked_head(fields), *paced, answers.LAST_CHUNK)


def arrival_times(answer: RawAnswer, pieces: Sequence[bytes]) -> list[float]:
    """When the last byte of each piece was with the client."""
    times, arrived, arrivals = [], 0, iter(answer.arrivals)
    at = answer.head_at
    for wanted in itertools.accumulate(map(len, pieces)):
        while arrived < wanted:
            arrival = next(arrivals)
            at, arrived = arrival.at, arrived + len(arrival.data)
        times.append(at)
    return times


def lateness(passage: Passage, pieces: Sequence[bytes]) -> list[float]:
    """How long after the provider had sent it each piece was with the client."""
    sent = [at for at, _ in passage.only.sent[1 : len(pieces) + 1]]
    return [there - here for here, there in zip(sent, arrival_times(passage.answer, pieces), strict=True)]


def assert_timely(ways: Ways, octets: bytes, pieces: Sequence[bytes], script: Script) -> tuple[Passage, Passage]:
    """The bytes are the same both ways, no piece comes late by its direct timing, and no two come together."""
    ways.plays(script)
    straight, through = ways.straight(octets), ways.through(octets)
    assert_alike(straight, through)
    late = [b - a for a, b in zip(lateness(straight, pieces), lateness(through, pieces), strict=True)]
    assert statistics.median(late) <= LATE_S, f"late by {late}"
    times = arrival_times(through.answer, pieces)
    gaps = [after - before for before, after in itertools.pairwise(times)]
    assert min(gaps) > 0.25 * GAP_S, f"events came together: {gaps}"
    return straight, through


def obfuscated(payload: dict[str, object], padding: str) -> bytes:
    """An event as the provider sends it with `include_obfuscation`."""
    return event({**payload, "usage": None, "obfuscation": padding})


FRAME: dict[str, object] = {
    "id": "chatcmpl-BaZ",
    "object": "chat.completion.chunk",
    "created": 1_762_250_000,
    "model": "gpt-4o-2024-08-06",
    "service_tier": "default",
    "system_fingerprint": "fp_a288987b44",
}
USAGE = {"prompt_tokens": 8, "completion_tokens": 2, "total_tokens": 10}
CALLS = [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": ""}}]


def one_choice(
    delta: object, finish: str | None = None, *, index: int = 0, logprobs: object = None
) -> dict[str, object]:
    """The frame with one choice."""
    choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
    return {**FRAME, "choices": [choice]}


STREAMS: dict[str, tuple[dict[str, object], list[bytes]]] = {
    "plain": ({}, CHAT_EVENTS),
    "usage-and-obfuscation": (
        {"stream_options": {"include_usage": True}},
        [
            obfuscated(one_choice({"role": "assistant", "content": "", "refusal": None}), "kT9x"),
            obfuscated(one_choice({"content": "Hello"}), ""),
            obfuscated(one_choice({"content": " world"}), "aB3dE5f"),
            obfuscated(one_choice({}, "stop"), "q"),
            event({**FRAME, "choices": [], "usage": USAGE, "obfuscation": "zz"}),
            DONE,
        ],
    ),
    "tools": (
        {"tools": [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]},
        [
            event(one_choice({"role": "assistant", "content": None, "tool_calls": CALLS})),
            event(one_choice({"tool_calls": [{"index": 0, "function": {"arguments": '{"ci'}}]})),
            event(one_choice({"tool_calls": [{"index": 0, "function": {"arguments": 'ty":"Ähtäri"}'}}]})),
            event(one_choice({}, "tool_calls")),
            DONE,
        ],
    ),
    "logprobs": (
        {"logprobs": True, "top_logprobs": 1},
        [
            event(
                one_choice(
                    {"content": "Hi"},
                    logprobs={"content": [{"token": "Hi", "logprob": -3.1281633e-07, "bytes": [72, 105]}]},
                )
            ),
            event(one_choice({}, "stop")),
            DONE,
        ],
    ),
    "two-choices": (
        {"n": 2},
        [
            event(one_choice({"role": "assistant", "content": ""})),
            event(one_choice({"role": "assistant", "content": ""}, index=1)),
            event(one_choice({"content": "A"}, index=1)),
            event(one_choice({"content": "B"})),
            event(one_choice({}, "stop", index=1)),
            event(one_choice({}, "stop")),
            DONE,
        ],
    ),
}


@pytest.mark.parametrize("name", STREAMS)
@ALL_KINDS
def test_s01_a_chat_stream_is_byte_identical(ways: Ways, kind: str, name: str) -> None:
    asked, events = STREAMS[name]
    _, through = ways.alike(asks(ways, kind, **asked), flowing(events), spelling=True)
    assert bytes(through.answer.body) == b"".join(events)
    assert through.answer.framing is Framing.CHUNKED


@pytest.mark.timed
@ALL_KINDS
def test_s02_events_are_neither_held_back_nor_merged(ways: Ways, kind: str) -> None:
    events = [*answers.chat_events([f"word{number} " for number in range(9)]), DONE]
    assert len(events) == 12
    assert_timely(ways, asks(ways, kind), events, flowing(events, gap_s=GAP_S))


@pytest.mark.timed
@pytest.mark.parametrize("stream", [True, False])
@ALL_KINDS
def test_s03_the_head_is_delivered_when_the_provider_sends_it(ways: Ways, kind: str, stream: bool) -> None:
    first_event = Gate()
    ways.plays(steps(answers.chunked_head(EVENTS), first_event, chunk(b"".join(CHAT_EVENTS)), answers.LAST_CHUNK))
    with ways.connect(timeout_s=1.2) as connection:
        connection.send(asks(ways, kind, stream=stream))
        answer = connection.start_answer("POST")
        (request,) = ways.received()
        assert ways.provider.wait_until(lambda: bool(request.sent))
        assert answer.head_at - request.sent[0][0] <= 0.25
        first_event.open()
        assert answer.finish().ending is Ending.WHOLE


def cut(body: bytes, *marks: bytes) -> list[bytes]:
    """*body* cut in the middle of the first occurrence of each mark."""
    places = sorted({body.index(mark) + max(1, len(mark) // 2) for mark in marks})
    return [body[start:end] for start, end in itertools.pairwise([0, *places, len(body)])]


@pytest.mark.timed
@pytest.mark.parametrize(
    "pieces",
    [
        cut(b"".join(CHAT_EVENTS), "ö".encode(), "😀".encode()),
        cut(b"".join(CHAT_EVENTS), b"data:", b'"finish_reason"', b"\n\ndata", b"[DONE]", b'Hel"'),
        cut(b"".join(CHAT_EVENTS), b"\n\n"),
    ],
    ids=["inside-a-character", "inside-words", "inside-the-blank-line"],
)
@ALL_KINDS
def test_s04_odd_cuts_are_passed_on_at_once_and_unchanged(ways: Ways, kind: str, pieces: list[bytes]) -> None:
    assert b"".join(pieces) == b"".join(CHAT_EVENTS)
    assert_timely(ways, asks(ways, kind), pieces, flowing(pieces, gap_s=GAP_S))


@ALL_KINDS
def test_s04_a_stream_in_single_bytes_is_unchanged(ways: Ways, kind: str) -> None:
    body = b"".join(CHAT_EVENTS)
    _, through = ways.alike(asks(ways, kind), flowing(body[at : at + 1] for at in range(len(body))))
    assert bytes(through.answer.body) == body


@pytest.mark.timed
@ALL_KINDS
def test_s05_comments_and_pings_are_kept_and_timely(ways: Ways, kind: str) -> None:
    said = [
        b": OPENROUTER PROCESSING\n\n",
        b":\n\n",
        CHAT_EVENTS[0],
        b'event: ping\ndata: {"type": "ping"}\n\n',
        b": keep-alive\n",
        *CHAT_EVENTS[1:],
        b": bye\n\n",
    ]
    assert_timely(ways, asks(ways, kind), said, flowing(said, gap_s=GAP_S))


SPELLINGS = {
    "crlf": b"".join(CHAT_EVENTS).replace(b"\n", b"\r\n"),
    "cr": b"".join(CHAT_EVENTS).replace(b"\n", b"\r"),
    "mixed": b'data: {"a":1}\r\n\ndata: {"b":2}\n\r\ndata: [DONE]\r\r',
    "byte-order-mark": b"\xef\xbb\xbf" + b"".join(CHAT_EVENTS),
    "id-retry-event": b'id: 7\nretry: 3000\nevent: message\ndata: {"a":1}\n\nid\n\ndata: [DONE]\n\n',
    "several-data-lines": b'data: {"a":\ndata: 1}\n\ndata\ndata:\ndata: \n\ndata: [DONE]\n\n',
    "no-space": b'data:{"a":1}\n\ndata:[DONE]\n\n',
    "two-spaces": b'data:  {"a":1}  \n\ndata:  [DONE]\n\n',
    "unknown-fields": b'foo: bar\ndata: {"a":1}\nbaz\n\ndata: [DONE]\n\n',
    "not-utf8": b'data: {"a":"\xff\xfe"}\n\ndata: [DONE]\n\n',
    "nul": b'data: {"a":"\x00"}\n\ndata: [DONE]\n\n',
    "many-blank-lines": b"\n\n\n\ndata: {}\n\n\n\n\ndata: [DONE]\n\n\n\n",
    "not-sse-at-all": b"<html>hello</html>",
}


@pytest.mark.parametrize("name", SPELLINGS)
@ALL_KINDS
def test_s06_the_spelling_of_a_stream_is_untouched(ways: Ways, kind: str, name: str) -> None:
    body = SPELLINGS[name]
    _, through = ways.alike(asks(ways, kind), flowing([body[:9], body[9:]]))
    assert bytes(through.answer.body) == body


ENDS = {
    "no-done": b"".join(CHAT_EVENTS[:-1]),
    "no-done-no-finish": b"".join(CHAT_EVENTS[:-2]),
    "no-blank-line": b"".join(CHAT_EVENTS[:-1]) + b"data: [DONE]",
    "one-line-end": b"".join(CHAT_EVENTS[:-1]) + b"data: [DONE]\n",
    "bytes-after": b"".join(CHAT_EVENTS) + b': trailing\n\ndata: {"late":true}\n\nrubbish',
    "done-twice": b"".join(CHAT_EVENTS) + DONE,
    "only-done": DONE,
    "nothing": b"",
}


@pytest.mark.parametrize("name", ENDS)
@ALL_KINDS
def test_s07_done_is_neither_added_nor_removed(ways: Ways, kind: str, name: str) -> None:
    body = ENDS[name]
    _, through = ways.alike(asks(ways, kind), flowing([body] if body else []))
    assert bytes(through.answer.body) == body
    assert through.answer.ending is Ending.WHOLE


@ALL_KINDS
def test_s08_an_error_event_is_delivered_in_place(ways: Ways, kind: str) -> None:
    error = event(
        {"error": {"message": "The server had an error", "type": "server_error", "param": None, "code": None}}
    )
    events = [*CHAT_EVENTS[:3], error, *CHAT_EVENTS[3:]]
    _, through = ways.alike(asks(ways, kind), flowing(events))
    assert bytes(through.answer.body) == b"".join(events)
    named = [*CHAT_EVENTS[:3], b"event: error\n" + error]
    ways.alike(asks(ways, kind, again=1), flowing(named))


@pytest.mark.parametrize("path", ["/v1/responses", "/responses", "/openai/v1/responses"])
def test_s09_responses_streams_keep_names_numbers_and_order(ways: Ways, path: str) -> None:
    said = answers.friendly(7, "POST", "/v1/responses", b'{"stream":true,"model":"gpt-4o"}')
    octets = ways.chat(path=path, stream=True, messages=None, input=ways.nonce)
    _, through = ways.alike(octets, flowing(said.events, fields=said.fields), spelling=True)
    told = [json.loads(line[6:]) for line in bytes(through.answer.body).split(b"\n") if line.startswith(b"data: ")]
    assert [one["sequence_number"] for one in told] == list(range(len(said.events)))
    names = [line[7:].decode() for line in bytes(through.answer.body).split(b"\n") if line.startswith(b"event: ")]
    assert names == [one["type"] for one in told]


@pytest.mark.parametrize("status", [200, 400, 500])
@ALL_KINDS
def test_s10_a_stream_answered_with_json_passes_as_it_is(ways: Ways, kind: str, status: int) -> None:
    body = b'{"error":{"message":"stream is not supported","type":"invalid_request_error"}}'
    _, through = ways.alike(asks(ways, kind), answers.whole(body, status=status))
    assert through.answer.values("content-type") == [b"application/json"]
    assert through.answer.framing is Framing.LENGTH


@ALL_KINDS
def test_s10_a_whole_request_answered_with_events_passes_as_it_is(ways: Ways, kind: str) -> None:
    _, through = ways.alike(asks(ways, kind, stream=False), flowing(CHAT_EVENTS))
    assert bytes(through.answer.body) == b"".join(CHAT_EVENTS)
    assert through.answer.values("content-type") == [b"text/event-stream; charset=utf-8"]


@pytest.mark.parametrize("label", ["application/json", "text/plain", None])
@ALL_KINDS
def test_s10_events_under_another_content_type_pass_as_they_are(ways: Ways, kind: str, label: str | None) -> None:
    fields: answers.Fields = (("Content-Type", label),) if label else ()
    _, through = ways.alike(asks(ways, kind), flowing(CHAT_EVENTS, fields=fields))
    assert bytes(through.answer.body) == b"".join(CHAT_EVENTS)


@ALL_KINDS
def test_s11_events_sent_with_a_content_length_are_delivered_identically(ways: Ways, kind: str) -> None:
    body = b"".join(CHAT_EVENTS)
    _, through = ways.alike(asks(ways, kind), answers.whole(body, EVENTS))
    assert bytes(through.answer.body) == body
    assert through.answer.values("content-length") == [b"%d" % len(body)]


@ALL_KINDS
def test_s12_a_single_event_of_5_megabytes_passes(ways: Ways, kind: str) -> None:
    huge = event(one_choice({"content": "0123456789abcdef" * 330_000}))
    assert len(huge) > 5_000_000
    _, through = ways.alike(asks(ways, kind), flowing([CHAT_EVENTS[0], huge, event(one_choice({}, "stop")), DONE]))
    assert through.answer.size > 5_000_000


def seconds_until_provider_sees_it(ways: Ways, leave: Callable[[], None]) -> float:
    """How long after the client left the connection to the provider was closed."""
    (request,) = ways.received()
    left = time.monotonic()
    leave()
    assert ways.provider.wait_until(lambda: request.link.closed_at is not None, 3), "the provider never saw it"
    assert request.link.closed_at is not None
    return request.link.closed_at - left


BOTH_CLOSES = pytest.mark.parametrize("close", ["fin", "rst"])


def leaving(connection: RawConnection, close: str) -> Callable[[], None]:
    """The way the client goes."""
    return connection.reset if close == "rst" else connection.close


@pytest.mark.timed
@pytest.mark.parametrize("flows", [True, False])
@BOTH_CLOSES
@ALL_KINDS
def test_s13_a_client_that_leaves_in_mid_stream_is_noticed_upstream(
    ways: Ways, kind: str, close: str, flows: bool
) -> None:
    never = Gate()
    first = CHAT_EVENTS[0]
    rest: list[Step] = [step for _ in range(100) for step in (chunk(CHAT_EVENTS[1]), Pause(0.05))] if flows else [never]
    ways.plays(steps(answers.chunked_head(EVENTS), chunk(first), *rest))
    connection = ways.connect()
    connection.send(asks(ways, kind))
    connection.start_answer("POST").read_until(first)
    assert seconds_until_provider_sees_it(ways, leaving(connection, close)) <= 1.0


@pytest.mark.timed
@pytest.mark.parametrize("stream", [True, False])
@BOTH_CLOSES
@ALL_KINDS
def test_s14_a_client_that_leaves_before_the_first_byte_is_noticed_upstream(
    ways: Ways, kind: str, close: str, stream: bool
) -> None:
    ways.plays(steps(Gate()))
    connection = ways.connect()
    connection.send(asks(ways, kind, stream=stream))
    (request,) = ways.provider.wait_for(ways.nonce)
    assert ways.provider.wait_until(lambda: request.complete, 2)
    assert seconds_until_provider_sees_it(ways, leaving(connection, close)) <= 1.0


@pytest.mark.timed
@BOTH_CLOSES
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_s14_a_client_without_a_body_that_leaves_is_noticed_upstream(ways: Ways, close: str, method: str) -> None:
    ways.plays(steps(Gate()))
    connection = ways.connect()
    connection.send(ways.request(method, "/v1/models/m"))
    ways.provider.wait_for(ways.nonce)
    assert seconds_until_provider_sees_it(ways, leaving(connection, close)) <= 1.0


PIECE = b"data: " + b"0123456789abcdef" * 4095 + b"\n\n"


def numbered_chunk(number: int) -> bytes:
    """A chunk that no other number has."""
    return chunk(numbered_event(number))


def numbered_event(number: int) -> bytes:
    """64 KiB of a stream."""
    return b"data: %010d" % number + PIECE[16:]


@pytest.mark.timeout(60)
@ALL_KINDS
def test_s15_a_client_that_reads_nothing_holds_the_provider_back(ways: Ways, kind: str) -> None:
    times = 200_000_000 // len(PIECE)
    ways.plays(steps(answers.chunked_head(EVENTS), Generate(numbered_chunk, times), answers.LAST_CHUNK))
    before = ways.process.resident_bytes() if ways.process else 0
    with ways.connect(receive_buffer=16_384) as connection:
        connection.send(asks(ways, kind))
        answer = connection.start_answer("POST", keep=False)
        (request,) = ways.received()

        def taken() -> int:
            return sum(size for _, size in list(request.sent))

        assert not ways.provider.wait_until(lambda: taken() > 16_000_000, 1.5), f"took {taken()} bytes"
        if ways.process:
            assert ways.process.resident_bytes() - before <= 32_000_000
        answer.finish()
    expected = sha256()
    for number in range(times):
        expected.update(numbered_event(number))
    assert (answer.ending, answer.size) == (Ending.WHOLE, times * len(PIECE))
    assert answer.body_hash == expected.hexdigest()


@pytest.mark.timeout(40)
def test_s16_a_slow_reader_loses_nothing(ways: Ways) -> None:
    events = [numbered_event(number) for number in range(8)]
    ways.plays(flowing(events))

    def read_slowly(kind: str) -> bytes:
        with ways.connect(receive_buffer=8192) as connection:
            connection.send(asks(ways, kind))
            connection.read_pause_s = 0.05
            answer = connection.read_answer("POST")
        assert answer.ending is Ending.WHOLE
        return bytes(answer.body)

    with ThreadPoolExecutor(len(KINDS)) as threads:
        assert list(threads.map(read_slowly, KINDS)) == [b"".join(events)] * len(KINDS)


def test_s17_sixty_clients_each_get_their_own_stream(ways: Ways) -> None:
    count = 60
    everybody = Gate()

    async def tell_own_story(exchange: Exchange) -> None:
        own = json.loads(await exchange.body())["own"]
        await exchange.send(answers.chunked_head(EVENTS))
        await everybody.passed()
        for turn in range(20):
            await exchange.send(chunk(event(one_choice({"content": f"{own}-{turn} "}))))
        await exchange.send(chunk(DONE) + answers.LAST_CHUNK)

    ways.plays(Script(play=tell_own_story))

    def listen(number: int) -> tuple[Ending | None, bytes]:
        answer = raw_client.exchange(ways.proxy, asks(ways, list(KINDS)[number % 3], own=f"own{number}"))
        return answer.ending, bytes(answer.body)

    with ThreadPoolExecutor(count) as threads:
        running = [threads.submit(listen, number) for number in range(count)]
        ways.provider.wait_for(ways.nonce, count=count, timeout_s=10)
        everybody.open()
        heard = [one.result() for one in running]
    for number, (ending, body) in enumerate(heard):
        told = (event(one_choice({"content": f"own{number}-{turn} "})) for turn in range(20))
        assert (ending, body) == (Ending.WHOLE, b"".join(told) + DONE)


def assert_silence_is_tolerated(ways: Ways, seconds: float) -> None:
    """A silence before the first byte, after the head, and inside a stream does no harm; all at the same time."""
    whole = answers.chat_body("At last.")
    scripts = {
        "before-a-whole-answer": (False, steps(Pause(seconds), answers.whole(whole)), whole),
        "after-the-head": (
            False,
            steps(answers.head(200, (("Content-Length", str(len(whole))),)), Pause(seconds), whole),
            whole,
        ),
        "before-a-stream": (
            True,
            steps(Pause(seconds), answers.chunked(b"".join(CHAT_EVENTS), EVENTS)),
            b"".join(CHAT_EVENTS),
        ),
        "inside-a-stream": (
            True,
            steps(
                answers.chunked_head(EVENTS),
                chunk(CHAT_EVENTS[0]),
                Pause(seconds),
                chunk(b"".join(CHAT_EVENTS[1:])),
                answers.LAST_CHUNK,
            ),
            b"".join(CHAT_EVENTS),
        ),
    }
    cases = [(name, kind) for name in scripts for kind in KINDS]
    for name, kind in cases:
        ways.provider.on(f"{ways.nonce}-{name}-{kind}", scripts[name][1])

    def ask(case: tuple[str, str]) -> tuple[int, Ending | None, bytes]:
        name, kind = case
        octets = asks(ways, kind, stream=scripts[name][0], case=f"{ways.nonce}-{name}-{kind}")
        answer = raw_client.exchange(ways.proxy, octets, timeout_s=seconds + 10)
        return answer.status, answer.ending, bytes(answer.body)

    with ThreadPoolExecutor(len(cases)) as threads:
        for (name, kind), got in zip(cases, threads.map(ask, cases), strict=True):
            assert got == (200, Ending.WHOLE, scripts[name][2]), (name, kind, got)
    for name, kind in cases:
        ways.provider.forget(f"{ways.nonce}-{name}-{kind}")


@pytest.mark.timed
def test_s18_a_silence_of_4_seconds_is_tolerated(ways: Ways) -> None:
    assert_silence_is_tolerated(ways, 4)


@pytest.mark.timed
@ALL_KINDS
def test_s19_a_gzip_stream_stays_encoded_and_timely(ways: Ways, kind: str) -> None:
    packer = zlib.compressobj(wbits=31)
    pieces = [packer.compress(one) + packer.flush(zlib.Z_SYNC_FLUSH) for one in CHAT_EVENTS]
    pieces.append(packer.flush())
    fields: answers.Fields = (*EVENTS, ("Content-Encoding", "gzip"))
    path, temperature = KINDS[kind]
    octets = ways.chat(path=path, headers=(("Accept-Encoding", "gzip"),), temperature=temperature, stream=True)
    _, through = assert_timely(ways, octets, pieces, flowing(pieces, gap_s=GAP_S, fields=fields))
    assert through.answer.values("content-encoding") == [b"gzip"]
    assert zlib.decompress(bytes(through.answer.body), wbits=31) == b"".join(CHAT_EVENTS)


@ALL_KINDS
def test_s20_after_a_stream_the_connection_is_reusable(ways: Ways, kind: str) -> None:
    ways.plays(flowing(CHAT_EVENTS))
    with ways.connect() as connection:
        for turn in range(3):
            connection.send(asks(ways, kind, turn=turn))
            answer = connection.read_answer("POST")
            assert (answer.ending, bytes(answer.body)) == (Ending.WHOLE, b"".join(CHAT_EVENTS))
        connection.send(ways.request("GET", "/v1/models"))
        assert connection.read_answer().status == 200


@pytest.mark.parametrize("path", ["/v1/messages", "/messages"])
def test_s21_anthropic_streams_pass_unchanged(ways: Ways, path: str) -> None:
    said = answers.friendly(7, "POST", "/v1/messages", b'{"stream":true,"model":"claude"}').events
    events = [said[0], said[1], b'event: ping\ndata: {"type": "ping"}\n\n', *said[2:]]
    octets = ways.chat(path=path, stream=True, max_tokens=64, headers=(("anthropic-version", "2023-06-01"),))
    _, through = ways.alike(octets, flowing(events), spelling=True)
    assert bytes(through.answer.body) == b"".join(events)
    assert b"[DONE]" not in through.answer.body


def test_s22_azure_paths_and_first_chunks_pass_unchanged(ways: Ways) -> None:
    filters = {"hate": {"filtered": False, "severity": "safe"}, "jailbreak": {"filtered": False, "detected": False}}
    first = event(
        {
            "choices": [],
            "created": 0,
            "id": "",
            "model": "",
            "object": "",
            "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": filters}],
        }
    )
    events = [first, *CHAT_EVENTS]
    octets = ways.chat(path=AZURE, stream=True, headers=(("api-key", "0123456789abcdef"),))
    _, through = ways.alike(octets, flowing(events), spelling=True)
    assert through.only.target == AZURE.encode()
    assert bytes(through.answer.body) == b"".join(events)


@pytest.mark.timed
@pytest.mark.timeout(40)
@ALL_KINDS
def test_s23_250_slow_streams_all_begin_within_3_seconds(ways: Ways, kind: str) -> None:
    count = 250
    finish = Gate()
    ways.plays(
        steps(
            answers.chunked_head(EVENTS),
            chunk(CHAT_EVENTS[0]),
            finish,
            chunk(b"".join(CHAT_EVENTS[1:])),
            answers.LAST_CHUNK,
        )
    )
    connections = [ways.connect(timeout_s=20) for _ in range(count)]
    began = time.monotonic()
    for number, connection in enumerate(connections):
        connection.send(asks(ways, kind, number=number))
    heard = []
    for connection in connections:
        answer = connection.start_answer("POST")
        answer.read_until(CHAT_EVENTS[0])
        heard.append(answer)
    assert max(answer.arrivals[0].at for answer in heard) - began <= 3.0
    finish.open()
    for connection, answer in zip(connections, heard, strict=True):
        assert answer.finish().ending is Ending.WHOLE
        assert bytes(answer.body) == b"".join(CHAT_EVENTS)
        connection.close()
