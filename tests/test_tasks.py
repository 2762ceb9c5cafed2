"""Background tasks with an owner."""

import asyncio
import logging

import pytest

from proxy.tasks import Tasks


def test_work_is_done() -> None:
    async def scene() -> list[str]:
        tasks, done = Tasks(), list[str]()

        async def work() -> None:
            done.append("done")

        await tasks.start(work(), name="work")
        return done

    assert asyncio.run(scene()) == ["done"]


def test_a_task_is_counted_while_it_runs_and_let_go_when_it_ends() -> None:
    async def scene() -> list[str]:
        tasks, gate = Tasks(), asyncio.Event()

        async def work() -> None:
            await gate.wait()

        seen = [repr(tasks)]
        task = tasks.start(work(), name="work")
        seen.append(repr(tasks))
        gate.set()
        await task
        await asyncio.sleep(0)
        return [*seen, repr(tasks), str(len(tasks))]

    assert asyncio.run(scene()) == ["<Tasks, 0 running>", "<Tasks, 1 running>", "<Tasks, 0 running>", "0"]


def test_a_task_bears_its_name() -> None:
    async def scene() -> str:
        async def work() -> None: ...

        task = Tasks().start(work(), name="the name")
        await task
        return task.get_name()

    assert asyncio.run(scene()) == "the name"


def test_a_fault_is_logged_with_the_name_of_its_task(caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> None:
        tasks = Tasks()

        async def work() -> None:
            raise LookupError("what went wrong")

        task = tasks.start(work(), name="the work")
        await asyncio.wait([task])
        await asyncio.sleep(0)

    with caplog.at_level(logging.ERROR):
        asyncio.run(scene())
    [record] = caplog.records
    assert record.getMessage() == "the work failed"
    assert record.exc_info is not None
    assert "what went wrong" in str(record.exc_info[1])


def test_a_cancelled_task_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    async def scene() -> int:
        tasks = Tasks()
        tasks.start(asyncio.Event().wait(), name="waits for ever")  # type: ignore[arg-type]
        await asyncio.sleep(0)
        await tasks.close()
        return len(tasks)

    assert asyncio.run(scene()) == 0
    assert caplog.records == []


def test_closing_waits_until_what_was_cancelled_has_tidied_up() -> None:
    async def scene() -> list[str]:
        tasks, done = Tasks(), list[str]()

        async def work() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                done.append("tidied up")

        tasks.start(work(), name="work")
        await asyncio.sleep(0)
        await tasks.close()
        return done

    assert asyncio.run(scene()) == ["tidied up"]


def test_closing_does_not_wait_for_what_will_not_end() -> None:
    async def scene() -> int:
        tasks, gate = Tasks(), asyncio.Event()

        async def stubborn() -> None:
            while not gate.is_set():
                try:
                    await gate.wait()
                except asyncio.CancelledError:
                    continue

        task = tasks.start(stubborn(), name="stubborn")
        await asyncio.sleep(0)
        await tasks.close(wait_s=0)
        still = len(tasks)
        gate.set()
        await task
        return still

    assert asyncio.run(scene()) == 1


def test_an_owner_of_nothing_closes_at_once() -> None:
    asyncio.run(Tasks().close())
