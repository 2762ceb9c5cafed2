"""E1-E7: what breaks upstream looks broken to the client, at once and once."""

import json
import time

import pytest

from tests import answers, raw_client
from tests.answers import DONE, EVENTS, JSON, chunk
from tests.comparison import Ways
from tests.conftest import StartProxy
from tests.raw_client import DroppedError, Ending, Framing, RawAnswer, RawConnection
from tests.scripted_provider import End, Gate, Script, Step, steps

CHAT = "/v1/chat/completions"
FILES = "/v1/files"
BOTH_KINDS = pytest.mark.parametrize("path", [CHAT, FILES])
GATEWAY_ERRORS = (502, 503, 504)

BODY = answers.chat_body("An answer of which the second half gets lost on the way to whoever asked for it.")
HALF = len(BODY) // 2
LENGTH = (*JSON, ("Content-Length", str(len(BODY))))
STREAM = [*answers.chat_events(["one ", "two ", "three "]), DONE]


def send(connection: RawConnection, octets: bytes) -> RawAnswer | None:
    """The next answer on *connection*; None where it was dropped instead."""
    try:
        connection.send(octets)
        return connection.read_answer("POST")
    except (DroppedError, BrokenPipeError, ConnectionResetError):
        return None


def ask(ways: Ways, octets: bytes) -> RawAnswer | None:
    """The answer on a connection of its own; None where it was dropped instead."""
    with ways.connect() as connection:
        return send(connection, octets)


SILENT_ENDS = {
    "reset": steps(End.RESET),
    "close": steps(End.CLOSE),
    "reset-without-reading": steps(End.RESET, wait_for_body=False),
    "reset-inside-the-status-line": steps(b"HTTP/1.1 20", End.RESET),
    "close-inside-the-head": steps(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Le", End.CLOSE),
    "close-after-an-interim-answer": steps(answers.head(103), End.CLOSE),
}


@pytest.mark.timed
@pytest.mark.parametrize("reused", [False, True])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", SILENT_ENDS)
@BOTH_KINDS
def test_e01_a_post_that_dies_before_any_answer_fails_fast_and_once(
    ways: Ways, path: str, name: str, stream: bool, reused: bool
) -> None:
    if reused:
        # The proxy then holds an idle connection that it may use for the next request.
        ways.plays(ways.fixed())
        ways.through(ways.chat(path=path, turn=0))
    before = len(ways.received())
    ways.plays(SILENT_ENDS[name])
    # The nonce stands in the head too: a request that is never read whole is still known by it.
    octets = ways.chat(path=path, stream=stream, turn=1, headers=(("x-nonce", ways.nonce),))
    began = time.monotonic()
    answer = ask(ways, octets)
    assert time.monotonic() - began <= 2.0
    assert answer is None or answer.status in GATEWAY_ERRORS
    ways.settle()
    assert len(ways.received()) - before == 1


HALF_BODIES: dict[str, tuple[Step, ...]] = {
    "length-reset": (answers.head(200, LENGTH), BODY[:HALF], End.RESET),
    "length-close": (answers.head(200, LENGTH), BODY[:HALF], End.CLOSE),
    "length-nothing": (answers.head(200, LENGTH), End.CLOSE),
    "length-one-byte-short": (answers.head(200, LENGTH), BODY[:-1], End.CLOSE),
    "chunked-reset": (answers.chunked_head(), chunk(BODY[:HALF]), End.RESET),
    "chunked-close": (answers.chunked_head(), chunk(BODY[:HALF]), End.CLOSE),
    "chunked-inside-a-chunk": (answers.chunked_head(), chunk(BODY)[: HALF + 4], End.CLOSE),
    "chunked-no-last-chunk": (answers.chunked_head(), chunk(BODY), End.CLOSE),
    "chunked-inside-the-last-chunk": (answers.chunked_head(), chunk(BODY) + b"0\r\n", End.CLOSE),
    "chunked-inside-the-trailers": (answers.chunked_head(), chunk(BODY) + b"0\r\nX-Checksum: a", End.CLOSE),
    "close-delimited-reset": (answers.head(200, JSON), BODY[:HALF], End.RESET),
}


def with_a_gate(given: tuple[Step, ...]) -> tuple[Gate, Script]:
    """The script with a gate before its end, so that what was sent is read before the connection breaks."""
    gate = Gate()
    return gate, steps(*given[:-1], gate, given[-1])


@pytest.mark.parametrize("name", HALF_BODIES)
@BOTH_KINDS
def test_e02_half_a_body_never_looks_complete(ways: Ways, path: str, name: str) -> None:
    gate, script = with_a_gate(HALF_BODIES[name])
    ways.plays(script)
    with ways.connect() as connection:
        connection.send(ways.chat(path=path))
        (request,) = ways.provider.wait_for(ways.nonce)
        sent = len(HALF_BODIES[name]) - 1
        assert ways.provider.wait_until(lambda: len(request.sent) == sent)
        ways.settle()
        gate.open()
        try:
            answer = connection.read_answer("POST")
        except DroppedError:
            return
    if answer.status in GATEWAY_ERRORS:
        return
    assert answer.status == 200
    assert answer.ending is not Ending.WHOLE
    assert BODY.startswith(bytes(answer.body))


@pytest.mark.parametrize("name", HALF_BODIES)
@BOTH_KINDS
def test_e02_half_a_body_that_breaks_at_once_never_looks_complete(ways: Ways, path: str, name: str) -> None:
    ways.plays(steps(*HALF_BODIES[name]))
    answer = ask(ways, ways.chat(path=path))
    if answer is not None and answer.status not in GATEWAY_ERRORS:
        assert answer.ending is not Ending.WHOLE
        assert answer.framing is not Framing.CLOSE or answer.ending is Ending.RESET


BROKEN_STREAMS: dict[str, tuple[bytes, Step]] = {
    "chunked-reset": (answers.chunked_head(EVENTS), End.RESET),
    "chunked-close": (answers.chunked_head(EVENTS), End.CLOSE),
    "close-delimited-reset": (answers.head(200, EVENTS), End.RESET),
    "length-close": (answers.head(200, (*EVENTS, ("Content-Length", "100000"))), End.CLOSE),
}


@pytest.mark.parametrize("temperature", [0, 1])
@pytest.mark.parametrize("name", BROKEN_STREAMS)
@pytest.mark.parametrize("path", [CHAT, "/v1/threads/thread_1/runs"])
def test_e03_a_broken_stream_delivers_its_events_and_ends_abnormally(
    ways: Ways, path: str, name: str, temperature: int
) -> None:
    head, end = BROKEN_STREAMS[name]
    chunked = b"chunked" in head
    gate = Gate()
    ways.plays(steps(head, *(chunk(one) if chunked else one for one in STREAM[:3]), gate, end))
    with ways.connect() as connection:
        connection.send(ways.chat(path=path, stream=True, temperature=temperature))
        answer = connection.start_answer("POST")
        answer.read_size(sum(map(len, STREAM[:3])))
        gate.open()
        answer.finish()
    assert answer.status == 200
    assert bytes(answer.body) == b"".join(STREAM[:3])
    assert answer.ending in (Ending.TRUNCATED, Ending.RESET)
    assert answer.framing is not Framing.CLOSE or answer.ending is Ending.RESET


NOT_HTTP: dict[str, bytes] = {
    "ssh": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "binary": bytes(range(256)) + b"\r\n\r\n",
    "html": b"<html><body>hello</body></html>\r\n\r\n",
    "tls-alert": b"\x15\x03\x01\x00\x02\x02\x28",
    "no-status": b"HTTP/1.1\r\n\r\n",
    "status-not-a-number": b"HTTP/1.1 abc OK\r\n\r\n",
    "bad-length": b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n{}",
    "negative-length": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}",
    "two-lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
    "header-without-colon": b"HTTP/1.1 200 OK\r\nthis is not a header\r\n\r\n",
    "http-0.9": b'{"id":"chatcmpl-1"}\r\n',
    "http-2": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x80",
}


