"""Traffic of ten kinds, as Messages or chat requests with the moments they are sent at; the same for the same seed."""

import random
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

Request: TypeAlias = dict[str, Any]
Traffic: TypeAlias = list[tuple[float, Request]]

WORDS = ("harbour", "clerk", "parcel", "ledger", "ferry", "pilot", "signal", "anchor", "rope", "tide", "berth", "crane")


def words(rng: random.Random, tokens: int) -> str:
    """About so many tokens of text that nobody wrote before."""
    return " ".join(f"{rng.choice(WORDS)}{rng.randrange(1000)}" for _ in range(tokens // 2))


class Speaker:
    """Builds requests of one dialect."""

    def __init__(self, dialect: str, model: str) -> None:
        self.dialect = dialect
        self.model = model

    def __call__(self, system: str, turns: list[Any], *, tools: list[Request] | None = None) -> Request:
        spoken = [{"role": ("user", "assistant")[n % 2], "content": turn} for n, turn in enumerate(turns)]
        more: Request = {"tools": tools} if tools else {}
        if self.dialect == "messages":
            return {"model": self.model, "max_tokens": 9, "system": system, "messages": spoken, **more}
        return {"model": self.model, "messages": [{"role": "system", "content": system}, *spoken], **more}


def times(rng: random.Random, per_minute: float, minutes: float) -> Iterator[float]:
    now = 0.0
    while (now := now + rng.expovariate(per_minute / 60.0)) < minutes * 60.0:
        yield now


def one_shot(say: Speaker, rng: random.Random) -> Traffic:
    return [(t, say(words(rng, 2000), [words(rng, 50)])) for t in times(rng, 5, 45)]


def hot_system_prompt(say: Speaker, rng: random.Random) -> Traffic:
    system = words(rng, 4000)
    return [(t, say(system, [words(rng, 100)])) for t in times(rng, 5, 45)]


def _talk(
    say: Speaker, rng: random.Random, system: str, start: float, turns: int, pause_s: float, tokens: int
) -> Traffic:
    sent, said, now = [], [], start
    for _ in range(turns):
        said.append(words(rng, tokens))
        sent.append((now, say(system, list(said))))
        said.append(words(rng, tokens))
        now += rng.expovariate(1.0 / pause_s)
    return sent


def hot_conversations(say: Speaker, rng: random.Random) -> Traffic:
    system = words(rng, 2000)
    return [each for t in times(rng, 2, 30) for each in _talk(say, rng, system, t, rng.randrange(3, 12), 30.0, 150)]


def agents(say: Speaker, rng: random.Random) -> Traffic:
    system = words(rng, 3000)
    return [each for t in times(rng, 0.5, 20) for each in _talk(say, rng, system, t, rng.randrange(10, 30), 8.0, 400)]


def documents_of_their_own(say: Speaker, rng: random.Random) -> Traffic:
    system = words(rng, 300)
    return [(t, say(system, [words(rng, 4000)])) for t in times(rng, 5, 45)]


def documents_asked_about_again(say: Speaker, rng: random.Random) -> Traffic:
    system, traffic = words(rng, 300), []
    for start in times(rng, 0.5, 60):
        document, now = words(rng, 6000), start
        for _ in range(rng.randrange(4, 10)):
            parts = [{"type": "text", "text": document}, {"type": "text", "text": words(rng, 40)}]
            traffic.append((now, say(system, [parts])))
            now += rng.expovariate(1 / 40.0)
    return traffic


def timestamps(say: Speaker, rng: random.Random) -> Traffic:
    system = words(rng, 4000)
    return [(t, say(f"It is {t:.3f} now. {system}", [words(rng, 100)])) for t in times(rng, 5, 45)]


def shuffled_tools(say: Speaker, rng: random.Random) -> Traffic:
    tools = [{"name": f"t{n}", "description": words(rng, 300), "input_schema": {"type": "object"}} for n in range(8)]
    system = words(rng, 500)
    return [(t, say(system, [words(rng, 100)], tools=rng.sample(tools, 8))) for t in times(rng, 5, 45)]


def slow(say: Speaker, rng: random.Random) -> Traffic:
    system = words(rng, 4000)
    return [(n * 2500.0 + rng.random(), say(system, [words(rng, 100)])) for n in range(80)]


def hot_then_never(say: Speaker, rng: random.Random) -> Traffic:
    first = hot_system_prompt(say, rng)
    return [*first, *[(t + 4000.0, request) for t, request in one_shot(say, rng)]]


def all_at_once(say: Speaker, rng: random.Random) -> Traffic:
    kinds = (one_shot, hot_conversations, documents_of_their_own, timestamps, slow)
    return [each for kind in kinds for each in kind(say, rng)]


MIXES: dict[str, Callable[[Speaker, random.Random], Traffic]] = {
    each.__name__: each
    for each in (
        one_shot,
        hot_system_prompt,
        hot_conversations,
        agents,
        documents_of_their_own,
        documents_asked_about_again,
        timestamps,
        shuffled_tools,
        slow,
        hot_then_never,
        all_at_once,
    )
}

HOT = ("hot_system_prompt", "hot_conversations", "agents", "documents_asked_about_again")


def traffic(name: str, dialect: str, model: str, *, seed: int = 7) -> Traffic:
    """The traffic of mix *name*, in the order of its moments."""
    return sorted(MIXES[name](Speaker(dialect, model), random.Random(seed)), key=lambda each: each[0])
