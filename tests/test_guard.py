"""A store that fails is asked less and less, and again when it works."""

import asyncio

import pytest

from proxy.errors import CacheError
from proxy.stores.guard import FAILURES, MAX_REST_S, REST_S, Breaker, Guard
from tests.awaited import awaited


class Clock:
    def __init__(self) -> None:
        self.time = 50.0

    def __call__(self) -> float:
        return self.time


def broken(clock: Clock) -> Breaker:
    breaker = Breaker(clock=clock)
    for _ in range(FAILURES):
        assert breaker.allows()
        breaker.failed()
    return breaker


def test_a_few_faults_are_borne_and_a_success_makes_them_forgotten() -> None:
    breaker = Breaker()
    for _ in range(10):
        for _ in range(FAILURES - 1):
            breaker.failed()
        assert breaker.allows()
        breaker.succeeded()


def test_after_faults_in_a_row_nobody_may_ask_until_the_rest_is_over() -> None:
    clock = Clock()
    breaker = broken(clock)
    assert not breaker.allows()
    clock.time += REST_S - 0.001
    assert not breaker.allows()


def test_at_the_end_of_a_rest_one_may_try_and_the_others_wait_for_how_it_goes() -> None:
    clock = Clock()
    breaker = broken(clock)
    clock.time += REST_S
    assert [breaker.allows() for _ in range(3)] == [True, False, False]
    breaker.succeeded()
    assert [breaker.allows() for _ in range(3)] == [True, True, True]


def test_each_trial_that_fails_doubles_the_rest_up_to_a_bound() -> None:
    clock = Clock()
    breaker = broken(clock)
    rests = []
    for _ in range(6):
        began = clock.time
        while not breaker.allows():
            clock.time += REST_S / 2
        rests.append(clock.time - began)
        breaker.failed()
    assert rests == [1.0, 2.0, 4.0, MAX_REST_S, MAX_REST_S, MAX_REST_S]


def test_a_trial_of_which_nothing_is_heard_does_not_close_the_door_for_ever() -> None:
    clock = Clock()
    breaker = broken(clock)
    clock.time += REST_S
    assert breaker.allows()
    clock.time += REST_S
    assert breaker.allows()


def test_a_store_that_requests_wait_for_rests_a_little_after_a_single_fault() -> None:
    clock = Clock()
    breaker = Breaker(pause_s=0.1, clock=clock)
    breaker.failed()
    assert not breaker.allows()
    clock.time += 0.1
    assert [breaker.allows() for _ in range(2)] == [True, True]
    breaker.succeeded()
    assert breaker.allows()


def test_of_faults_that_were_asked_for_together_one_counts() -> None:
    clock = Clock()
    breaker = Breaker(clock=clock)
    for _ in range(FAILURES - 1):
        began = clock.time
        clock.time += 0.05
        for _ in range(40):
            breaker.failed(began=began)
    assert breaker.allows()
    breaker.failed(began=clock.time)
    assert not breaker.allows()


@awaited
async def test_what_takes_too_long_is_given_up_and_counts_as_a_fault() -> None:
    guard = Guard("the store")
    given_up = []
    for _ in range(FAILURES):
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with pytest.raises(CacheError, match="the store took longer than 1 ms"):
            await guard.within(0.001, lambda future=future: future)  # type: ignore[misc]
        given_up.append(future.cancelled())
    assert given_up == [True] * FAILURES
    assert guard.resting
    with pytest.raises(CacheError, match="left alone for a while"):
        await guard.within(1, lambda: pytest.fail("it was asked"))


@awaited
async def test_what_is_there_in_time_is_given_and_ends_the_fault() -> None:
    guard = Guard("the store")
    loop = asyncio.get_running_loop()
    broken, good = loop.create_future(), loop.create_future()
    broken.set_exception(CacheError("no connection"))
    good.set_result("here")
    with pytest.raises(CacheError, match="no connection"):
        await guard.within(1, lambda: broken)
    assert guard.fault == "no connection"
    assert await guard.within(1, lambda: good) == "here"
    assert guard.fault == ""


@awaited
async def test_whoever_stops_waiting_stops_the_work() -> None:
    guard = Guard("the store")
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    waiting = asyncio.ensure_future(guard.within(60, lambda: future))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert future.cancelled()