@pytest.mark.proxy_only
@pytest.mark.parametrize("then", ["close", "stay"])
@pytest.mark.parametrize("name", NOT_HTTP)
@BOTH_KINDS
def test_e04_bytes_that_are_not_http_give_502(ways: Ways, path: str, name: str, then: str) -> None:
    ways.plays(steps(NOT_HTTP[name], *([End.CLOSE] if then == "close" else [])))
    began = time.monotonic()
    answer = ask(ways, ways.chat(path=path))
    assert answer is None or answer.status == 502, answer
    assert time.monotonic() - began < 5
    ways.settle()
    assert len(ways.received()) == 1


@pytest.mark.proxy_only
@BOTH_KINDS
def test_e04_an_endless_head_is_not_swallowed(ways: Ways, path: str) -> None:
    ways.plays(steps(b"HTTP/1.1 200 OK\r\n", *[b"x-more: " + b"y" * 60_000 + b"\r\n"] * 100, Gate()))
    answer = ask(ways, ways.chat(path=path))
    assert answer is None or answer.status == 502


@pytest.mark.proxy_only
@pytest.mark.parametrize("bad", [b"zz\r\n", b"-1\r\n", b"5\r\nhelloXX5\r\n"])
@BOTH_KINDS
def test_e04_garbage_between_chunks_never_looks_complete(ways: Ways, path: str, bad: bytes) -> None:
    ways.plays(answers.chunked_head() + chunk(b'{"id":') + bad + b"\r\n0\r\n\r\n")
    answer = ask(ways, ways.chat(path=path))
    assert answer is None or answer.status == 502 or answer.ending is not Ending.WHOLE


