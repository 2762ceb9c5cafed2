"""What processes tell one another of the prompts that they sent."""

import asyncio
from contextlib import ExitStack

from hypothesis import given
from hypothesis import strategies as st

from proxy.prefix.chain import Chain
from proxy.prefix.replicas import Load
from proxy.providers.hearsay import MAX_BLOCKS, Hearsay, Line, lines

Heard = tuple[int, Chain, Load]


class Process:
    """One of several, as far as it tells and hears."""

    def __init__(self, stack: ExitStack, line: Line) -> None:
        self.heard: list[Heard] = []
        self.answered: list[tuple[int, Load]] = []
        self.some = asyncio.Event()
        self.hearsay = Hearsay()
        self.hearsay.join(self.hear, self.hear_answered)
        self.number = self.hearsay.join(self.hear, self.hear_answered)
        self.hearsay.open(line)
        stack.callback(self.hearsay.close)

    def hear(self, replica: int, chain: Chain, load: Load) -> Load:
        self.heard.append((replica, chain, load))
        self.some.set()
        return Load(upto=7)

    def hear_answered(self, replica: int, load: Load) -> None:
        self.answered.append((replica, load))
        self.some.set()


def of(blocks: int) -> Chain:
    digests = tuple([number.to_bytes(8, "big") for number in range(blocks)])
    return Chain(digests=digests, ends=tuple([1000 * (n + 1) for n in range(blocks)]), bounds=())


@given(st.integers(0, 63), st.integers(0, 300), st.integers(0, 10**6), st.floats(1.0, 1e6))
def test_the_others_hear_what_one_tells(replica: int, blocks: int, fresh: int, speed: float) -> None:
    async def run() -> None:
        with ExitStack() as stack:
            one, *others = [Process(stack, line) for line in stack.enter_context(lines(3))]
            told = (replica, of(blocks), Load(fresh=fresh, speed=speed))
            number = one.hearsay.tell_sent(one.number, *told)
            for other in others:
                await other.some.wait()
                assert other.heard == [told]
                other.some.clear()
            one.hearsay.tell_answered(number)
            one.hearsay.tell_answered(number + 1)
            for other in others:
                await other.some.wait()
                # What it took it for itself, when it heard of it.
                assert other.answered == [(replica, Load(upto=7))]
            assert not one.heard
            assert not one.answered

    asyncio.run(run())


def test_a_very_long_prompt_is_told_in_part() -> None:
    async def run() -> None:
        with ExitStack() as stack:
            one, other = [Process(stack, line) for line in stack.enter_context(lines(2))]
            one.hearsay.tell_sent(one.number, 0, of(3 * MAX_BLOCKS), Load())
            await other.some.wait()
            assert other.heard[0][1] == of(MAX_BLOCKS)

    asyncio.run(run())


def test_who_does_not_listen_keeps_nobody_waiting_and_hears_nothing_old() -> None:
    async def run() -> None:
        with ExitStack() as stack:
            first, second = stack.enter_context(lines(2))
            one = Process(stack, first)
            while not one.hearsay.lost:
                one.hearsay.tell_sent(one.number, 0, of(100), Load())
            other = Process(stack, second)
            one.hearsay.tell_sent(one.number, 1, of(1), Load())
            await other.some.wait()
            assert other.heard == [(1, of(1), Load())]

    asyncio.run(run())


def test_one_process_alone_tells_nobody() -> None:
    alone = Hearsay()
    alone.tell_sent(0, 0, of(1), Load())
    alone.close()
    assert alone.lost == 0
    assert "between 1" in repr(alone)
