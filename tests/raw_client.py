"""An HTTP client that sends exactly the bytes it is given and reports exactly what came back, and when."""

import contextlib
import hashlib
import select
import socket
import ssl
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import TypeAlias

Address: TypeAlias = tuple[str, int]
Headers: TypeAlias = Sequence[tuple[str | bytes, str | bytes]]

NO_BODY = frozenset({204, 304})


class Framing(StrEnum):
    """How an answer said where its body ends."""

    NONE = "none"
    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"


class Ending(StrEnum):
    """How an answer ended: as its framing promised, too early by FIN, or by RST."""

    WHOLE = "whole"
    TRUNCATED = "truncated"
    RESET = "reset"


class DroppedError(ConnectionError):
    """The connection ended before there was an answer."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A piece of the body and the moment it was read."""

    at: float
    data: bytes


def request(
    method: str,
    target: str | bytes,
    headers: Headers = (),
    body: bytes | None = None,
    *,
    version: str = "HTTP/1.1",
    host: bytes = b"client.example",
) -> bytes:
    """The bytes of a request: Host, then *headers* as given, then Content-Length where there is a *body*."""
    lines = [b" ".join((method.encode(), _octets(target), version.encode())), b"Host: " + host]
    lines += [_octets(name) + b": " + _octets(value) for name, value in headers]
    if body is not None:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + (body or b"")


