"""Flights: one fetch, many readers, and nobody who joins, stalls or leaves spoils it for another."""

import asyncio
import functools
import gc
import logging
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import ParamSpec

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import Broke, Unreachable
from proxy.flights import Abandoned, Airspace, Flight, Head, Lagged, Landing
from proxy.headers import Fields
from proxy.model import Finding
from proxy.providers.provider import Answer, Take
from proxy.tasks import Tasks

P = ParamSpec("P")

PATIENCE_S = 5.0
"""Nothing here takes time; what is not there after this long never comes."""

HEAD_FIELDS = Fields(((b"Content-Type", b"text/event-stream"),))


def on_a_loop(test: Callable[P, Coroutine[object, object, None]]) -> Callable[P, None]:
    """A synchronous test that runs *test* on a loop of its own, with a bound on every wait in it."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), PATIENCE_S))

    return run


async def quiet() -> None:
    """Return when every task that could go on has gone on."""
    for _ in range(30):
        await asyncio.sleep(0)


class Octets(bytes):
    """Octets that know how many of their kind are still held by somebody."""

    held = 0

    def __init__(self, _: bytes) -> None:
        Octets.held += len(self)

    def __del__(self) -> None:
        Octets.held -= len(self)


class Wire(Answer):
    """A provider's answer that comes when the test says so."""

    # The real one is made of a connection; this one replaces all that is done with it.
    def __init__(self, *, head_at_once: bool = True) -> None:
        self.status, self.phrase, self.fields = 200, b"OK", HEAD_FIELDS
        self.asked = 0
        self.passed_on = 0
        self.let_go = asyncio.Event()
        self._head: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._coming: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
        if head_at_once:
            self._head.set_result(None)

    async def ask(self) -> Answer:
        """What the flight is given to ask the provider with."""
        self.asked += 1
        try:
            await self._head
        except BaseException:
            self.let_go.set()
            raise
        return self

    def answer(self) -> None:
        """The head arrives."""
        self._head.set_result(None)

    def refuse(self, error: Exception) -> None:
        """No head arrives."""
        self._head.set_exception(error)

    def send(self, *pieces: bytes) -> None:
        """More of the body arrives."""
        for piece in pieces:
            # Nothing is not a piece: it would mean the end.
            if piece:
                self._coming.put_nowait(piece)

    def end(self, error: Exception | None = None) -> None:
        """The body ends, whole or by *error*."""
        self._coming.put_nowait(error)

    async def flow(self, take: Take) -> bool:
        """The body as the flight sees it."""
        while (piece := await self._coming.get()) is not None:
            if isinstance(piece, Exception):
                raise piece
            self.passed_on += len(piece)
            if not take(piece):
                return False
        return True

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.let_go.set()


class Client:
    """A reader that takes a piece when it is let, and remembers what it saw."""

    def __init__(self, flight: Flight, *, patient: bool = False) -> None:
        self.seat = flight.board()
        self.pieces: list[bytes] = []
        self.end: Exception | None = None
        self.stayed = False
        self._patient = patient
        self._may_go_on = asyncio.Semaphore(0)
        self._task = asyncio.get_running_loop().create_task(self._read())

    @property
    def got(self) -> bytes:
        """Everything it was given so far."""
        return b"".join(self.pieces)

    def let(self, pieces: int = 1 << 30) -> None:
        """Let it take *pieces* more."""
        for _ in range(min(pieces, 1000)):
            self._may_go_on.release()

    async def leave(self) -> None:
        """Hang up."""
        self._task.cancel()
        await asyncio.wait([self._task])
        # Where it never began to read.
        self.seat.leave()

    async def finish(self) -> "Client":
        """Read to the end."""
        self.let()
        await asyncio.wait_for(asyncio.shield(self._task), PATIENCE_S)
        return self

    def write(self, octets: bytes) -> bool:
        """Take a piece, as the sink that the seat pours into."""
        # A copy, so that the octets themselves are held by nobody but the flight.
        self.pieces.append(bytes(bytearray(octets)))
        return not self._patient

    def flush(self) -> None:
        """Nothing is held back here."""

    async def drained(self) -> None:
        """Wait to be let."""
        await self._may_go_on.acquire()

    async def _read(self) -> None:
        try:
            await self.seat.head()
            await self.seat.pour(self)
            self.stayed = True
        except (Lagged, Abandoned, Broke, Unreachable, ValueError) as error:
            self.end = error
        finally:
            self.seat.leave()


