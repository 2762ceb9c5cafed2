"""A request that sets off before it is known to be needed, and a flight that is answered before it asks."""

import asyncio
from types import TracebackType
from typing import cast

import pytest

from proxy.errors import Unreachable
from proxy.flights import Abandoned, Flight, Landing
from proxy.headers import Fields
from proxy.model import Entry, Key
from proxy.providers.ahead import Ahead
from proxy.providers.provider import Answer
from proxy.semantic.recall import Recalled
from proxy.tasks import Tasks

FOUND = Recalled(
    id="1",
    asked=Key("a"),
    entry=Entry(key=Key("b"), dialect="chat", status=200, phrase=b"OK", head=b"", body=b"", created=0.0),
    age_s=0.0,
    similarity=0.9,
    score=0.9,
    kind="plain",
)


class Asked:
    """An answer that notes what becomes of it."""

    def __init__(self) -> None:
        self.let_go = False

    async def __aenter__(self) -> "Asked":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.let_go = True


class Provider:
    """Is asked; answers when it is told to."""

    def __init__(self) -> None:
        self.times = 0
        self.cancelled = False
        self.answer = Asked()
        self.ready = asyncio.Event()
        self.error: Unreachable | None = None

    async def ask(self) -> Answer:
        """The answer."""
        self.times += 1
        try:
            await self.ready.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        if self.error is not None:
            raise self.error
        return cast(Answer, self.answer)


async def until_quiet(tasks: Tasks) -> None:
    """Nothing goes on in the background."""
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others)
    assert len(tasks) == 0


def test_it_asks_once_whether_it_set_off_before_or_not() -> None:
    async def scene(*, early: bool) -> int:
        provider, tasks = Provider(), Tasks()
        ahead = Ahead(provider.ask, tasks)
        if early:
            ahead.set_off()
            ahead.set_off()
        provider.ready.set()
        assert await ahead.answer() is cast(Answer, provider.answer)
        return provider.times

    assert [asyncio.run(scene(early=early)) for early in (True, False)] == [1, 1]


@pytest.mark.parametrize("answered", [False, True])
def test_what_is_called_off_is_cancelled_or_let_go(answered: bool) -> None:
    async def scene() -> None:
        provider, tasks = Provider(), Tasks()
        ahead = Ahead(provider.ask, tasks)
        ahead.set_off()
        await asyncio.sleep(0)
        if answered:
            provider.ready.set()
            await asyncio.sleep(0.01)
        ahead.call_off()
        await until_quiet(tasks)
        assert provider.answer.let_go == answered
        assert provider.cancelled != answered

    asyncio.run(scene())


def test_what_fails_after_it_was_called_off_disturbs_nobody() -> None:
    async def scene() -> None:
        provider, tasks = Provider(), Tasks()
        provider.error = Unreachable("nobody there")
        ahead = Ahead(provider.ask, tasks)
        ahead.set_off()
        provider.ready.set()
        await asyncio.sleep(0.01)
        ahead.call_off()
        await until_quiet(tasks)

    asyncio.run(scene())


def flight(provider: Provider, recalled: asyncio.Future[Recalled | None]) -> Flight:
    """A flight that first waits for what may be recalled."""

    async def recall() -> Recalled | None:
        return await recalled

    return Flight(
        provider.ask,
        recall=recall,
        request_fields=Fields(()),
        max_record_bytes=1000,
        max_lead_bytes=1000,
        max_lag_bytes=1000,
        finish_abandoned=False,
    )


def test_a_flight_that_is_answered_by_another_question_asks_nobody_and_tells_all_its_readers() -> None:
    async def scene() -> None:
        provider, tasks = Provider(), Tasks()
        recalled: asyncio.Future[Recalled | None] = asyncio.get_running_loop().create_future()
        landings: list[Landing] = []

        async def landed(landing: Landing) -> None:
            landings.append(landing)

        aloft = flight(provider, recalled)
        seats = [aloft.board() for _ in range(3)]
        aloft.take_off(tasks, landed)
        waiting = [asyncio.ensure_future(seat.head()) for seat in seats]
        await asyncio.sleep(0)
        recalled.set_result(FOUND)
        assert await asyncio.gather(*waiting) == [FOUND] * 3
        late = aloft.board()
        assert await late.head() is FOUND
        await until_quiet(tasks)
        assert (provider.times, aloft.recalled, len(landings)) == (0, FOUND, 1)

    asyncio.run(scene())


def test_a_flight_whose_readers_leave_while_it_recalls_asks_nobody() -> None:
    async def scene() -> None:
        provider, tasks = Provider(), Tasks()
        recalled: asyncio.Future[Recalled | None] = asyncio.get_running_loop().create_future()
        landings: list[Landing] = []

        async def landed(landing: Landing) -> None:
            landings.append(landing)

        aloft = flight(provider, recalled)
        seat = aloft.board()
        aloft.take_off(tasks, landed)
        await asyncio.sleep(0)
        seat.leave()
        await until_quiet(tasks)
        assert provider.times == 0
        assert isinstance(landings[0].error, Abandoned)

    asyncio.run(scene())
