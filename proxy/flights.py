"""One fetch, many readers: a flight belongs to nobody who asked, so nobody who leaves can break it for the others."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass

from proxy.accounts.usage import Usage
from proxy.errors import UpstreamError
from proxy.headers import Fields
from proxy.model import Finding
from proxy.ports import Sink
from proxy.providers.provider import Incoming
from proxy.semantic.recall import Recalled
from proxy.tasks import Tasks
from proxy.values import value

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a provider's answer."""

    status: int
    phrase: bytes
    fields: Fields


class Lagged(Exception):
    """This reader fell too far behind the others and can no longer be given the whole answer."""


class Abandoned(Exception):
    """Every reader left before the end."""


@value
class Landing:
    """A flight that is over: what arrived, and how it ended."""

    head: Head | None
    body: bytes | None
    """The whole body, or what every reader left behind; None where it was too large to record or broke off."""
    bytes_in: int
    marks: tuple[tuple[int, float], ...]
    """(octets so far, a moment in seconds) at the end of each chunk; empty unless the flight was *timed*."""
    error: Exception | None
    head_s: float
    """Seconds from take-off to the head."""
    total_s: float
    usage: Usage | None = None
    """What the provider billed, where that was asked for on our own account and is not in *body*."""


class _Reader:
    """One reader's place in the log."""

    __slots__ = ("at", "cut", "fault", "seen_bytes", "sink", "slow", "wake")

    def __init__(self) -> None:
        self.at = 0
        self.seen_bytes = 0
        self.cut = False
        self.slow = False
        self.fault: ConnectionError | None = None
        self.sink: Sink | None = None
        """Set while this reader has all there is: what comes next goes straight to its client."""
        self.wake: asyncio.Future[None] | None = None