class Sky:
    """One flight with everything around it."""

    def __init__(
        self,
        *,
        wire: Wire | None = None,
        max_record: int = 1 << 20,
        max_lead: int = 1 << 20,
        max_lag: int = 1 << 20,
        finish_abandoned: bool = False,
    ) -> None:
        self.wire = wire or Wire()
        self.tasks = Tasks()
        self.flight = Flight(
            self.wire.ask,
            request_fields=Fields(()),
            max_record_bytes=max_record,
            max_lead_bytes=max_lead,
            max_lag_bytes=max_lag,
            finish_abandoned=finish_abandoned,
            timed=True,
        )
        self._landings: asyncio.Queue[Landing] = asyncio.Queue()

    def client(self, *, patient: bool = False) -> Client:
        """One more reader."""
        return Client(self.flight, patient=patient)

    def joinable(self) -> bool:
        """Whether one more reader could still be given everything."""
        return self.flight.joinable

    def take_off(self) -> None:
        """Begin the fetch."""
        self.flight.take_off(self.tasks, self._landings.put)

    async def landing(self) -> Landing:
        """How the flight ended; it must have ended once only."""
        landing = await asyncio.wait_for(self._landings.get(), PATIENCE_S)
        await quiet()
        assert self._landings.empty()
        return landing

    @property
    def landed(self) -> bool:
        """Whether a landing was told."""
        return not self._landings.empty()


# --- one reader, several readers -------------------------------------------------------------------------------------


@on_a_loop
async def test_a_reader_gets_every_octet_and_the_landing_has_them_too() -> None:
    sky = Sky()
    client = sky.client()
    sky.take_off()
    sky.wire.send(b"one ", b"two ", b"three")
    sky.wire.end()
    assert (await client.finish()).got == b"one two three"
    landing = await sky.landing()
    assert (landing.body, landing.bytes_in, landing.error) == (b"one two three", 13, None)
    assert landing.head is not None
    assert (landing.head.status, landing.head.phrase, landing.head.fields) == (200, b"OK", HEAD_FIELDS)
    assert [octets for octets, _ in landing.marks] == [4, 8, 13]
    assert sky.wire.asked == 1


@on_a_loop
async def test_an_answer_without_a_body_lands_empty() -> None:
    sky = Sky()
    client = sky.client()
    sky.take_off()
    sky.wire.end()
    assert (await client.finish()).stayed
    assert (await sky.landing()).body == b""


@on_a_loop
async def test_the_marks_and_the_times_of_a_landing_are_in_order() -> None:
    sky = Sky(wire=Wire(head_at_once=False))
    client = sky.client()
    sky.take_off()
    await quiet()
    sky.wire.answer()
    for piece in (b"a", b"b", b"c"):
        sky.wire.send(piece)
        await quiet()
    sky.wire.end()
    await client.finish()
    landing = await sky.landing()
    times = [at for _, at in landing.marks]
    assert times == sorted(times)
    assert 0 < landing.head_s <= landing.total_s


@on_a_loop
async def test_the_head_is_there_before_any_of_the_body() -> None:
    sky = Sky()
    seat = sky.flight.board()
    sky.take_off()
    head = await asyncio.wait_for(seat.head(), PATIENCE_S)
    assert isinstance(head, Head)
    assert head.status == 200
    assert sky.wire.passed_on == 0
    seat.leave()
    await sky.landing()


