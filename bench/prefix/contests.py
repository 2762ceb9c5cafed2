"""Policies against one another on the same traffic, each contest with its bounds: knowing all, losing nothing."""

import heapq
import itertools
import math
import random
import statistics
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from bench.prefix.fleets import MIN_TOKENS, Breakpoints, Engine, Machines
from bench.prefix.traffic import Sent
from proxy.prefix import rules
from proxy.prefix.acting import Action
from proxy.prefix.learner import Learner
from proxy.prefix.places import awaited, level_at
from proxy.prefix.reach import reach
from proxy.prefix.replicas import Load, Replicas, Routing
from proxy.prefix.rules import Rule
from proxy.tiers.steering import Steering

RULES = rules.read()
OPENAI = RULES.find("openai", "gpt-5.4")
ANTHROPIC = RULES.find("anthropic", "claude-sonnet-5")
OPENAI_56 = RULES.find("openai-5.6", "gpt-5.6")

SPEED_STEPS = 9
"""Halvings until a speed is found: to half a percent."""

LIFE_S = 450.0
"""How long OpenAI's machines are taken to keep a prefix that nobody asks for."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one policy came to."""

    policy: str
    cost: float
    """Tokens paid, a plain one being 1, as a share of all."""
    read: float
    """Tokens read, as a share of all."""


