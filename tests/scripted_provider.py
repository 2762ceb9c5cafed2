"""A provider that plays what a test tells it, on raw sockets, and remembers every byte it received.

It runs on a loop and a thread of its own; a test speaks to it by plain calls. Started as a program
(`python -m tests.scripted_provider --port 9001`) it is a friendly provider for demonstrations.
"""

import argparse
import asyncio
import contextlib
import hashlib
import itertools
import signal
import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import TypeAlias

from tests import answers

READ_AHEAD = 1 << 20


class Framing(StrEnum):
    """How a request said where its body ends."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    CONFLICTING = "conflicting"


class Ending(StrEnum):
    """How a connection ended, as the provider saw it."""

    EOF = "eof"
    RESET = "reset"
    OURS = "ours"


class End(StrEnum):
    """A step of a script that ends the connection: in order, by RST, or without a word in between."""

    CLOSE = "close"
    RESET = "reset"


@dataclass(frozen=True, slots=True)
class Pause:
    """A step of a script that lets time pass."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Generate:
    """A step of a script that sends many pieces without ever holding them all."""

    piece: Callable[[int], bytes]
    times: int


@dataclass(frozen=True, slots=True)
class LastWords:
    """A step of a script that sends its octets and the end of the connection in one packet."""

    octets: bytes


class Gate:
    """A step of a script that waits until the test calls `open`."""

    def __init__(self) -> None:
        self._opened = threading.Event()
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
        self._lock = threading.Lock()

    def open(self) -> None:
        """Let every script pass, those that wait and those that come later."""
        with self._lock:
            self._opened.set()
            for loop, event in self._waiting:
                loop.call_soon_threadsafe(event.set)

    async def passed(self) -> None:
        """Return once the gate is open."""
        event = asyncio.Event()
        with self._lock:
            if self._opened.is_set():
                return
            self._waiting.append((asyncio.get_running_loop(), event))
        await event.wait()


Step: TypeAlias = bytes | Pause | Gate | Generate | LastWords | End
Play: TypeAlias = "Callable[[Exchange], Awaitable[None]]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What the provider does with one request, and when it begins to."""

    play: Play
    wait_for_body: bool = True
    keep_body: bool = True
    offers_continue: bool = True


def steps(*given: Step, wait_for_body: bool = True, keep_body: bool = True) -> Script:
    """A script that plays *given* in order."""

    async def play(exchange: "Exchange") -> None:
        for step in given:
            match step:
                case bytes():
                    await exchange.send(step)
                case Pause(seconds):
                    await asyncio.sleep(seconds)
                case Gate():
                    await step.passed()
                case Generate(piece, times):
                    for number in range(times):
                        await exchange.send(piece(number))
                case LastWords(octets):
                    exchange.close_with(octets)
                case End.CLOSE:
                    exchange.close()
                case End.RESET:
                    exchange.reset()

    return Script(play=play, wait_for_body=wait_for_body, keep_body=keep_body)


def spaced(pieces: Iterable[bytes], seconds: float, *, before: bytes = b"", after: bytes = b"") -> Script:
    """A script that sends *before*, then each piece followed by a pause, then *after*."""
    paced: list[Step] = [step for piece in pieces for step in (piece, Pause(seconds))]
    return steps(before, *paced, after)


@dataclass(slots=True)
class Link:
    """One connection the provider accepted."""

    number: int
    opened_at: float
    closed_at: float | None = None
    ending: Ending | None = None
    received: int = 0
    server_name: str | None = None