@on_a_loop
async def test_a_late_joiner_gets_what_has_passed_and_then_follows_live() -> None:
    sky = Sky()
    first = sky.client()
    sky.take_off()
    for piece in (b"one ", b"two "):
        sky.wire.send(piece)
        await quiet()
    assert sky.joinable()
    late = sky.client()
    await quiet()
    assert late.pieces == [b"one two "]
    sky.wire.send(b"three ")
    await quiet()
    assert late.pieces == [b"one two ", b"three "]
    assert first.pieces == [b"one ", b"two ", b"three "]
    sky.wire.end()
    assert (await late.finish()).got == (await first.finish()).got
    assert sky.wire.asked == 1


@on_a_loop
async def test_who_joins_between_landing_and_storing_gets_everything() -> None:
    sky = Sky()
    first = sky.client()
    stored = asyncio.Event()

    async def store_slowly(_: Landing) -> None:
        await stored.wait()

    sky.flight.take_off(sky.tasks, store_slowly)
    sky.wire.send(b"all of it")
    sky.wire.end()
    await first.finish()
    assert sky.joinable()
    assert (await sky.client().finish()).got == b"all of it"
    stored.set()


@on_a_loop
async def test_readers_see_the_end_before_the_answer_is_stored() -> None:
    sky = Sky()
    client = sky.client()

    async def never_stored(_: Landing) -> None:
        await asyncio.Event().wait()

    sky.flight.take_off(sky.tasks, never_stored)
    sky.wire.send(b"landed first")
    sky.wire.end()
    assert (await client.finish()).stayed
    await sky.tasks.close()


# --- leaving ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["leader", "follower"])
@on_a_loop
async def test_who_leaves_takes_nothing_from_those_who_stay(who: str) -> None:
    sky = Sky()
    leader, follower = sky.client(), sky.client()
    leaving, staying = (leader, follower) if who == "leader" else (follower, leader)
    sky.take_off()
    sky.wire.send(b"one ")
    await quiet()
    await leaving.leave()
    sky.wire.send(b"two")
    sky.wire.end()
    assert (await staying.finish()).got == b"one two"
    assert leaving.got == b"one "
    landing = await sky.landing()
    assert (landing.body, landing.error) == (b"one two", None)


@on_a_loop
async def test_the_leader_may_leave_before_the_head() -> None:
    sky = Sky(wire=Wire(head_at_once=False))
    leader, follower = sky.client(), sky.client()
    sky.take_off()
    await quiet()
    await leader.leave()
    sky.wire.answer()
    sky.wire.send(b"for the follower")
    sky.wire.end()
    assert (await follower.finish()).got == b"for the follower"


@on_a_loop
async def test_when_the_last_reader_leaves_in_mid_stream_the_provider_is_let_go_at_once() -> None:
    sky = Sky()
    clients = [sky.client() for _ in range(3)]
    sky.take_off()
    sky.wire.send(b"half")
    await quiet()
    for client in clients:
        assert not sky.wire.let_go.is_set()
        assert not sky.landed
        await client.leave()
    landing = await sky.landing()
    assert sky.wire.let_go.is_set()
    assert isinstance(landing.error, Abandoned)
    # What came is counted, for the provider charges for it.
    assert (landing.body, landing.bytes_in) == (b"half", 4)


@on_a_loop
async def test_when_the_last_reader_leaves_before_the_head_the_provider_is_let_go_at_once() -> None:
    sky = Sky(wire=Wire(head_at_once=False))
    client = sky.client()
    sky.take_off()
    await quiet()
    await client.leave()
    landing = await sky.landing()
    assert sky.wire.let_go.is_set()
    assert landing.head is None
    assert isinstance(landing.error, Abandoned)


@on_a_loop
async def test_a_flight_that_everybody_leaves_before_it_began_lands_all_the_same() -> None:
    sky = Sky()
    seat = sky.flight.board()
    sky.take_off()
    seat.leave()
    landing = await sky.landing()
    assert isinstance(landing.error, Abandoned)
    assert sky.wire.asked == 0


@on_a_loop
async def test_a_seat_can_be_given_back_more_than_once() -> None:
    sky = Sky()
    leaving, staying = sky.flight.board(), sky.client()
    sky.take_off()
    leaving.leave()
    leaving.leave()
    sky.wire.send(b"all")
    sky.wire.end()
    assert (await staying.finish()).got == b"all"
    await sky.landing()
    leaving.leave()
    assert sky.joinable()