class Learned:
    """The product's own rooms, fed as the tier feeds them."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._now = 0.0
        self._learner = Learner(max_nodes=100_000)
        self._steering = Steering(self._learner, secret=b"bench", hold_out=0.0, now=lambda: self._now)

    def __call__(self, sent: Sent) -> Action:
        """What is set in *sent*."""
        rule, prompt, chain = self._rule, sent.prompt, sent.chain
        self._now = sent.at_s
        action = self._steering.action("", prompt, chain, rule, wide=b"", per_octet=0.25)
        said = reach(prompt, chain, rule, frozenset(action.marks.numbers))
        known = self._learner.known(chain, now=sent.at_s, ttl_s=rule.ttl_s, reach=said)
        levels = [(chain.digests[n], level_at(self._learner, prompt, chain, n, wide=b"")) for n in awaited(prompt)]
        self._learner.observe(chain, now=sent.at_s, ttl_s=rule.ttl_s, written=said.written, read=known.cached)
        for node, level in levels:
            self._learner.await_again(node, level, until=sent.at_s + rule.ttl_s)
        return action


def keys(sent: list[Sent], policy: str, key: Callable[[Sent], str], *, anywhere: bool) -> Outcome:
    """A fleet that is steered by keys."""
    fleet = Machines(life_s=LIFE_S, anywhere=anywhere)
    total = sum(each.tokens for each in sent)
    read = sum(fleet.ask(each, key(each)) for each in sent)
    return Outcome(policy, (total - read * (1 - OPENAI.read)) / total, read / total)


def one_machine(sent: list[Sent], policy: str) -> Outcome:
    """All of the fleet as one machine that is never too busy."""
    fleet = Machines(count=1, rpm=10**9, life_s=LIFE_S)
    total = sum(each.tokens for each in sent)
    read = sum(fleet.ask(each, "") for each in sent)
    return Outcome(policy, (total - read * (1 - OPENAI.read)) / total, read / total)


def marks(sent: list[Sent], policy: str, rule: Rule, choose: Callable[[Sent], Action | tuple[int, ...]]) -> Outcome:
    """A provider with breakpoints."""
    provider = Breakpoints(life_s=rule.ttl_s, implicit=rule.implicit)
    paid = read = total = 0.0
    for each in sent:
        chosen = choose(each)
        if isinstance(chosen, Action):
            got, written = provider.ask(each, chosen.marks.numbers, explicit=chosen.marks.explicit)
        else:
            got, written = provider.ask(each, chosen)
        total += each.tokens
        read += got
        paid += each.tokens - got - written + got * rule.read + written * rule.write
    return Outcome(policy, paid / total, read / total)


def all_knowing(sent: list[Sent], policy: str, rule: Rule) -> Outcome:
    """Each stretch read where it is there, written where it will be asked for in time, else neither; marks for free."""
    again: dict[bytes, list[float]] = defaultdict(list)
    for each in reversed(sent):
        for digest in each.chain.digests:
            again[digest].append(each.at_s)
    live: dict[bytes, float] = {}
    paid = read = total = 0.0
    for each in sent:
        before = 0
        for number, digest in enumerate(each.chain.digests):
            if each.upto(number) < MIN_TOKENS and number < len(each.chain.digests) - 1:
                # Too short to be read by itself: it is read or not with what follows.
                continue
            moments = again[digest]
            while moments and moments[-1] <= each.at_s:
                moments.pop()
            tokens, before = each.upto(number) - before, each.upto(number)
            total += tokens
            long = each.upto(number) >= MIN_TOKENS
            comes = long and bool(moments) and moments[-1] - each.at_s <= rule.ttl_s
            there = each.at_s - live.get(digest, -math.inf) <= rule.ttl_s
            if there:
                paid += tokens * rule.read
                read += tokens
            else:
                paid += tokens * (rule.write if comes else 1.0)
            if there or comes:
                live[digest] = each.at_s
    return Outcome(policy, paid / total, read / total)


def system_and_last(sent: Sent) -> tuple[int, ...]:
    """What gateways mark blindly."""
    return (sent.prompt.head - 1, len(sent.prompt.segments) - 1)


@dataclass(frozen=True, slots=True)
class Waits:
    """How long first tokens took."""

    policy: str
    mean_s: float
    p99_s: float
    computed: float
    """Tokens computed, as a share of all."""


def engines(
    sent: list[Sent],
    routing: Routing,
    *,
    count: int,
    tokens_per_s: float,
    holds: int,
    processes: int = 1,
    told: bool = True,
) -> Waits:
    """*count* replicas; the router hears of each first token when it is there.

    Of several *processes* each gets every so many requests by chance; *told*: and hears what the others send where.
    """
    now = [0.0]
    routers = [
        Replicas(count, routing=routing, tokens=holds, now=lambda: now[0], chance=random.Random(5 + number).random)
        for number in range(processes)
    ]
    fleet = [Engine(tokens_per_s=tokens_per_s, holds=holds) for _ in range(count)]
    coming: list[tuple[float, int, Replicas, int, Load, float, list[tuple[Replicas, Load]]]] = []
    turn, chance = itertools.count(), random.Random(1)
    waits, computed = [], 0
    for each in sent:
        while coming and coming[0][0] <= each.at_s:
            moment, _, router, number, load, began, heard = heapq.heappop(coming)
            now[0] = moment
            router.answered(number, load, seconds=moment - began)
            router.ended(number)
            for other, known in heard:
                other.heard_answered(number, known)
        now[0] = each.at_s
        router = chance.choice(routers)
        number = router.choose(each.chain)
        load = router.began(number, each.chain)
        others = [other for other in routers if told and other is not router]
        heard = [(other, other.heard(number, each.chain, load)) for other in others]
        first, really = fleet[number].ask(each)
        computed += really
        waits.append(first - each.at_s)
        heapq.heappush(coming, (first, next(turn), router, number, load, each.at_s, heard))
    waits.sort()
    total = sum(each.tokens for each in sent)
    shared = f", {processes} processes" + ("" if told else " apart") if processes > 1 else ""
    return Waits(f"{routing}{shared}", statistics.fmean(waits), waits[int(len(waits) * 0.99)], computed / total)


def speed_for(sent: list[Sent], *, mean_s: float, count: int, holds: int) -> float:
    """Tokens a second of each engine, such that round robin takes *mean_s* on average: how loaded they are."""
    offered = sum(each.tokens for each in sent) / (sent[-1].at_s - sent[0].at_s) / count
    slow, fast = offered / 4, offered * 2
    for _ in range(SPEED_STEPS):
        speed = (slow + fast) / 2
        waits = engines(sent, Routing.ROUND_ROBIN, count=count, tokens_per_s=speed, holds=holds)
        if waits.mean_s > mean_s:
            slow = speed
        else:
            fast = speed
    return fast


def one_memory(sent: list[Sent], policy: str, *, count: int, tokens_per_s: float, holds: int | None) -> Waits:
    """*count* engines that share one memory of so many tokens (None: boundless), the one that is free first taken.

    With a boundless one no router can be better; with the sum of theirs, none that does not know the future by much.
    """
    memory = Engine(tokens_per_s=tokens_per_s, holds=holds if holds is not None else 10**12)
    free = [0.0] * count
    waits, computed = [], 0
    for each in sent:
        _, fresh = memory.ask(each)
        computed += fresh
        first = max(heapq.heappop(free), each.at_s) + fresh / tokens_per_s
        heapq.heappush(free, first)
        waits.append(first - each.at_s)
    waits.sort()
    total = sum(each.tokens for each in sent)
    return Waits(policy, statistics.fmean(waits), waits[int(len(waits) * 0.99)], computed / total)


def cached_at_all(sent: list[Sent]) -> float:
    """The share of tokens in prompts that are long enough to be cached."""
    return sum(each.tokens for each in sent if each.tokens >= MIN_TOKENS) / sum(each.tokens for each in sent)