@dataclass(slots=True)
class Received:
    """One request as it arrived, byte for byte."""

    number: int
    link: Link
    head: bytes
    arrived_at: float
    raw_body: bytearray = field(default_factory=bytearray)
    body: bytearray = field(default_factory=bytearray)
    body_size: int = 0
    body_hash: str | None = None
    trailers: list[bytes] = field(default_factory=list)
    pieces: list[tuple[float, int]] = field(default_factory=list)
    sent: list[tuple[float, int]] = field(default_factory=list)
    complete: bool = False
    malformed: str | None = None

    @property
    def request_line(self) -> bytes:
        """The first line, without its line end."""
        return self.head.split(b"\r\n", 1)[0]

    @property
    def method(self) -> str:
        """The first word of the request line."""
        return self.request_line.split(b" ", 1)[0].decode("latin-1")

    @property
    def target(self) -> bytes:
        """What stands between the method and the version, untouched."""
        return self.request_line.partition(b" ")[2].rpartition(b" ")[0]

    @property
    def version(self) -> bytes:
        """The last word of the request line."""
        return self.request_line.rpartition(b" ")[2]

    @property
    def header_lines(self) -> list[bytes]:
        """The header lines as they came."""
        return [line for line in self.head.split(b"\r\n")[1:] if line]

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Names and values in order; only the blanks around a value are gone."""
        parted = (line.partition(b":") for line in self.header_lines)
        return [(name, value.strip(b" \t")) for name, _, value in parted]

    def values(self, name: str) -> list[bytes]:
        """Every value of the header *name*."""
        wanted = name.lower().encode()
        return [value for given, value in self.headers if given.lower() == wanted]

    @property
    def framing(self) -> Framing:
        """Which of the two framing headers came."""
        coded, measured = self.values("transfer-encoding"), self.values("content-length")
        if (coded and measured) or len(measured) > 1 or len(coded) > 1:
            return Framing.CONFLICTING
        if coded:
            return Framing.CHUNKED
        return Framing.LENGTH if measured else Framing.NONE

    def mentions(self, nonce: bytes) -> bool:
        """Whether *nonce* occurs anywhere in it."""
        return nonce in self.head or nonce in self.body


class Exchange:
    """One request being answered: what a script's `play` works with."""

    def __init__(self, conversation: "_Conversation", request: Received) -> None:
        self.request = request
        self.ended = False
        self._conversation = conversation

    async def send(self, data: bytes) -> None:
        """Hand *data* to the kernel; returns when the kernel has taken all of it."""
        if self.ended or not data:
            return
        await self._conversation.write(data)
        self.request.sent.append((time.monotonic(), len(data)))
        self._conversation.changed()

    async def read(self, count: int) -> bytes:
        """Exactly *count* of the bytes that follow the request."""
        return await self._conversation.take(count)

    async def body(self) -> bytes:
        """The whole request body, once it is there."""
        await self._conversation.body_read
        return bytes(self.request.body)

    def close(self) -> None:
        """End the connection in order."""
        self.ended = True
        self._conversation.close()

    def close_with(self, octets: bytes) -> None:
        """Send *octets* and the end of the connection in one packet."""
        self.ended = True
        self._conversation.close_with(octets)

    def reset(self) -> None:
        """End the connection by RST."""
        self.ended = True
        self._conversation.reset()


