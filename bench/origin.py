"""The provider of the benches: a server in its own process that gives prepared answers as fast as it can.

Prints its port on a line of its own, and ends when its standard input does.
"""

import asyncio
import sys
import time
from typing import cast

import uvloop

from bench import wire

_LENGTH = b"content-length:"


class Origin:
    """What every connection of the server needs."""

    def __init__(self) -> None:
        self.whole = wire.whole_answer()
        self.stream = wire.short_stream()
        self.stream_head = wire.stream_head()
        self.stream_tail = wire.stream_tail()
        self.asked = 0
        """Answers given so far: what the cache in between did not answer."""

    def connection(self) -> "Connection":
        """A protocol for one more connection."""
        return Connection(self, asyncio.get_running_loop())


class Connection(asyncio.Protocol):
    """One connection: requests with a Content-Length, one after the other."""

    def __init__(self, origin: Origin, loop: asyncio.AbstractEventLoop) -> None:
        self._origin = origin
        self._loop = loop
        self._waiting = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        # uvloop's transports are no subclass of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self._transport = None

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        self._waiting += data
        end = self._waiting.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._waiting[: end + 2].lower()
        at = head.find(_LENGTH)
        length = int(head[at + len(_LENGTH) : head.index(b"\r", at)]) if at >= 0 else 0
        if len(self._waiting) < end + 4 + length:
            return
        self._waiting = self._waiting[end + 4 + length :]
        self._answer(head)

    def _answer(self, head: bytes) -> None:
        origin, transport = self._origin, self._transport
        if transport is None:
            return
        if head.startswith(b"get /asked "):
            told = b"%d" % origin.asked
            transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(told), told))
            return
        origin.asked += 1
        if b"x-bench-answer: stream\r\n" in head:
            transport.write(origin.stream)
        elif b"x-bench-answer: paced\r\n" in head:
            transport.write(origin.stream_head)
            self._loop.call_later(wire.GAP_S, self._next_event, wire.LONG_STREAM_EVENTS)
        else:
            transport.write(origin.whole)

    def _next_event(self, left: int) -> None:
        transport = self._transport
        if transport is None:
            return
        if left:
            transport.write(wire.event(time.monotonic_ns()))
            self._loop.call_later(wire.GAP_S, self._next_event, left - 1)
        else:
            transport.write(self._origin.stream_tail)


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    origin = Origin()
    server = await loop.create_server(origin.connection, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.buffer.read)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve())