class Flight:
    """One request on its way, with a log of what has come back so far.

    The log is kept whole while it may still be recorded, so whoever joins late gets what has passed and then follows
    live. The fetch waits for its fastest reader only; a reader that falls behind that one by more than *max_lag* is cut
    off rather than waited for, and from then on counts as gone.
    """

    def __init__(
        self,
        ask: Callable[[], Awaitable[Incoming]],
        *,
        request_fields: Fields,
        max_record_bytes: int,
        max_lead_bytes: int,
        max_lag_bytes: int,
        finish_abandoned: bool,
        timed: bool = False,
        recall: Callable[[], Awaitable[Recalled | None]] | None = None,
    ) -> None:
        self._ask = ask
        self._recall = recall
        self.request_fields = request_fields
        """The header fields that were sent: an answer that varies by them is only for those who sent the same."""
        self._max_record = max_record_bytes
        self._max_lead = max_lead_bytes
        self._max_lag = max_lag_bytes
        self._finish_abandoned = finish_abandoned
        self._timed = timed
        self._loop = asyncio.get_running_loop()
        self._head: Head | None = None
        self.recalled: Recalled | None = None
        """The answer to another question, which made the fetch needless."""
        self._await_head: list[asyncio.Future[None]] = []
        self._chunks: list[bytes] = []
        self._trimmed = 0
        self._marks: list[tuple[int, float]] = []
        self._bytes = 0
        self._recording = True
        self._over = False
        self._error: Exception | None = None
        self._begun = False
        self._doomed = False
        self._found: Finding | None = None
        self._awaiting: list[Callable[[Finding], None]] = []
        self._readers: set[_Reader] = set()
        self._moved: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        state = "landed" if self._over else "airborne"
        return f"<Flight {state}, {self._trimmed + len(self._chunks)} chunks, {len(self._readers)} readers>"

    @property
    def joinable(self) -> bool:
        """Whether a newcomer can still be given everything from the start."""
        return self._trimmed == 0 and self._error is None and not self._doomed

    def board(self) -> "Seat":
        """Take part as a reader. The seat must be left again."""
        reader = _Reader()
        self._readers.add(reader)
        return Seat(self, reader)

    def take_off(self, tasks: Tasks, landed: Callable[[Landing], Awaitable[None]]) -> None:
        """Begin the fetch; *landed* is told once, when it is over, after every reader could see the end."""
        self._task = tasks.start(self._fly(landed), name="flight")

    async def _fly(self, landed: Callable[[Landing], Awaitable[None]]) -> None:
        start = time.perf_counter()
        head_s = 0.0
        head: Head | None = None
        error: Exception | None = None
        usage: Usage | None = None
        self._begun = True
        try:
            if self._doomed:
                raise Abandoned("every reader left")
            self.recalled = await self._recall() if self._recall is not None else None
            if self.recalled is None:
                start = time.perf_counter()
                answer = await self._ask()
                async with answer:
                    head = Head(answer.status, answer.phrase, answer.fields)
                    head_s = time.perf_counter() - start
                    self._arrived(head)
                    while not await answer.flow(self._append):
                        if not self._readers:
                            raise Abandoned("every reader left, and the answer is too large to keep")
                        await self._fastest_reader()
                    usage = answer.usage
        except (UpstreamError, Abandoned) as fault:
            error = fault
        except asyncio.CancelledError:
            error = Abandoned("every reader left")
        except Exception as fault:
            # The readers must hear of it whatever it is; the pass turns it into an answer.
            log.exception("a flight failed")
            error = fault
        self._land(error)
        # The readers go first: nobody should wait for an answer to be examined and put away.
        await asyncio.sleep(0)
        await landed(
            Landing(
                head=head,
                body=b"".join(self._chunks)
                if self._recording and (error is None or isinstance(error, Abandoned))
                else None,
                bytes_in=self._bytes,
                marks=tuple(self._marks),
                error=error,
                head_s=head_s,
                total_s=time.perf_counter() - start,
                usage=usage,
            )
        )

    def _arrived(self, head: Head) -> None:
        self._head = head
        self._tell_of_head()

    def _tell_of_head(self) -> None:
        for waiter in self._await_head:
            if not waiter.done():
                waiter.set_result(None)
        self._await_head.clear()

    def _append(self, chunk: bytes) -> bool:
        """One more piece of the body; False where the fetch should wait for its readers, or has none."""
        self._chunks.append(chunk)
        self._bytes += len(chunk)
        if self._recording:
            if self._timed:
                self._marks.append((self._bytes, time.perf_counter()))
            if self._bytes > self._max_record:
                self._recording = False
                self._marks.clear()
        if not self._recording:
            self._trim()
        for reader in self._readers:
            if reader.sink is not None:
                _push(reader, reader.sink, chunk)
        return self._lead() <= self._max_lead if self._readers else self._recording

    def _lead(self) -> int:
        return self._bytes - max(reader.seen_bytes for reader in self._readers)

    async def _fastest_reader(self) -> None:
        """Wait until the fastest reader has caught up to half the lead, or everybody has left."""
        while self._readers and self._lead() > self._max_lead // 2:
            self._moved = self._loop.create_future()
            await self._moved

    def _trim(self) -> None:
        """Drop what every reader has seen, and the readers that hold too much back."""
        fastest = max((reader.seen_bytes for reader in self._readers), default=0)
        for reader in [reader for reader in self._readers if fastest - reader.seen_bytes > self._max_lag]:
            # It can never have the whole answer: nobody waits for it or flies on for it.
            reader.cut = True
            self._readers.discard(reader)
            _wake(reader)
        slowest = min((reader.at for reader in self._readers), default=self._trimmed + len(self._chunks))
        if slowest > self._trimmed:
            del self._chunks[: slowest - self._trimmed]
            self._trimmed = slowest

    def _land(self, error: Exception | None) -> None:
        self._over = True
        self._error = error
        self._tell_of_head()
        for reader in self._readers:
            _wake(reader)

    def leave(self, reader: _Reader) -> None:
        """A reader goes. The last takes an unfinished flight with it, unless that is finished for the record."""
        self._readers.discard(reader)
        self._nudge()
        if self._readers or self._over or self._task is None or (self._finish_abandoned and self._recording):
            return
        self._doomed = True
        # A task that is cancelled before its first step never runs, and its landing would never be told.
        if self._begun:
            self._task.cancel()

    def examined(self, found: Finding) -> None:
        """What the landed answer turned out to be."""
        self._found = found
        for tell in self._awaiting:
            tell(found)
        self._awaiting.clear()

    def when_examined(self, tell: Callable[[Finding], None]) -> None:
        """Call *tell* with what the answer turned out to be: now where that is known, else when it is."""
        if self._found is not None:
            tell(self._found)
        else:
            self._awaiting.append(tell)

    def _nudge(self) -> None:
        if self._moved is not None and not self._moved.done():
            self._moved.set_result(None)

    async def head(self) -> Head | Recalled:
        """The head, when it is there, or what makes it needless. Raises what kept it from coming."""
        if self._head is None and not self._over:
            waiter = self._loop.create_future()
            self._await_head.append(waiter)
            await waiter
        if self.recalled is not None:
            return self.recalled
        if self._head is None:
            raise self._error or Abandoned("no answer")
        return self._head

    async def pour(self, reader: _Reader, sink: Sink) -> None:
        """Send everything from the first octet on; what is already there goes in one piece, the rest as it comes.

        Raises:
            UpstreamError: the provider's answer broke off.
            Lagged: this reader was too slow.
            ConnectionError: its client has left.
        """
        while True:
            if reader.cut:
                raise Lagged("too far behind the other readers")
            if reader.fault is not None:
                raise reader.fault
            if reader.slow:
                reader.slow = False
                await sink.drained()
                continue
            waiting = self._chunks[reader.at - self._trimmed :]
            if waiting:
                reader.at += len(waiting)
                piece = waiting[0] if len(waiting) == 1 else b"".join(waiting)
                if not sink.write(piece):
                    await sink.drained()
                # Seen only when the client has taken it: until then it counts as this reader's lag.
                reader.seen_bytes += len(piece)
                self._nudge()
            elif self._over:
                if self._error is not None:
                    raise self._error
                return
            else:
                # From here on the fetch itself writes to the client, until it is slow or the answer is over.
                sink.flush()
                reader.wake = self._loop.create_future()
                reader.sink = sink
                try:
                    await reader.wake
                finally:
                    reader.sink = None


