"""W1-W5: a WebSocket goes through as if there were no proxy."""

import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests import answers, websocket_frames
from tests.comparison import Ways, answer_fields, request_fields
from tests.raw_client import Address, Ending, Headers, RawAnswer, RawConnection
from tests.scripted_provider import Exchange, Gate, Received, Script, steps
from tests.websocket_frames import Frame, Opcode, closing, encode

REALTIME = "/v1/realtime?model=gpt-4o-realtime-preview"
PATHS = pytest.mark.parametrize("path", [REALTIME, "/openai/realtime?deployment=x&api-version=1", "/anything/ws"])
BOTH_CLOSES = pytest.mark.parametrize("close", ["fin", "rst"])
CREATED = Frame(Opcode.TEXT, b'{"type":"session.created","event_id":"event_1"}')
PROTOCOLS = "realtime, openai-insecure-api-key.sk-ephemeral-0123, openai-beta.realtime-v1"


def handshake(ways: Ways, path: str, headers: Headers = ()) -> bytes:
    """An opening handshake as a browser sends it."""
    upgrade: Headers = (
        ("Upgrade", "websocket"),
        ("Connection", "keep-alive, Upgrade"),
        ("Sec-WebSocket-Key", websocket_frames.KEY),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits"),
        ("Origin", "https://app.example"),
    )
    return ways.request("GET", path, (*upgrade, *headers))


def accepted(request: Received, extra: answers.Fields = ()) -> bytes:
    """The provider's consent."""
    fields: answers.Fields = (
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", websocket_frames.accept_for(request.values("sec-websocket-key")[0])),
        ("x-request-id", "req_ws"),
        *extra,
    )
    return answers.head(101, fields)


async def echo(exchange: Exchange) -> None:
    """Consent, speak first (in the same breath), then say everything back until a close, and close."""
    await exchange.send(accepted(exchange.request) + encode(CREATED))
    while True:
        frame = await websocket_frames.read_async(exchange.read)
        assert frame.masked
        said = Frame(
            Opcode.PONG if frame.opcode is Opcode.PING else frame.opcode, frame.payload, frame.final, frame.reserved
        )
        await exchange.send(encode(said))
        if frame.opcode is Opcode.CLOSE:
            exchange.close()
            return


ECHO = Script(play=echo)


@contextmanager
def opened(ways: Ways, path: str = REALTIME, headers: Headers = ()) -> Iterator[tuple[RawConnection, RawAnswer]]:
    """A WebSocket through the proxy, and the answer that opened it."""
    with ways.connect() as connection:
        connection.send(handshake(ways, path, headers))
        answer = connection.start_answer()
        assert answer.status == 101, answer.status_line
        yield connection, answer


def next_frame(connection: RawConnection) -> Frame:
    """The next frame the server sent."""
    return websocket_frames.read(connection.read_exactly)


@PATHS
def test_w01_messages_pass_both_ways(ways: Ways, path: str) -> None:
    ways.plays(ECHO)
    with opened(ways, path) as (connection, _):
        assert next_frame(connection) == CREATED
        for said in (
            Frame(Opcode.TEXT, "hällo 文".encode(), masked=True),
            Frame(Opcode.BINARY, bytes(range(256)), masked=True),
            Frame(Opcode.TEXT, b"", masked=True),
            Frame(Opcode.TEXT, b"x" * 200_000, masked=True),
            Frame(Opcode.BINARY, bytes(range(256)) * 800, masked=True),
            Frame(Opcode.TEXT, b"a part", final=False, masked=True),
            Frame(Opcode.CONTINUATION, b" and the rest", masked=True),
            Frame(Opcode.TEXT, b"\xf2\x48\xcd\xc9\xc9\x07\x00", reserved=4, masked=True),
        ):
            connection.send(encode(said))
            assert next_frame(connection) == Frame(said.opcode, said.payload, said.final, said.reserved)


def test_w01_pings_travel_to_the_other_end(ways: Ways) -> None:
    ways.plays(ECHO)
    with opened(ways) as (connection, _):
        assert next_frame(connection) == CREATED
        connection.send(encode(Frame(Opcode.PING, b"are you there", masked=True)))
        assert next_frame(connection) == Frame(Opcode.PONG, b"are you there")


def test_w01_a_message_sent_right_behind_the_handshake_arrives(ways: Ways) -> None:
    ways.plays(ECHO)
    with ways.connect() as connection:
        connection.send(handshake(ways, REALTIME) + encode(Frame(Opcode.TEXT, b"eager", masked=True)))
        assert connection.start_answer().status == 101
        assert next_frame(connection) == CREATED
        assert next_frame(connection) == Frame(Opcode.TEXT, b"eager")


def test_w01_a_quiet_connection_stays_open(ways: Ways) -> None:
    ways.plays(ECHO)
    with opened(ways) as (connection, _):
        assert next_frame(connection) == CREATED
        assert connection.ended(2.0) is None
        connection.send(encode(Frame(Opcode.TEXT, b"still here", masked=True)))
        assert next_frame(connection) == Frame(Opcode.TEXT, b"still here")