@on_a_loop
async def test_an_abandoned_flight_is_finished_and_recorded_where_the_operator_wants_it() -> None:
    sky = Sky(finish_abandoned=True)
    client = sky.client()
    sky.take_off()
    sky.wire.send(b"one ")
    await quiet()
    await client.leave()
    assert sky.joinable()
    sky.wire.send(b"two ")
    await quiet()
    late = sky.client()
    sky.wire.send(b"three")
    sky.wire.end()
    landing = await sky.landing()
    assert (landing.body, landing.error) == (b"one two three", None)
    assert (await late.finish()).got == b"one two three"


@on_a_loop
async def test_an_abandoned_flight_that_was_held_back_goes_on_to_its_end() -> None:
    sky = Sky(finish_abandoned=True, max_lead=10)
    client = sky.client(patient=True)
    sky.take_off()
    sky.wire.send(*[b"12345678"] * 10)
    sky.wire.end()
    await quiet()
    assert sky.wire.passed_on < 80
    await client.leave()
    assert (await sky.landing()).body == b"12345678" * 10


@pytest.mark.parametrize("leaves", ["before-it-grew-too-large", "after-it-grew-too-large"])
@on_a_loop
async def test_an_abandoned_flight_is_not_finished_once_it_is_too_large_to_keep(leaves: str) -> None:
    sky = Sky(finish_abandoned=True, max_record=10)
    client = sky.client()
    sky.take_off()
    if leaves == "before-it-grew-too-large":
        sky.wire.send(b"12345678")
        await quiet()
        await client.leave()
        assert not sky.wire.let_go.is_set()
        sky.wire.send(b"12345678")
    else:
        sky.wire.send(b"12345678", b"12345678")
        await quiet()
        await client.leave()
    # Nothing ends the body: without a bound the flight would follow it for ever.
    landing = await sky.landing()
    assert sky.wire.let_go.is_set()
    assert (type(landing.error), landing.body, landing.bytes_in) == (Abandoned, None, 16)


@on_a_loop
async def test_closing_the_house_ends_a_flight_and_its_readers_hear_of_it() -> None:
    sky = Sky()
    client = sky.client()
    sky.take_off()
    sky.wire.send(b"half")
    await quiet()
    await sky.tasks.close()
    assert isinstance((await client.finish()).end, Abandoned)
    assert sky.wire.let_go.is_set()


# --- the provider fails ----------------------------------------------------------------------------------------------


@on_a_loop
async def test_a_fetch_that_fails_before_its_head_fails_for_every_reader() -> None:
    sky = Sky(wire=Wire(head_at_once=False))
    clients = [sky.client() for _ in range(3)]
    sky.take_off()
    await quiet()
    fault = Unreachable("nobody there")
    sky.wire.refuse(fault)
    for client in clients:
        assert (await client.finish()).end is fault
    landing = await sky.landing()
    assert (landing.head, landing.body, landing.error) == (None, None, fault)
    assert not sky.joinable()


@on_a_loop
async def test_an_answer_that_breaks_off_is_passed_on_so_far_and_then_fails_for_every_reader() -> None:
    sky = Sky()
    quick, slow = sky.client(), sky.client(patient=True)
    sky.take_off()
    sky.wire.send(b"one ", b"two ")
    await quiet()
    sky.wire.send(b"three ")
    fault = Broke("reset by peer")
    sky.wire.end(fault)
    for client in (quick, slow):
        await client.finish()
        assert client.got == b"one two three "
        assert client.end is fault
    landing = await sky.landing()
    assert landing.error is fault
    assert (landing.body, landing.bytes_in) == (None, 14)
    assert not sky.joinable()


@on_a_loop
async def test_a_fault_of_our_own_reaches_every_reader_and_the_log(caplog: pytest.LogCaptureFixture) -> None:
    sky = Sky()
    clients = [sky.client() for _ in range(2)]
    sky.take_off()
    fault = ValueError("a bug")
    with caplog.at_level(logging.ERROR, "proxy.flights"):
        sky.wire.end(fault)
        for client in clients:
            assert (await client.finish()).end is fault
    assert "a bug" in caplog.text
    assert (await sky.landing()).error is fault