class ScriptedProvider:
    """A provider on 127.0.0.1: scripts in, records out.

    A script is registered for a text that occurs in the request (a path, a header value, a word of the
    body). A request that no script is meant for gets the friendly answer.
    """

    def __init__(
        self, *, tls: ssl.SSLContext | None = None, remember: int | None = None, latency_s: float = 0.0
    ) -> None:
        self.latency_s = latency_s
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="scripted-provider", daemon=True)
        self._condition = threading.Condition()
        self._scripts: dict[bytes, deque[Script]] = {}
        self._requests: deque[Received] = deque(maxlen=remember)
        self._links: deque[Link] = deque(maxlen=remember)
        self._numbers = itertools.count(1)
        self._conversations: set[_Conversation] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    def __repr__(self) -> str:
        return f"<ScriptedProvider 127.0.0.1:{self.port}, {len(self._requests)} requests>"

    def __enter__(self) -> "ScriptedProvider":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return ("127.0.0.1", self.port)

    @property
    def origin(self) -> str:
        """The address as an origin; by name where TLS needs one."""
        return f"https://localhost:{self.port}" if self._tls else f"http://127.0.0.1:{self.port}"

    def start(self, port: int = 0) -> None:
        """Listen; returns when it does."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(port), self._loop).result(10)

    def stop(self) -> None:
        """Stop listening, drop every connection, end the thread; more than once is fine."""
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._shut(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def on(self, text: str | bytes, *scripts: Script) -> None:
        """Play *scripts* for requests that mention *text*, one each; the last one for all that follow."""
        key = text.encode("latin-1") if isinstance(text, str) else text
        with self._condition:
            self._scripts[key] = deque(scripts)

    def requests(self, text: str | bytes = b"") -> list[Received]:
        """What arrived so far and mentions *text*, in order of arrival."""
        wanted = text.encode("latin-1") if isinstance(text, str) else text
        with self._condition:
            known = list(self._requests)
        return [request for request in known if request.mentions(wanted)]

    def links(self) -> list[Link]:
        """Every connection so far."""
        with self._condition:
            return list(self._links)

    def open_links(self) -> int:
        """How many connections are open now."""
        return sum(link.closed_at is None for link in self.links())

    def forget(self, text: str | bytes) -> None:
        """Drop the script for *text* and the records that mention it."""
        wanted = text.encode("latin-1") if isinstance(text, str) else text
        with self._condition:
            self._scripts.pop(wanted, None)
            kept = [request for request in self._requests if not request.mentions(wanted)]
            self._requests.clear()
            self._requests.extend(kept)

    def wait_until(self, holds: Callable[[], bool], timeout_s: float = 5.0) -> bool:
        """Whether *holds* came true within *timeout_s*; looked at whenever anything happens here."""
        deadline = time.monotonic() + timeout_s
        with self._condition:
            while not holds():
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    return False
                self._condition.wait(remaining)
        return True

    def wait_for(self, text: str | bytes, *, count: int = 1, timeout_s: float = 5.0) -> list[Received]:
        """The requests that mention *text* once there are *count* of them; fails after *timeout_s*."""
        arrived = self.wait_until(lambda: len(self.requests(text)) >= count, timeout_s)
        found = self.requests(text)
        assert arrived, f"{count} requests with {text!r} expected within {timeout_s} s, {len(found)} arrived"
        return found

    def drop_idle_links(self, timeout_s: float = 3.0) -> bool:
        """Close every connection, as a provider does with idle ones; whether the peers noticed and closed, too."""

        async def drop() -> None:
            for conversation in tuple(self._conversations):
                conversation.finish_sending()

        asyncio.run_coroutine_threadsafe(drop(), self._loop).result(10)
        return self.wait_until(lambda: self.open_links() == 0, timeout_s)

    async def _listen(self, port: int) -> None:
        if self._tls is not None:
            self._tls.sni_callback = self._note_server_name
        self._server = await self._loop.create_server(
            lambda: _Conversation(self), "127.0.0.1", port, backlog=4096, ssl=self._tls
        )
        self.port = self._server.sockets[0].getsockname()[1]

    def _note_server_name(self, sock: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        self.last_server_name = name

    last_server_name: str | None = None

    async def _shut(self) -> None:
        if self._server is not None:
            self._server.close()
        for conversation in tuple(self._conversations):
            conversation.reset()
        for _ in range(200):
            if not self._conversations:
                return
            await asyncio.sleep(0.01)

    def changed(self) -> None:
        """Wake everybody who waits for something to happen."""
        with self._condition:
            self._condition.notify_all()

    def connected(self, conversation: "_Conversation") -> Link:
        """Enter a new connection into the records."""
        link = Link(next(self._numbers), time.monotonic(), server_name=self.last_server_name)
        with self._condition:
            self._conversations.add(conversation)
            self._links.append(link)
        return link

    def disconnected(self, conversation: "_Conversation") -> None:
        """The connection is gone for good."""
        self._conversations.discard(conversation)
        self.changed()

    def arrived(self, link: Link, head: bytes) -> Received:
        """Enter a request into the records; its body is still to come."""
        request = Received(next(self._numbers), link, head, time.monotonic())
        with self._condition:
            self._requests.append(request)
            self._condition.notify_all()
        return request

    def script_for(self, octets: bytes | bytearray) -> Script | None:
        """The script whose text occurs in *octets*, the longest text first; takes its turn."""
        with self._condition:
            texts = sorted((text for text in self._scripts if text in octets), key=len, reverse=True)
            if not texts:
                return None
            queue = self._scripts[texts[0]]
            return queue.popleft() if len(queue) > 1 else queue[0]


class _Conversation(asyncio.Protocol):
    """One accepted connection: bytes in, requests into the records, answers out, one after the other."""

    body_read: "asyncio.Task[None]"

    def __init__(self, provider: ScriptedProvider) -> None:
        self._provider = provider
        self._buffer = bytearray()
        self._news = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._paused = False
        self._over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to converse."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._tls = transport.get_extra_info("ssl_object") is not None
        if not self._tls:
            # Nothing waits in user space: what `write` returned from has left the process.
            # (With a limit of zero the TLS transport of asyncio pauses writing and never resumes it.)
            transport.set_write_buffer_limits(0)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.link = self._provider.connected(self)
        self._task = asyncio.get_running_loop().create_task(self._converse())

    def data_received(self, data: bytes) -> None:
        """Keep what came for whoever reads next."""
        self._buffer += data
        self.link.received += len(data)
        if len(self._buffer) > READ_AHEAD and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._news.set()
        self.changed()

    def eof_received(self) -> bool:
        """The peer said it will send no more; answers may still go out."""
        self._note_end(Ending.EOF)
        self._over = True
        self._news.set()
        return not self._tls

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing goes either way any more."""
        self._note_end(Ending.RESET if isinstance(exc, ConnectionError) else Ending.OURS)
        self._over = True
        self._task.cancel()
        self._provider.disconnected(self)

    def pause_writing(self) -> None:
        """The kernel takes no more for now."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """The kernel has taken everything."""
        self._writable.set()

    def changed(self) -> None:
        """Wake the test."""
        self._provider.changed()

    async def write(self, data: bytes) -> None:
        """Send *data*; returns when the kernel has all of it."""
        self._transport.write(data)
        await self._writable.wait()

    def close(self) -> None:
        """End in order."""
        self._note_end(Ending.OURS)
        self._transport.close()

    def close_with(self, data: bytes) -> None:
        """Send *data* and end in order; nobody can act between the two."""
        self._transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        self._transport.write(data)
        self.close()

    def finish_sending(self) -> None:
        """Send no more; the peer's answer to that is still heard."""
        if not self._transport.is_closing():
            self._transport.write_eof()

    def reset(self) -> None:
        """End by RST."""
        self._note_end(Ending.OURS)
        plain = self._transport.get_extra_info("socket")
        with contextlib.suppress(OSError):
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    async def take(self, count: int) -> bytes:
        """Exactly *count* bytes, or EOFError."""
        while len(self._buffer) < count:
            await self._more()
        taken = bytes(self._buffer[:count])
        self._consume(count)
        return taken

    def _note_end(self, ending: Ending) -> None:
        if self.link.closed_at is None:
            self.link.closed_at, self.link.ending = time.monotonic(), ending
        self.changed()

    async def _more(self) -> None:
        if self._over:
            raise EOFError
        self._news.clear()
        await self._news.wait()

    def _consume(self, count: int) -> None:
        del self._buffer[:count]
        if self._paused and len(self._buffer) <= READ_AHEAD:
            self._paused = False
            self._transport.resume_reading()

    async def _take_until(self, mark: bytes) -> bytes:
        while (found := self._buffer.find(mark)) < 0:
            await self._more()
        return await self.take(found + len(mark))

    async def _converse(self) -> None:
        try:
            while not self._transport.is_closing():
                while self._buffer.startswith(b"\r\n"):
                    self._consume(2)
                await self._answer(self._provider.arrived(self.link, await self._take_until(b"\r\n\r\n")))
        except EOFError:
            pass
        finally:
            self._transport.close()

    async def _answer(self, request: Received) -> None:
        script = self._provider.script_for(request.head)
        keep = script is None or script.keep_body
        if request.values("expect") and (script is None or script.offers_continue):
            await self.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.body_read = asyncio.get_running_loop().create_task(self._read_body(request, keep=keep))
        exchange = Exchange(self, request)
        try:
            if script is None or script.wait_for_body:
                await self.body_read
            if request.malformed is not None:
                await self.write(answers.whole(b'{"error":"malformed"}', status=400))
                self.close()
                return
            if script is None:
                script = self._provider.script_for(request.body) or Script(play=self._be_friendly)
            await script.play(exchange)
            await self.body_read
        finally:
            self.body_read.cancel()
            with contextlib.suppress(asyncio.CancelledError, EOFError):
                await self.body_read
        if request.values("connection") == [b"close"] or request.version == b"HTTP/1.0":
            self.close()

    async def _be_friendly(self, exchange: Exchange) -> None:
        request = exchange.request
        said = answers.friendly(request.number, request.method, request.target.decode("latin-1"), bytes(request.body))
        await asyncio.sleep(self._provider.latency_s)
        if said.whole_body is not None:
            answer = answers.whole(said.whole_body, said.fields)
            await exchange.send(answers.head(200, _length(said)) if request.method == "HEAD" else answer)
        elif request.version == b"HTTP/1.0":
            await exchange.send(answers.until_close(b"".join(said.events), said.fields))
        else:
            await exchange.send(answers.chunked_head(said.fields))
            for event in said.events:
                await exchange.send(answers.chunk(event))
                await asyncio.sleep(self._provider.latency_s / 10)
            await exchange.send(answers.LAST_CHUNK)

    async def _read_body(self, request: Received, *, keep: bool) -> None:
        digest = hashlib.sha256()
        try:
            match request.framing:
                case Framing.NONE:
                    pass
                case Framing.LENGTH:
                    await self._read_span(request, int(request.values("content-length")[0]), digest.update, keep=keep)
                case Framing.CHUNKED:
                    await self._read_chunks(request, digest.update, keep=keep)
                case Framing.CONFLICTING:
                    request.malformed = "both framings, or one of them twice"
        except ValueError as error:
            request.malformed = str(error)
        request.body_hash = digest.hexdigest()
        request.complete = request.malformed is None
        self.changed()

    async def _read_span(self, request: Received, count: int, update: Callable[[bytes], None], *, keep: bool) -> None:
        if count < 0:
            raise ValueError(f"a body of {count} bytes")
        while count > 0:
            while not self._buffer:
                await self._more()
            piece = await self.take(min(count, len(self._buffer)))
            count -= len(piece)
            update(piece)
            request.body_size += len(piece)
            request.pieces.append((time.monotonic(), len(piece)))
            if keep:
                request.body += piece
                request.raw_body += piece
            self.changed()

    async def _read_chunks(self, request: Received, update: Callable[[bytes], None], *, keep: bool) -> None:
        while True:
            line = await self._take_until(b"\r\n")
            request.raw_body += line
            size = int(line.partition(b";")[0].strip(), 16)
            if size == 0:
                break
            await self._read_span(request, size, update, keep=keep)
            end = await self.take(2)
            request.raw_body += end
            if end != b"\r\n":
                raise ValueError(f"a chunk ends in {end!r}")
        while (line := await self._take_until(b"\r\n")) != b"\r\n":
            request.raw_body += line
            request.trailers.append(line.rstrip(b"\r\n"))
        request.raw_body += line


def _length(said: answers.Friendly) -> answers.Fields:
    return (*said.fields, ("Content-Length", str(len(said.whole_body or b""))))


def main() -> None:
    """Be a friendly provider until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m tests.scripted_provider", description=main.__doc__)
    parser.add_argument("--port", type=int, default=0, help="where to listen on 127.0.0.1 (default: a free port)")
    parser.add_argument("--latency-ms", type=float, default=0.0, help="how long to think before an answer")
    chosen = parser.parse_args()
    awaited = {signal.SIGTERM, signal.SIGINT}
    # Before the thread starts, so that it inherits the mask and the signal stays for sigwait.
    signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    provider = ScriptedProvider(remember=100, latency_s=chosen.latency_ms / 1000)
    provider.start(chosen.port)
    print(f"scripted provider listening on {provider.origin}", flush=True)
    signal.sigwait(awaited)
    provider.stop()


if __name__ == "__main__":
    main()
