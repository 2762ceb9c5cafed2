"""WebSockets as octets: the handshake is forwarded, then both directions are passed on unread.

A WebSocket library in between would drop ``permessage-deflate``, close reasons and refused handshakes.
"""

import asyncio
from dataclasses import dataclass
from typing import Protocol

from proxy import headers
from proxy.headers import Fields
from proxy.providers.fleet import Fleet
from proxy.providers.provider import Answer, Connection
from proxy.providers.upstream import Upstream

UPGRADE = (b"connection", b"upgrade")
"""Hop-by-hop fields that the handshake is made of, and that are therefore forwarded with it."""

MAX_WAITING_BYTES = 1024 * 1024


class Client(Protocol):
    """The client's side of a tunnel."""

    transport: asyncio.Transport | None

    def send(self, octets: bytes) -> None:
        """Write to the client."""
        ...

    async def drained(self) -> None:
        """Wait while the client is slow."""
        ...


@dataclass(frozen=True, slots=True)
class Opened:
    """The provider switched protocols; *head* is its 101 for the client."""

    head: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """The provider answered with something else."""

    answer: Answer


class _Provider:
    """The provider's side after the switch: what it sends waits here until the client takes it."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        self.waiting = bytearray()
        self.ended = False
        self.connection: Connection | None = None

    def feed_data(self, octets: bytes) -> tuple[bool, bytes]:
        self.waiting += octets
        if len(self.waiting) > MAX_WAITING_BYTES and self.connection is not None and self.connection.transport:
            self.connection.transport.pause_reading()
        self.arrived.set()
        return False, b""

    def feed_eof(self) -> None:
        self.ended = True
        self.arrived.set()


class _FromClient:
    """The client's side after the switch: everything goes straight to the provider."""

    def __init__(self, provider: Connection, client: Client) -> None:
        self._provider = provider
        self._client = client
        self._resuming: asyncio.Task[None] | None = None

    def feed_data(self, octets: bytes) -> tuple[bool, bytes]:
        transport = self._provider.transport
        if transport is None:
            return True, b""
        transport.write(octets)
        if self._provider.writing_paused and self._resuming is None and self._client.transport is not None:
            self._client.transport.pause_reading()
            self._resuming = asyncio.get_running_loop().create_task(self._resume(), name="tunnel resume")
        return False, b""

    async def _resume(self) -> None:
        try:
            await self._provider._drain_helper()
        except ConnectionError:
            return
        finally:
            self._resuming = None
        if self._client.transport is not None:
            self._client.transport.resume_reading()

    def feed_eof(self) -> None:
        self._provider.abort()


class Tunnel:
    """One WebSocket through the proxy."""

    def __init__(self, upstream: Upstream | Fleet) -> None:
        self._upstream = upstream
        self._provider = _Provider()
        self._connection: Connection | None = None

    async def open(self, method: bytes, target: bytes, fields: Fields) -> Opened | Refused:
        """Forward the handshake.

        Raises:
            UpstreamError: the provider could not be asked.
        """
        answer = await self._upstream.ask(method, target, fields, None, keep=UPGRADE)
        if answer.status != 101:
            return Refused(answer)
        self._connection = self._provider.connection = answer.take_over(self._provider)
        line = b"HTTP/1.1 101 " + answer.phrase
        return Opened(headers.head(line, answer.fields.raw))

    def from_client(self, client: Client) -> _FromClient:
        """Where the client's octets go from now on."""
        if self._connection is None:
            raise RuntimeError("the tunnel is not open")
        return _FromClient(self._connection, client)

    async def run(self, client: Client, head: bytes) -> None:
        """Send *head* and pass on what the provider sends until it ends; then the client's side ends too."""
        provider, connection = self._provider, self._connection
        if connection is None:
            raise RuntimeError("the tunnel is not open")
        try:
            client.send(head)
            while True:
                await provider.arrived.wait()
                provider.arrived.clear()
                octets = bytes(provider.waiting)
                provider.waiting.clear()
                if octets:
                    client.send(octets)
                    await client.drained()
                if connection.transport is not None:
                    connection.transport.resume_reading()
                if provider.ended and not provider.waiting:
                    return
        finally:
            connection.abort()