@on_a_loop
async def test_a_fault_that_nobody_waits_for_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    sky = Sky(wire=Wire(head_at_once=False), finish_abandoned=True)
    seat = sky.flight.board()
    sky.take_off()
    await quiet()
    seat.leave()
    sky.wire.refuse(Broke("too late to matter"))
    await sky.landing()
    del sky, seat
    gc.collect()
    assert caplog.text == ""


# --- slow readers ----------------------------------------------------------------------------------------------------

PIECE = b"0123456789" * 10
"""One hundred octets."""


@on_a_loop
async def test_a_slow_reader_does_not_hold_up_the_others() -> None:
    sky = Sky(max_lead=200)
    quick, slow = sky.client(), sky.client(patient=True)
    sky.take_off()
    sky.wire.send(*[PIECE] * 50)
    sky.wire.end()
    assert (await quick.finish()).got == PIECE * 50
    assert len(slow.pieces) == 1
    # It is all still there: a flight that may be recorded is kept whole.
    assert (await slow.finish()).got == PIECE * 50


@on_a_loop
async def test_a_reader_too_far_behind_the_others_is_cut_off_and_the_log_stays_bounded() -> None:
    sky = Sky(max_record=500, max_lead=200, max_lag=1000)
    quick, slow = sky.client(), sky.client(patient=True)
    sky.take_off()
    most = 0
    Octets.held = 0
    for _ in range(100):
        sky.wire.send(Octets(PIECE))
        await quiet()
        most = max(most, Octets.held)
    sky.wire.end()
    assert (await quick.finish()).got == PIECE * 100
    assert 500 < most <= 1000 + 200 + 2 * len(PIECE)
    await slow.finish()
    assert isinstance(slow.end, Lagged)
    assert (PIECE * 100).startswith(slow.got)
    assert len(slow.got) < 2000
    assert (await sky.landing()).error is None


@on_a_loop
async def test_a_reader_less_far_behind_than_the_limit_is_not_cut_off() -> None:
    sky = Sky(max_record=500, max_lag=1000)
    quick, slow = sky.client(), sky.client(patient=True)
    sky.take_off()
    for _ in range(10):
        sky.wire.send(PIECE)
        await quiet()
    sky.wire.end()
    assert (await slow.finish()).got == PIECE * 10
    assert (await quick.finish()).got == PIECE * 10


@on_a_loop
async def test_the_log_of_an_answer_too_large_to_keep_holds_only_what_somebody_still_needs() -> None:
    sky = Sky(max_record=500)
    client = sky.client()
    sky.take_off()
    Octets.held = 0
    for number in range(100):
        sky.wire.send(Octets(PIECE))
        await quiet()
        assert Octets.held <= (500 if number < 5 else 2 * len(PIECE))
    sky.wire.end()
    assert (await client.finish()).got == PIECE * 100


@pytest.mark.parametrize("max_lag", [1000, 10])
@on_a_loop
async def test_a_reader_that_is_alone_is_waited_for_and_never_cut_off(max_lag: int) -> None:
    sky = Sky(max_record=100, max_lead=500, max_lag=max_lag)
    client = sky.client(patient=True)
    sky.take_off()
    sky.wire.send(*[PIECE] * 50)
    sky.wire.end()
    taken = []
    for _ in range(8):
        await quiet()
        taken.append(sky.wire.passed_on)
        assert sky.wire.passed_on <= len(client.got) + 500 + 2 * len(PIECE)
        client.let(1)
    assert taken[0] < 1000
    assert taken[-1] > taken[0]
    assert (await client.finish()).got == PIECE * 50


@on_a_loop
async def test_a_reader_that_holds_the_fetch_back_lets_it_go_by_leaving() -> None:
    sky = Sky(max_lead=200)
    client = sky.client(patient=True)
    sky.take_off()
    sky.wire.send(*[PIECE] * 50)
    await quiet()
    held_at = sky.wire.passed_on
    assert held_at < 1000
    await client.leave()
    landing = await sky.landing()
    assert isinstance(landing.error, Abandoned)
    assert sky.wire.passed_on == held_at