@dataclass(slots=True)
class RawAnswer:
    """An answer as it came; still growing until `finish` has returned."""

    status_line: bytes
    header_lines: list[bytes]
    head_at: float
    framing: Framing
    interim: list[bytes]
    pieces: Iterator[Arrival]
    keep: bool = True
    body: bytearray = field(default_factory=bytearray)
    size: int = 0
    body_hash: str = ""
    arrivals: list[Arrival] = field(default_factory=list)
    trailers: list[bytes] = field(default_factory=list)
    ending: Ending | None = None

    @property
    def status(self) -> int:
        """The status code."""
        return int(self.status_line.split(b" ", 2)[1])

    @property
    def reason(self) -> bytes:
        """The reason phrase, empty where there is none."""
        return self.status_line.partition(b" ")[2].partition(b" ")[2]

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Names and values in order; only the blanks around a value are gone."""
        parted = (line.partition(b":") for line in self.header_lines)
        return [(name, value.strip(b" \t")) for name, _, value in parted]

    def values(self, name: str) -> list[bytes]:
        """Every value of the header *name*."""
        wanted = name.lower().encode()
        return [value for given, value in self.headers if given.lower() == wanted]

    def get(self, name: str) -> str | None:
        """The value of the header *name* where it came once, None where it did not come."""
        found = self.values(name)
        assert len(found) < 2, f"{name} came {len(found)} times: {found}"
        return found[0].decode("latin-1") if found else None

    def read_until(self, mark: bytes) -> None:
        """Read until the body holds *mark*."""
        while mark not in self.body:
            assert self._read_piece(), f"{mark!r} never came; {self.ending}, body ends {bytes(self.body[-200:])!r}"

    def read_size(self, count: int) -> None:
        """Read until the body has at least *count* bytes."""
        while self.size < count:
            assert self._read_piece(), f"{count} bytes never came; {self.ending} after {self.size}"

    def finish(self) -> "RawAnswer":
        """Read to the end, whatever kind of end it is."""
        digest = hashlib.sha256(self.body)
        while (piece := self._read_piece()) is not None:
            digest.update(piece.data)
        self.body_hash = digest.hexdigest()
        return self

    def _read_piece(self) -> Arrival | None:
        piece = next(self.pieces, None)
        if piece is not None:
            self.size += len(piece.data)
            if self.keep:
                self.body += piece.data
                self.arrivals.append(piece)
        return piece


class RawConnection:
    """One TCP connection to a server, of which every byte is ours to choose."""

    def __init__(
        self,
        address: Address,
        *,
        timeout_s: float = 10.0,
        receive_buffer: int | None = None,
        tls: ssl.SSLContext | None = None,
        server_name: str | None = None,
    ) -> None:
        plain = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        plain.settimeout(timeout_s)
        if receive_buffer is not None:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        plain.connect(address)
        self._socket = tls.wrap_socket(plain, server_hostname=server_name) if tls else plain
        self._buffer = bytearray()
        self._read_at = 0.0
        self._end: Ending | None = None
        self.read_pause_s = 0.0

    def __enter__(self) -> "RawConnection":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def fileno(self) -> int:
        """For selectors."""
        return self._socket.fileno()

    def send(self, data: bytes) -> None:
        """Send all of *data*."""
        self._socket.sendall(data)

    def finish_sending(self) -> None:
        """Close our half of the connection."""
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close by FIN."""
        self._socket.close()

    def reset(self) -> None:
        """Close by RST."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def start_answer(self, method: str = "GET", *, keep: bool = True) -> RawAnswer:
        """The next answer with its head read; `DroppedError` where the connection ends first."""
        interim: list[bytes] = []
        while True:
            octets = self.read_head()
            status_line, *lines = octets[:-4].split(b"\r\n")
            status = int(status_line.split(b" ", 2)[1])
            if not 100 <= status < 200 or status == 101:
                break
            interim.append(octets)
        answer = RawAnswer(status_line, lines, self._read_at, Framing.NONE, interim, iter(()), keep=keep)
        if method == "HEAD" or status in NO_BODY or status == 101:
            answer.ending = Ending.WHOLE
            return answer
        if [value.lower() for value in answer.values("transfer-encoding")] == [b"chunked"]:
            answer.framing, answer.pieces = Framing.CHUNKED, self._chunks(answer)
        elif lengths := answer.values("content-length"):
            assert len(set(lengths)) == 1, f"several lengths: {lengths}"
            answer.framing, answer.pieces = Framing.LENGTH, self._span(answer, int(lengths[0]), last=True)
        else:
            answer.framing, answer.pieces = Framing.CLOSE, self._rest(answer)
        return answer

    def read_answer(self, method: str = "GET", *, keep: bool = True) -> RawAnswer:
        """The next answer, read to its end."""
        return self.start_answer(method, keep=keep).finish()

    def read_head(self) -> bytes:
        """The next head, interim or final, with its empty line."""
        while (found := self._buffer.find(b"\r\n\r\n")) < 0:
            if not self._fill():
                raise DroppedError(f"{self._end} after {bytes(self._buffer[:200])!r}")
        return self._take(found + 4)

    def read_exactly(self, count: int) -> bytes:
        """The next *count* bytes, whatever they are."""
        while len(self._buffer) < count:
            if not self._fill():
                raise DroppedError(f"{self._end} after {bytes(self._buffer[:200])!r}")
        return self._take(count)

    def wait_readable(self, timeout_s: float) -> bool:
        """Whether something (an end, too) is there to read within *timeout_s*."""
        if self._buffer:
            return True
        return bool(select.select([self._socket], [], [], timeout_s)[0])

    def read_to_end(self) -> bytes:
        """Everything until the connection ends."""
        while self._fill():
            pass
        return self._take(len(self._buffer))

    def ended(self, timeout_s: float = 1.0) -> Ending | None:
        """How the server ended the connection within *timeout_s*, or None while it is open or still sends."""
        if self._end is None and not self._buffer and self.wait_readable(timeout_s):
            self._fill()
        return self._end

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def _fill(self) -> bool:
        if self._end is not None:
            return False
        if self.read_pause_s:
            time.sleep(self.read_pause_s)
        try:
            data = self._socket.recv(1 << 16)
        except ConnectionResetError:
            self._end = Ending.RESET
            return False
        self._read_at = time.monotonic()
        if not data:
            self._end = Ending.TRUNCATED
            return False
        self._buffer += data
        return True

    def _span(self, answer: RawAnswer, count: int, *, last: bool) -> Iterator[Arrival]:
        while count:
            if not self._buffer and not self._fill():
                answer.ending = self._end
                return
            data = self._take(min(count, len(self._buffer)))
            count -= len(data)
            yield Arrival(self._read_at, data)
        if last:
            answer.ending = Ending.WHOLE

    def _rest(self, answer: RawAnswer) -> Iterator[Arrival]:
        while self._buffer or self._fill():
            yield Arrival(self._read_at, self._take(len(self._buffer)))
        answer.ending = Ending.RESET if self._end is Ending.RESET else Ending.WHOLE

    def _chunks(self, answer: RawAnswer) -> Iterator[Arrival]:
        while True:
            line = self._line()
            if line is None:
                break
            size = int(line.partition(b";")[0], 16)
            if size == 0:
                while line := self._line():
                    answer.trailers.append(line)
                if line is not None:
                    answer.ending = Ending.WHOLE
                    return
                break
            yield from self._span(answer, size, last=False)
            if answer.ending is not None:
                return
            end = self._line()
            if end is None:
                break
            assert end == b"", f"a chunk does not end where it said: {end[:80]!r}"
        answer.ending = self._end

    def _line(self) -> bytes | None:
        while (found := self._buffer.find(b"\r\n")) < 0:
            if not self._fill():
                return None
        return self._take(found + 2)[:-2]


def exchange(address: Address, octets: bytes, *, keep: bool = True, timeout_s: float = 10.0) -> RawAnswer:
    """Send *octets* on a connection of its own and read one answer to its end."""
    with RawConnection(address, timeout_s=timeout_s) as connection:
        # An answer may come, and the connection end, before everything is sent.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.send(octets)
        return connection.read_answer(method_of(octets), keep=keep)


def method_of(octets: bytes) -> str:
    """The method of a spelled-out request."""
    return octets.split(b" ", 1)[0].decode("latin-1")


def _octets(text: str | bytes) -> bytes:
    return text.encode("latin-1") if isinstance(text, str) else text
