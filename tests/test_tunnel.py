"""WebSockets under strain: a side that does not read holds the other back, and nothing stays behind."""

import asyncio
import hashlib

import pytest

from proxy.headers import Fields
from proxy.http.tunnel import Opened, Tunnel
from proxy.providers.upstream import Upstream
from proxy.settings import UpstreamSettings
from tests import websocket_frames
from tests.comparison import Ways
from tests.contract.test_w_websocket import CREATED, ECHO, accepted, next_frame, opened
from tests.scripted_provider import Exchange, Gate, Script, ScriptedProvider
from tests.websocket_frames import Frame, Opcode, encode

PIECE = bytes(range(256)) * 256
PIECES = 480
"""30 MiB in all: more than every buffer on the way together."""

MAX_GROWTH_BYTES = 24 * 1024 * 1024


async def pour(exchange: Exchange) -> None:
    """Consent, then say more than anybody can hold, and close."""
    await exchange.send(accepted(exchange.request))
    for _ in range(PIECES):
        await exchange.send(encode(Frame(Opcode.BINARY, PIECE)))
    await exchange.send(encode(Frame(Opcode.CLOSE, b"")))
    exchange.close()


@pytest.mark.proxy_only
def test_a_client_that_does_not_read_holds_the_provider_back_and_loses_nothing(ways: Ways) -> None:
    ways.plays(Script(play=pour))
    assert ways.process is not None
    before = ways.process.resident_bytes()
    with opened(ways) as (connection, _):
        ways.settle()
        assert ways.process.resident_bytes() - before < MAX_GROWTH_BYTES
        for _ in range(PIECES):
            assert next_frame(connection).payload == PIECE
        assert next_frame(connection).opcode is Opcode.CLOSE


@pytest.mark.proxy_only
def test_a_provider_that_does_not_read_holds_the_client_back_and_loses_nothing(ways: Ways) -> None:
    gate = Gate()
    seen = hashlib.sha256()

    async def take_late(exchange: Exchange) -> None:
        await exchange.send(accepted(exchange.request) + encode(CREATED))
        await gate.passed()
        for _ in range(PIECES):
            seen.update((await websocket_frames.read_async(exchange.read)).payload)
        await exchange.send(encode(Frame(Opcode.TEXT, seen.hexdigest().encode())))

    ways.plays(Script(play=take_late))
    assert ways.process is not None
    before = ways.process.resident_bytes()
    with opened(ways) as (connection, _):
        assert next_frame(connection) == CREATED
        octets = encode(Frame(Opcode.BINARY, PIECE, masked=True))
        for number in range(PIECES):
            if number == PIECES // 4:
                # A quarter is on its way or waits; from here on the provider reads.
                ways.settle()
                assert ways.process.resident_bytes() - before < MAX_GROWTH_BYTES
                gate.open()
            connection.send(octets)
        assert next_frame(connection).payload == hashlib.sha256(PIECE * PIECES).hexdigest().encode()


def test_a_tunnel_that_is_over_leaves_no_connection_in_use(fresh_provider: ScriptedProvider) -> None:
    class Side:
        """A client that only listens."""

        transport: asyncio.Transport | None = None

        def __init__(self) -> None:
            self.heard = b""

        def send(self, octets: bytes) -> None:
            """Listen."""
            self.heard += octets

        async def drained(self) -> None:
            """Always quick."""

    async def play() -> tuple[str, str, bytes]:
        upstream = Upstream(UpstreamSettings(url=fresh_provider.origin))
        tunnel, side = Tunnel(upstream), Side()
        shake = (
            (b"Host", b"x"),
            (b"Connection", b"Upgrade"),
            (b"Upgrade", b"websocket"),
            (b"Sec-WebSocket-Key", websocket_frames.KEY.encode()),
            (b"Sec-WebSocket-Version", b"13"),
        )
        assert isinstance(await tunnel.open(b"GET", b"/v1/realtime", Fields(shake)), Opened)
        during = repr(upstream)
        from_client = tunnel.from_client(side)
        from_client.feed_data(encode(Frame(Opcode.CLOSE, b"", masked=True)))
        await asyncio.wait_for(tunnel.run(side, b"101"), 5)
        await upstream.close()
        return during, repr(upstream), side.heard

    fresh_provider.on("/v1/realtime", ECHO)
    during, after, heard = asyncio.run(play())
    assert heard.startswith(b"101" + encode(CREATED))
    assert "0 in use" in during
    assert "0 in use" in after