@on_a_loop
async def test_when_the_quick_reader_leaves_the_fetch_waits_for_the_slow_one() -> None:
    sky = Sky(max_lead=300)
    quick, slow = sky.client(), sky.client(patient=True)
    sky.take_off()
    sky.wire.send(*[PIECE] * 10)
    await quiet()
    assert sky.wire.passed_on == 1000
    await quick.leave()
    sky.wire.send(*[PIECE] * 10)
    sky.wire.end()
    await quiet()
    assert sky.wire.passed_on <= 1100
    assert (await slow.finish()).got == PIECE * 20


@on_a_loop
async def test_a_reader_that_was_cut_off_does_not_keep_the_flight_from_ending() -> None:
    sky = Sky(max_record=100, max_lag=500, max_lead=200)
    quick, slow = sky.client(), sky.client(patient=True)
    sky.take_off()
    for _ in range(20):
        sky.wire.send(PIECE)
        await quiet()
    await quick.leave()
    # The slow one still sits there, but can never be given the whole answer: nobody is left to fly for.
    landing = await sky.landing()
    assert isinstance(landing.error, Abandoned)
    assert sky.wire.let_go.is_set()
    assert isinstance((await slow.finish()).end, Lagged)


# --- recording and joining -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "kept"), [(499, True), (500, True), (501, False)])
@on_a_loop
async def test_an_answer_is_recorded_up_to_the_limit(size: int, kept: bool) -> None:
    sky = Sky(max_record=500)
    client = sky.client()
    sky.take_off()
    body = bytes(size)
    sky.wire.send(body[:300], body[300:])
    sky.wire.end()
    assert (await client.finish()).got == body
    landing = await sky.landing()
    assert landing.body == (body if kept else None)
    assert bool(landing.marks) is kept
    assert landing.bytes_in == size
    assert landing.error is None


@on_a_loop
async def test_a_flight_whose_start_is_gone_cannot_be_joined() -> None:
    sky = Sky(max_record=500)
    client = sky.client()
    sky.take_off()
    for _ in range(5):
        sky.wire.send(PIECE)
        await quiet()
    assert sky.joinable()
    sky.wire.send(PIECE)
    await quiet()
    sky.wire.send(PIECE)
    await quiet()
    assert not sky.joinable()
    sky.wire.end()
    assert (await client.finish()).got == PIECE * 7


@on_a_loop
async def test_a_flight_that_is_being_given_up_cannot_be_joined() -> None:
    sky = Sky()
    client = sky.client()
    sky.take_off()
    await quiet()
    assert sky.joinable()
    client.seat.leave()
    assert not sky.joinable()
    await sky.landing()
    assert not sky.joinable()


@on_a_loop
async def test_what_an_answer_was_is_told_to_those_who_ask_before_it_is_known() -> None:
    sky = Sky()
    told: list[tuple[str, Finding]] = []
    sky.flight.when_examined(lambda found: told.append(("one", found)))
    sky.flight.when_examined(lambda found: told.append(("two", found)))
    assert told == []
    found = Finding(model="m")
    sky.flight.examined(found)
    assert told == [("one", found), ("two", found)]


@on_a_loop
async def test_what_an_answer_was_is_told_at_once_to_those_who_ask_afterwards() -> None:
    sky = Sky()
    early: list[Finding] = []
    late: list[Finding] = []
    sky.flight.when_examined(early.append)
    found = Finding(model="m")
    sky.flight.examined(found)
    sky.flight.when_examined(late.append)
    assert (early, late) == ([found], [found])


@on_a_loop
async def test_a_flight_tells_its_story() -> None:
    sky = Sky()
    client = sky.client()
    sky.take_off()
    sky.wire.send(b"a", b"b")
    await quiet()
    assert repr(sky.flight) == "<Flight airborne, 2 chunks, 1 readers>"
    sky.wire.end()
    await client.finish()
    assert repr(sky.flight) == "<Flight landed, 2 chunks, 0 readers>"


