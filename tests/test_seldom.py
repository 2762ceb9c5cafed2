"""Lines that are due too often: the first is said at once, the others are counted, and no count is lost."""

import asyncio

from proxy.seldom import Seldom
from tests.awaited import awaited


@awaited
async def test_the_first_is_said_at_once_and_the_others_with_their_number_when_the_time_is_over() -> None:
    said: list[int] = []
    summed_up = asyncio.Event()

    def say(unsaid: int) -> None:
        said.append(unsaid)
        if unsaid:
            summed_up.set()

    line = Seldom(say, every_s=0.01)
    for _ in range(5):
        line.due()
    assert said == [0]
    await asyncio.wait_for(summed_up.wait(), 5)
    assert said == [0, 4]
    # It rests again after that, and what is due meanwhile is counted anew.
    line.due()
    line.close()
    assert said == [0, 4, 1]


@awaited
async def test_what_is_unsaid_is_said_at_the_end_and_nothing_where_all_was_said() -> None:
    said: list[int] = []
    line = Seldom(said.append)
    line.close()
    line.due()
    line.close()
    assert said == [0]
    line.due()
    line.due()
    line.close()
    line.close()
    assert said == [0, 0, 1]


@awaited
async def test_after_a_quiet_time_the_next_one_is_said_at_once() -> None:
    said: list[int] = []
    spoken = asyncio.Event()
    line = Seldom(said.append, every_s=0.0)
    line.due()
    asyncio.get_running_loop().call_later(0.001, spoken.set)
    await spoken.wait()
    line.due()
    line.close()
    assert said == [0, 0]
