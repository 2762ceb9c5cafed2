"""What the processes of one host tell one another of prompts that went to replicas: datagrams, any may be lost.

Each knows at first only what it sent itself; of four it would know a quarter, and choose little better than by chance.
"""

import asyncio
import secrets
import socket
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from proxy.prefix.chain import DIGEST_OCTETS, Chain
from proxy.prefix.replicas import Load
from proxy.values import value

MAX_BLOCKS = 4096
"""Of a longer prompt (4 MB) only the beginning is told."""

MAX_AT_ONCE = 64
"""Datagrams that are read before others get their turn."""

MAX_REMEMBERED = 4096
"""Prompts of which was heard that they were sent, and not yet that their answers began."""

_NUMBER = struct.Struct("<Q")
"""A prompt whose answer began."""

_HEAD = struct.Struct("<QHBIdI")
"""A prompt, which upstream, which of its replicas, tokens to compute, tokens a second, blocks."""

MAX_OCTETS = _HEAD.size + MAX_BLOCKS * (DIGEST_OCTETS + 8)

Sent = Callable[[int, Chain, Load], Load]
"""Another process sent a prompt to the replica of this number, which means this for it; and in this process that."""

Answered = Callable[[int, Load], None]
"""The replica of this number no longer computes that."""


@value
class Line:
    """Where one process hears, and where the others do. Neither ever waits."""

    ear: socket.socket
    others: tuple[socket.socket, ...]


@contextmanager
def lines(count: int) -> Iterator[list[Line]]:
    """Lines between *count* processes that are to be forked; what nobody reads is bounded by the sockets' buffers."""
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(count)]
    for pair in pairs:
        for end in pair:
            end.setblocking(False)
    try:
        yield [
            Line(ear=ear, others=tuple([mouth for other, (_, mouth) in enumerate(pairs) if other != number]))
            for number, (ear, _) in enumerate(pairs)
        ]
    finally:
        for pair in pairs:
            for end in pair:
                end.close()


class Hearsay:
    """One process's part in it; nothing is told or heard before it is open, nor where there are no others."""

    def __init__(self) -> None:
        self._line: Line | None = None
        self._hearers: list[tuple[Sent, Answered]] = []
        self._next = secrets.randbits(62)
        """The number of the next prompt: no two processes use the same."""
        self._computing: OrderedDict[int, tuple[int, int, Load]] = OrderedDict()
        self.lost = 0
        """Datagrams that another process had no room for."""

    def __repr__(self) -> str:
        return f"<Hearsay between {1 + len(self._line.others) if self._line else 1}, {self.lost} lost>"

    def join(self, sent: Sent, answered: Answered) -> int:
        """Have these called with what others tell under the number that is returned; all join in the same order."""
        self._hearers.append((sent, answered))
        return len(self._hearers) - 1

    def tell_sent(self, upstream: int, replica: int, chain: Chain, load: Load) -> int:
        """Tell the others that *replica* of *upstream* got the prompt *chain*; under which number they know it."""
        self._next += 1
        if self._line is None:
            return self._next
        count = min(len(chain.digests), MAX_BLOCKS)
        told = b"".join(
            [
                _HEAD.pack(self._next, upstream, replica, load.fresh, load.speed, count),
                *chain.digests[:count],
                struct.pack(f"<{count}Q", *chain.ends[:count]),
            ]
        )
        self._tell(self._line, told)
        return self._next

    def tell_answered(self, prompt: int) -> None:
        """Tell the others that the prompt of this number is no longer computed."""
        if self._line is not None:
            self._tell(self._line, _NUMBER.pack(prompt))

    def _tell(self, line: Line, told: bytes) -> None:
        for other in line.others:
            try:
                other.send(told)
            except OSError:
                # It is busy, or gone. What it does not hear costs it a worse choice.
                self.lost += 1

    def open(self, line: Line) -> None:
        """Tell and hear over *line* from now on, on this loop."""
        # What a process whose place this one takes did not hear any more is over.
        with suppress(OSError):
            while line.ear.recv(MAX_OCTETS):
                pass
        self._line = line
        asyncio.get_running_loop().add_reader(line.ear, self._hear)

    def close(self) -> None:
        """Tell and hear no more."""
        if self._line is not None:
            asyncio.get_running_loop().remove_reader(self._line.ear)
            self._line = None

    def _hear(self) -> None:
        if self._line is None:
            return
        for _ in range(MAX_AT_ONCE):
            try:
                told = self._line.ear.recv(MAX_OCTETS)
            except OSError:
                return
            if len(told) == _NUMBER.size:
                self._hear_answered(*_NUMBER.unpack(told))
                continue
            prompt, upstream, replica, fresh, speed, count = _HEAD.unpack_from(told)
            ends = struct.unpack_from(f"<{count}Q", told, _HEAD.size + count * DIGEST_OCTETS)
            starts = range(_HEAD.size, _HEAD.size + count * DIGEST_OCTETS, DIGEST_OCTETS)
            digests = tuple([told[start : start + DIGEST_OCTETS] for start in starts])
            chain, load = Chain(digests=digests, ends=ends, bounds=()), Load(fresh=fresh, speed=speed)
            self._computing[prompt] = upstream, replica, self._hearers[upstream][0](replica, chain, load)
            if len(self._computing) > MAX_REMEMBERED:
                self._computing.popitem(last=False)

    def _hear_answered(self, prompt: int) -> None:
        known = self._computing.pop(prompt, None)
        if known is not None:
            upstream, replica, load = known
            self._hearers[upstream][1](replica, load)