# --- the airspace ----------------------------------------------------------------------------------------------------


@on_a_loop
async def test_a_flight_is_found_on_its_course_until_it_exits() -> None:
    airspace, flight = Airspace(), Sky().flight
    assert airspace.find("course") is None
    airspace.enter("course", flight)
    assert airspace.find("course") is flight
    assert airspace.find("another") is None
    assert len(airspace) == 1
    airspace.exit("course", flight)
    assert airspace.find("course") is None
    assert len(airspace) == 0


@on_a_loop
async def test_the_first_flight_on_a_course_keeps_it() -> None:
    airspace, first, second = Airspace(), Sky().flight, Sky().flight
    airspace.enter("course", first)
    airspace.enter("course", second)
    assert airspace.find("course") is first
    airspace.exit("course", second)
    assert airspace.find("course") is first


@on_a_loop
async def test_a_flight_that_cannot_be_joined_any_more_gives_its_course_to_the_next() -> None:
    airspace, sky, second = Airspace(), Sky(), Sky().flight
    seat = sky.flight.board()
    sky.take_off()
    await quiet()
    airspace.enter("course", sky.flight)
    seat.leave()
    assert airspace.find("course") is None
    airspace.enter("course", second)
    assert airspace.find("course") is second
    airspace.exit("course", sky.flight)
    assert airspace.find("course") is second
    assert repr(airspace) == "<Airspace, 1 aloft>"


# --- any order of events ---------------------------------------------------------------------------------------------

MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(0, 40)),
        st.tuples(st.sampled_from(["join", "join-patient", "turn"]), st.just(0)),
        st.tuples(st.sampled_from(["let", "leave", "free"]), st.integers(0, 5)),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(
    moves=MOVES,
    max_record=st.sampled_from([0, 50, 1 << 20]),
    max_lead=st.sampled_from([1, 60, 1 << 20]),
    max_lag=st.sampled_from([1, 60, 1 << 20]),
    finish_abandoned=st.booleans(),
    broken=st.booleans(),
)
def test_whoever_stays_to_the_end_sees_exactly_the_octets_in_any_order_of_events(
    moves: list[tuple[str, int]], max_record: int, max_lead: int, max_lag: int, finish_abandoned: bool, broken: bool
) -> None:
    @on_a_loop
    async def play() -> None:
        sky = Sky(max_record=max_record, max_lead=max_lead, max_lag=max_lag, finish_abandoned=finish_abandoned)
        clients = [sky.client()]
        left: set[Client] = set()
        body = b""
        sky.take_off()
        for move, number in moves:
            chosen = clients[number % len(clients)]
            match move:
                case "send":
                    piece = bytes((len(body) + at) % 251 for at in range(number))
                    body += piece
                    sky.wire.send(piece)
                case "join" | "join-patient" if sky.joinable():
                    clients.append(sky.client(patient=move == "join-patient"))
                case "turn":
                    await quiet()
                case "let":
                    chosen.let(1)
                case "free":
                    chosen.let()
                case "leave":
                    left.add(chosen)
                    await chosen.leave()
                case _:
                    pass
        fault = Broke("cut") if broken else None
        sky.wire.end(fault)
        staying = [client for client in clients if client not in left]
        for client in staying:
            client.let()
        for client in staying:
            await client.finish()
            assert body.startswith(client.got)
            if client.stayed:
                assert client.got == body
                assert not broken
            elif client.end is fault:
                assert client.got == body
            else:
                # Only a large answer, which is not kept whole, can leave somebody behind.
                assert isinstance(client.end, Lagged)
                assert len(body) > max_record
        landing = await sky.landing()
        assert landing.body is None or body.startswith(landing.body)
        if staying and landing.error is not fault:
            assert isinstance(landing.error, Abandoned)
            assert not any(client.stayed for client in staying)
        if landing.error is None:
            assert landing.body == (body if len(body) <= max_record else None)
            assert landing.bytes_in == len(body)
        await sky.tasks.close()

    play()