@PATHS
def test_w02_the_handshake_is_the_same_at_both_ends(ways: Ways, path: str) -> None:
    chosen: answers.Fields = (
        ("Sec-WebSocket-Protocol", "realtime"),
        ("Sec-WebSocket-Extensions", "permessage-deflate; server_no_context_takeover"),
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
    )

    async def choose(exchange: Exchange) -> None:
        await exchange.send(accepted(exchange.request, chosen))
        await Gate().passed()

    ways.plays(Script(play=choose))
    headers: Headers = (
        ("Sec-WebSocket-Protocol", PROTOCOLS),
        ("Authorization", "Bearer sk-realtime"),
        ("OpenAI-Beta", "realtime=v1"),
        ("User-Agent", "ws/8"),
    )
    straight, through = (shake(address, handshake(ways, path, headers)) for address in (ways.direct, ways.proxy))
    assert answer_fields(through) == answer_fields(straight)
    for answer in (straight, through):
        assert answer.get("sec-websocket-protocol") == "realtime"
        assert answer.get("sec-websocket-accept") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        assert str(answer.get("upgrade")).lower() == "websocket"
    one, other = ways.received()
    assert other.target == one.target
    assert request_fields(other) == request_fields(one)
    assert [value.lower() for value in other.values("upgrade")] == [b"websocket"]
    assert b"upgrade" in b",".join(other.values("connection")).lower()
    assert other.values("sec-websocket-protocol") == [PROTOCOLS.encode()]


def shake(address: Address, octets: bytes) -> RawAnswer:
    """The answer to a handshake."""
    with RawConnection(address) as connection:
        connection.send(octets)
        return connection.start_answer()


@pytest.mark.parametrize(("code", "reason"), [(4001, "bye"), (1000, ""), (1011, "späť"), (3000, "x" * 123)])
def test_w03_the_providers_close_code_and_reason_reach_the_client(ways: Ways, code: int, reason: str) -> None:
    async def say_goodbye(exchange: Exchange) -> None:
        await exchange.send(accepted(exchange.request) + encode(closing(code, reason)))
        frame = await websocket_frames.read_async(exchange.read)
        assert frame.opcode is Opcode.CLOSE
        exchange.close()

    ways.plays(Script(play=say_goodbye))
    with opened(ways) as (connection, _):
        assert next_frame(connection).payload == struct.pack("!H", code) + reason.encode()
        connection.send(encode(closing(code, reason, masked=True)))
        assert connection.ended(3) is not None


@pytest.mark.parametrize(("code", "reason"), [(4002, "enough"), (1000, ""), (1001, "away")])
def test_w03_the_clients_close_code_and_reason_reach_the_provider(ways: Ways, code: int, reason: str) -> None:
    heard: list[Frame] = []
    told = Gate()

    async def listen(exchange: Exchange) -> None:
        await exchange.send(accepted(exchange.request))
        heard.append(await websocket_frames.read_async(exchange.read))
        told.open()
        await exchange.send(encode(Frame(Opcode.CLOSE, heard[0].payload)))
        exchange.close()

    ways.plays(Script(play=listen))
    with opened(ways) as (connection, _):
        connection.send(encode(closing(code, reason, masked=True)))
        assert next_frame(connection).payload == struct.pack("!H", code) + reason.encode()
        assert connection.ended(3) is not None
    assert heard == [closing(code, reason, masked=True)]


@pytest.mark.parametrize("how", ["close", "reset"])
def test_w03_a_provider_that_vanishes_ends_the_clients_connection(ways: Ways, how: str) -> None:
    go = Gate()

    async def vanish(exchange: Exchange) -> None:
        await exchange.send(accepted(exchange.request))
        await go.passed()
        if how == "reset":
            exchange.reset()
        else:
            exchange.close()

    ways.plays(Script(play=vanish))
    with opened(ways) as (connection, _):
        assert connection.ended(0.1) is None
        go.open()
        assert connection.ended(2) in (Ending.TRUNCATED, Ending.RESET)


@pytest.mark.timed
@BOTH_CLOSES
def test_w04_a_client_that_vanishes_is_noticed_upstream(ways: Ways, close: str) -> None:
    ways.plays(ECHO)
    with opened(ways) as (connection, _):
        assert next_frame(connection) == CREATED
        (request,) = ways.received()
        left = time.monotonic()
        if close == "rst":
            connection.reset()
        else:
            connection.close()
        assert ways.provider.wait_until(lambda: request.link.closed_at is not None, 3), "the provider never saw it"
        assert request.link.closed_at is not None
        assert request.link.closed_at - left <= 1.0


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 200])
@PATHS
def test_w05_a_refused_handshake_comes_back_as_it_is(ways: Ways, path: str, status: int) -> None:
    body = b'{"error":{"message":"Incorrect API key provided","type":"invalid_request_error","code":"%d"}}' % status
    fields: answers.Fields = (*answers.JSON, ("WWW-Authenticate", "Bearer"), ("x-request-id", "req_refused"))
    for framed in (answers.whole(body, fields, status=status), answers.chunked(body, fields, status=status)):
        ways.plays(steps(framed))
        straight, through = (shake_whole(address, handshake(ways, path)) for address in (ways.direct, ways.proxy))
        assert answer_fields(through) == answer_fields(straight)
        assert (through.status, bytes(through.body), through.ending) == (status, body, Ending.WHOLE)
    assert len(ways.received()) == 4


def shake_whole(address: Address, octets: bytes) -> RawAnswer:
    """The whole answer to a handshake that is refused."""
    with RawConnection(address) as connection:
        connection.send(octets)
        return connection.read_answer()
