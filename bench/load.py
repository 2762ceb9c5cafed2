"""The client of the benches: one bounded job in its own process, read as JSON from standard input, told as JSON.

It sends the next request on a connection when the answer to the last is whole, never earlier.
"""

import asyncio
import dataclasses
import json
import random
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import uvloop

from bench import wire
from bench.wire import Ask

TIME_LIMIT_S = 60.0

_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
_SENT = re.compile(rb"fp_([0-9a-f]{16})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """So many requests over so many connections, spread over *ports* in turn."""

    ports: Sequence[int]
    ask: Ask
    requests: int
    connections: int
    first: int
    """The number that the first request carries where its template has a place for one."""


@dataclass(slots=True, kw_only=True)
class Result:
    """What a job came to."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    """What the client itself took."""
    seconds: list[list[float]] = field(default_factory=list)
    """For each port, from request to whole answer; only for jobs with one connection for each port."""
    events: int = 0
    merged: int = 0
    """Events that came in one read with the one before."""
    lags_s: list[float] = field(default_factory=list)
    """From the provider's write to the client's read, for each event."""


def run(job: Job) -> Result:
    """Do *job* in a process of its own.

    Raises:
        RuntimeError: an answer was not as expected, or the job took too long.
    """
    command = [sys.executable, "-m", "bench.load"]
    try:
        done = subprocess.run(
            command, input=json.dumps(dataclasses.asdict(job)), capture_output=True, text=True, timeout=TIME_LIMIT_S
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"the load took more than {TIME_LIMIT_S:g} s") from error
    if done.returncode != 0:
        raise RuntimeError(f"the load failed: {done.stderr.strip()[-2000:]}")
    return Result(**json.loads(done.stdout))


class Client(asyncio.Protocol):
    """One connection that tells each answer when it is whole."""

    def __init__(self, result: Result, *, paced: bool) -> None:
        self._result = result
        self._paced = paced
        self._got = bytearray()
        self._whole_at = 0
        """Octets at which the answer is whole; 0 while the head is not there, -1 where its end tells."""
        self._seen = 0
        self._transport: asyncio.Transport | None = None
        self._answered: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        # uvloop's transports are no subclass of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self._fail(f"the connection closed after {bytes(self._got[:200])!r}")

    def ask(self, request: bytes) -> asyncio.Future[None]:
        """Send *request*; what is returned is done when the answer is whole."""
        self._got.clear()
        self._whole_at = self._seen = 0
        self._answered = answered = asyncio.get_running_loop().create_future()
        if self._transport is not None:
            self._transport.write(request)
        return answered

    def close(self) -> None:
        """End the connection."""
        self._answered = None
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        got = self._got
        got += data
        if not self._whole_at and not self._head():
            return
        if self._paced:
            self._note_events()
        whole = got.endswith(b"\r\n" + wire.STREAM_END) if self._whole_at < 0 else len(got) >= self._whole_at
        if whole and self._answered is not None and not self._answered.done():
            self._answered.set_result(None)

    def _head(self) -> bool:
        got = self._got
        end = got.find(b"\r\n\r\n")
        if end < 0:
            return False
        if not got.startswith(b"HTTP/1.1 200"):
            self._fail(f"not a 200: {bytes(got[:200])!r}")
        length = _LENGTH.search(got, 0, end + 2)
        self._whole_at = end + 4 + int(length.group(1)) if length else -1
        return True

    def _note_events(self) -> None:
        now = time.monotonic_ns()
        count = 0
        for found in _SENT.finditer(self._got, self._seen):
            self._seen = found.end()
            self._result.lags_s.append((now - int(found.group(1), 16)) / 1e9)
            count += 1
        self._result.events += count
        self._result.merged += max(0, count - 1)

    def _fail(self, told: str) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(RuntimeError(told))


async def _work(job: Job, result: Result) -> None:
    loop = asyncio.get_running_loop()
    pieces = job.ask.template().split(wire.NONCE)
    paced = job.ask.answer == "paced"
    clients: list[Client] = []
    for number in range(job.connections * len(job.ports)):
        port = job.ports[number % len(job.ports)]
        _, client = await loop.create_connection(lambda: Client(result, paced=paced), "127.0.0.1", port)
        clients.append(client)
    numbers = iter(range(job.first, job.first + job.requests))
    start = time.perf_counter()
    if job.connections == 1:
        result.seconds = [[] for _ in job.ports]
        turns = list(zip(clients, result.seconds, strict=True))
        shuffled = random.Random(0)
        for number in numbers:
            # One after the other, so that what disturbs the machine disturbs every port alike; and in no fixed order,
            # because what a server does after its answer disturbs the next.
            shuffled.shuffle(turns)
            for client, seconds in turns:
                sent = time.perf_counter()
                await client.ask((b"%016x" % number).join(pieces))
                seconds.append(time.perf_counter() - sent)
    else:

        async def keep_asking(client: Client) -> None:
            for number in numbers:
                await client.ask((b"%016x" % number).join(pieces))

        await asyncio.gather(*(keep_asking(client) for client in clients))
    result.wall_s = time.perf_counter() - start
    for client in clients:
        client.close()


def _main() -> None:
    given = json.load(sys.stdin)
    job = Job(**{**given, "ask": Ask(**given["ask"])})
    result = Result()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_work(job, result))
    result.cpu_s = time.process_time()
    json.dump(dataclasses.asdict(result), sys.stdout)


if __name__ == "__main__":
    _main()
