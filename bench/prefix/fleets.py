"""Providers' fleets as their pages describe them, and engines of one's own: what is read, what is written, how long it
takes. Nothing here comes from the product but the shape of a request."""

import math
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from hashlib import blake2b

from bench.prefix.traffic import Sent

MIN_TOKENS = 1024
STEP = 128


@dataclass(slots=True)
class Machines:
    """Requests of one beginning and key go to one machine, what comes above a rate to the next; each has its memory."""

    count: int = 64
    rpm: int = 15
    life_s: float = 450.0
    anywhere: bool = False
    """What comes above the rate goes to any machine, not to the next."""
    _memory: dict[tuple[int, bytes], float] = field(default_factory=dict)
    _recent: dict[bytes, deque[float]] = field(default_factory=dict)

    def ask(self, sent: Sent, key: str) -> int:
        """Tokens of *sent* that are read from a cache."""
        group = sent.chain.digests[0] + key.encode()
        recent = self._recent.setdefault(group, deque())
        while recent and recent[0] < sent.at_s - 60.0:
            recent.popleft()
        over = len(recent) // self.rpm
        machine = (_number(group) + over) % self.count
        if over and self.anywhere:
            machine = _number(sent.chain.digests[-1] + b"%f" % sent.at_s) % self.count
        recent.append(sent.at_s)
        read = 0
        for number, digest in enumerate(sent.chain.digests):
            if sent.at_s - self._memory.get((machine, digest), -math.inf) > self.life_s:
                break
            read = sent.upto(number)
        for digest in sent.chain.digests:
            self._memory[(machine, digest)] = sent.at_s
        return read // STEP * STEP if read >= MIN_TOKENS else 0


@dataclass(slots=True)
class Breakpoints:
    """Only what ends at a mark is written and read. *implicit*: the ends of head and last turn are marked for free."""

    life_s: float
    implicit: bool = False
    lookback: int = 20
    most: int = 4
    _entries: dict[bytes, float] = field(default_factory=dict)

    def ask(self, sent: Sent, marks: tuple[int, ...], *, explicit: bool = False) -> tuple[int, int]:
        """Tokens of *sent* that are read, and that are written."""
        last = len(sent.chain.digests) - 1
        given = set(marks)
        if self.implicit and not explicit:
            given |= {last} | ({sent.prompt.head - 1} if sent.prompt.head else set())
            looked = given | {n for n, each in enumerate(sent.prompt.segments) if each.ends_turn and n >= last - 40}
        elif self.implicit:
            looked = set(given)
        else:
            looked = {n for mark in given for n in range(max(0, mark - self.lookback), mark + 1)}
        if len(marks) > self.most:
            raise ValueError("too many breakpoints")
        alive = [n for n in looked if sent.at_s - self._entries.get(sent.chain.digests[n], -math.inf) <= self.life_s]
        read = max(alive, default=-1)
        if read >= 0 and sent.upto(read) < MIN_TOKENS:
            read = -1
        for number in (*given, *([read] if read >= 0 else [])):
            if sent.upto(number) >= MIN_TOKENS:
                self._entries[sent.chain.digests[number]] = sent.at_s
        fit = [number for number in given if sent.upto(number) >= MIN_TOKENS]
        have = sent.upto(read) if read >= 0 else 0
        return have, max(0, (sent.upto(max(fit)) if fit else 0) - have)


class Engine:
    """One replica: it computes prompts one after the other, and holds so many tokens of them."""

    def __init__(self, *, tokens_per_s: float, holds: int) -> None:
        self._speed = tokens_per_s
        self._holds = holds
        self._memory: OrderedDict[bytes, int] = OrderedDict()
        self._tokens = 0
        self.free_at = 0.0

    def ask(self, sent: Sent) -> tuple[float, int]:
        """When its first token is there, and the tokens it had to compute."""
        known = 0
        for number, digest in enumerate(sent.chain.digests):
            if digest not in self._memory:
                break
            known = sent.upto(number)
        fresh = max(1, sent.tokens - known)
        self.free_at = max(self.free_at, sent.at_s) + fresh / self._speed
        before = 0
        sizes = []
        for number, digest in enumerate(sent.chain.digests):
            sizes.append((digest, sent.upto(number) - before))
            before = sent.upto(number)
        for digest, size in reversed(sizes):
            if digest in self._memory:
                self._memory.move_to_end(digest)
            else:
                self._memory[digest] = size
                self._tokens += size
        while self._tokens > self._holds:
            self._tokens -= self._memory.popitem(last=False)[1]
        return self.free_at, fresh


def _number(octets: bytes) -> int:
    return int.from_bytes(blake2b(octets, digest_size=4).digest())