class Seat:
    """One reader's part in a flight, and for its client the body of the answer."""

    __slots__ = ("_flight", "_reader")

    def __init__(self, flight: Flight, reader: _Reader) -> None:
        self._flight = flight
        self._reader = reader

    @property
    def poured_bytes(self) -> int:
        """How much of the answer has gone out to this reader."""
        return self._reader.seen_bytes

    async def head(self) -> Head | Recalled:
        """See :meth:`Flight.head`."""
        return await self._flight.head()

    async def pour(self, sink: Sink) -> None:
        """See :meth:`Flight.pour`."""
        await self._flight.pour(self._reader, sink)

    def leave(self) -> None:
        """Give the seat back; more than once is fine."""
        self._flight.leave(self._reader)


def _wake(reader: _Reader) -> None:
    if reader.wake is not None and not reader.wake.done():
        reader.wake.set_result(None)


def _push(reader: _Reader, sink: Sink, chunk: bytes) -> None:
    """Write to a client that has everything so far, without waking its task."""
    try:
        easy = sink.write(chunk)
    except ConnectionError as error:
        reader.fault = error
    else:
        reader.at += 1
        reader.seen_bytes += len(chunk)
        if easy:
            return
        reader.slow = True
    reader.sink = None
    _wake(reader)


class Airspace:
    """The flights that a newcomer may join, by what they fetch and in which form."""

    def __init__(self) -> None:
        self._aloft: dict[Hashable, Flight] = {}

    def __len__(self) -> int:
        return len(self._aloft)

    def __repr__(self) -> str:
        return f"<Airspace, {len(self._aloft)} aloft>"

    def find(self, course: Hashable) -> Flight | None:
        """The flight on *course*, if one can still be joined from the start."""
        flight = self._aloft.get(course)
        return flight if flight is not None and flight.joinable else None

    def enter(self, course: Hashable, flight: Flight) -> None:
        """Let others join *flight*; one that is already on this course keeps it while it can be joined."""
        if self.find(course) is None:
            self._aloft[course] = flight

    def exit(self, course: Hashable, flight: Flight) -> None:
        """*flight* can no longer be joined."""
        if self._aloft.get(course) is flight:
            del self._aloft[course]