def assert_openai_error(answer: RawAnswer | None) -> None:
    """The answer is an error as an OpenAI SDK can read it."""
    assert answer is not None
    assert str(answer.get("content-type")).startswith("application/json")
    error = json.loads(answer.body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str)
    assert error["message"]
    assert isinstance(error["type"], str)
    assert answer.framing is Framing.LENGTH
    assert answer.ending is Ending.WHOLE


@pytest.mark.proxy_only
@pytest.mark.parametrize("stream", [False, True])
@BOTH_KINDS
def test_e05_an_unreachable_provider_gives_an_openai_error(
    start_proxy: StartProxy, path: str, stream: bool, closed_port: int
) -> None:
    ways = start_proxy(upstream=f"http://127.0.0.1:{closed_port}")
    answer = ask(ways, ways.chat(path=path, stream=stream))
    assert_openai_error(answer)
    assert answer is not None
    assert answer.status == 502


@pytest.mark.proxy_only
@pytest.mark.parametrize("name", ["reset", "close"])
@BOTH_KINDS
def test_e05_a_provider_that_hangs_up_gives_an_openai_error(ways: Ways, path: str, name: str) -> None:
    ways.plays(SILENT_ENDS[name])
    answer = ask(ways, ways.chat(path=path))
    if answer is not None:
        assert_openai_error(answer)


@pytest.mark.proxy_only
@BOTH_KINDS
def test_e05_a_provider_that_speaks_gibberish_gives_an_openai_error(ways: Ways, path: str) -> None:
    ways.plays(steps(NOT_HTTP["ssh"], End.CLOSE))
    answer = ask(ways, ways.chat(path=path))
    if answer is not None:
        assert_openai_error(answer)


@pytest.mark.proxy_only
@pytest.mark.parametrize("line", [b"Content-Length: +4\r\n", b"X Bad: value\r\n"])
def test_e05_a_refused_request_gets_an_openai_error(ways: Ways, line: bytes) -> None:
    octets = f"POST {CHAT} HTTP/1.1\r\nHost: client.example\r\n".encode() + line + b"\r\n{}  "
    answer = raw_client.exchange(ways.proxy, octets)
    assert answer.status == 400
    assert_openai_error(answer)


FAILURES: dict[str, Script] = {
    "reset": SILENT_ENDS["reset"],
    "close": SILENT_ENDS["close"],
    "half-a-body": steps(*HALF_BODIES["length-close"]),
    "half-a-chunked-body": steps(*HALF_BODIES["chunked-reset"]),
    "not-http": steps(NOT_HTTP["ssh"], End.CLOSE),
    "half-a-stream": steps(answers.chunked_head(EVENTS), chunk(STREAM[0]), End.RESET),
    "more-than-was-promised": steps(answers.whole(b'{"a":1}') + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen"),
    "an-answer-too-early": steps(answers.whole(b'{"early":1}', status=413), End.CLOSE, wait_for_body=False),
}


@pytest.mark.proxy_only
@pytest.mark.parametrize("name", FAILURES)
@BOTH_KINDS
def test_e06_after_a_failure_the_connection_is_closed_or_in_step(ways: Ways, path: str, name: str) -> None:
    own = answers.whole(b'{"own":"answer"}')
    ways.plays(FAILURES[name], steps(own))
    octets = ways.chat(path=path, turn=1, headers=(("x-nonce", ways.nonce),))
    with ways.connect() as connection:
        send(connection, octets)
        following = send(connection, ways.chat(path=path, turn=2))
    if following is not None:
        assert (following.status, bytes(following.body)) == (200, b'{"own":"answer"}')
    again = ask(ways, ways.chat(path=path, turn=3))
    assert again is not None
    assert bytes(again.body) == b'{"own":"answer"}'


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("close", ["fin", "rst"])
@pytest.mark.parametrize("size", [50, 12_000_000], ids=["short", "12-megabytes"])
@BOTH_KINDS
def test_e07_a_vanished_upload_is_never_complete_upstream(
    ways: Ways, path: str, size: int, close: str, framing: str
) -> None:
    body = ways.chat_body(padding="x" * size)
    marked = (("x-nonce", ways.nonce), ("Content-Type", "application/json"))
    if framing == "chunked":
        octets = raw_client.request("POST", path, (*marked, ("Transfer-Encoding", "chunked")))
        octets += chunk(body[: len(body) // 2]) + chunk(body[len(body) // 2 :])
    else:
        octets = raw_client.request("POST", path, marked, body)[:-10]
    connection = ways.connect()
    connection.send(octets)
    ways.settle()
    if close == "rst":
        connection.reset()
    else:
        connection.close()
    ways.settle()
    assert ways.provider.wait_until(lambda: all(one.link.closed_at is not None for one in ways.received()), 3)
    assert not [request for request in ways.received() if request.complete]
