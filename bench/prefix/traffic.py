"""Twelve applications, four of them with a defect, and what they send; the same for the same seed.

Prompts are made of labelled stretches of so many tokens instead of texts: the policies see the same chains and segments
that they see in the product, and two hours of traffic take seconds.

Rates and lengths are set so that two hours are about 44,000 requests of 300 million tokens, of which one boundless
machine would read 79 % as it is and 87 % where the defects are mended: as was published for such traffic.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b

from proxy.prefix.chain import Chain
from proxy.prefix.prompt import Part, Prompt, Segment

OCTETS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """One application."""

    name: str
    kind: str
    """``once``, ``chat``, ``agent`` or ``documents``."""
    per_minute: float
    """New conversations, or single requests."""
    head: int
    """Tokens of tools and system prompt."""
    defect: str = ""
    """``head``: something changes at the very beginning; ``middle``: half-way; ``tools``: their order changes."""


APPS = (
    App(name="support chat", kind="chat", per_minute=9, head=5000),
    App(name="sales chat", kind="chat", per_minute=4, head=2500),
    App(name="coding agent", kind="agent", per_minute=2.2, head=8000),
    App(name="research agent", kind="agent", per_minute=0.9, head=4000),
    App(name="classifier", kind="once", per_minute=36, head=2000),
    App(name="translator", kind="once", per_minute=15, head=700),
    App(name="summaries", kind="documents", per_minute=36, head=1200),
    App(name="contracts", kind="documents", per_minute=9, head=1500),
    App(name="assistant with a clock", kind="chat", per_minute=5, head=3000, defect="head"),
    App(name="tickets with an id", kind="once", per_minute=22, head=2200, defect="middle"),
    App(name="agent with shuffled tools", kind="agent", per_minute=0.25, head=4000, defect="tools"),
    App(name="reports with a date", kind="once", per_minute=8, head=2600, defect="head"),
)


@dataclass(frozen=True, slots=True)
class Sent:
    """One request."""

    at_s: float
    app: str
    opener: bytes
    """What its conversation began with."""
    prompt: Prompt
    chain: Chain

    @property
    def tokens(self) -> int:
        """Its length."""
        return self.chain.octets // OCTETS_PER_TOKEN

    def upto(self, segment: int) -> int:
        """Tokens up to the end of *segment*."""
        return self.chain.ends[segment] // OCTETS_PER_TOKEN


Stretch = tuple[str, int, Part, bool]
"""A label that stands for the text, its tokens, what it is, and whether it ends a turn."""


def built(at_s: float, app: App, stretches: list[Stretch], opener: str) -> Sent:
    """A request of *stretches*."""
    running = blake2b(app.name.encode(), digest_size=8)
    digests, ends, segments, done = [], [], [], 0
    for number, (label, tokens, part, ends_turn) in enumerate(stretches):
        running.update(label.encode() + b"\0")
        done += tokens * OCTETS_PER_TOKEN
        digests.append(running.copy().digest())
        ends.append(done)
        at = ("messages", number, "content", 0, "text")
        segments.append(Segment(part=part, at=at, role="user", octets=b"x", ends_turn=ends_turn))
    chain = Chain(digests=tuple(digests), ends=tuple(ends), bounds=tuple(range(1, len(digests) + 1)))
    prompt = Prompt(model="m", settings=(("app", app.name),), segments=tuple(segments))
    return Sent(at_s, app.name, opener.encode(), prompt, chain)


def traffic(*, hours: float, seed: int, mended: bool = False, scale: float = 1.0) -> list[Sent]:
    """Everything that is sent in *hours*; *mended*: the advice was followed, and nothing changes but at the end."""
    sent: list[Sent] = []
    for app in APPS:
        rng = random.Random(f"{seed} {app.name}")
        app = replace(app, per_minute=app.per_minute * scale, defect="" if mended else app.defect)
        now = 0.0
        while (now := now + rng.expovariate(app.per_minute / 60.0)) < hours * 3600.0:
            sent += _conversation(app, now, rng)
    return sorted([each for each in sent if each.at_s < hours * 3600.0], key=lambda each: each.at_s)


def _head(app: App, rng: random.Random) -> list[Stretch]:
    first, second = app.head // 2, app.head - app.head // 2
    # Drawn whether or not it is used: mended traffic is the same in all else.
    volatile = f"{rng.random()}"
    order = rng.sample(range(6), 6)
    match app.defect:
        case "head":
            return [(volatile, 12, Part.SYSTEM, True), ("head", app.head, Part.SYSTEM, True)]
        case "middle":
            return [("first", first, Part.SYSTEM, True), (volatile + "second", second, Part.SYSTEM, True)]
        case "tools":
            tools: list[Stretch] = [(f"tool {n}", first // 6, Part.TOOLS, n == order[-1]) for n in order]
            return [*tools, ("system", second, Part.SYSTEM, True)]
        case _:
            return [("first", first, Part.SYSTEM, True), ("second", second, Part.SYSTEM, True)]


def _conversation(app: App, start: float, rng: random.Random) -> Iterator[Sent]:
    name = f"{rng.random()}"
    match app.kind:
        case "once":
            stretches = [*_head(app, rng), (name, rng.randrange(60, 300), Part.TURN, True)]
            yield built(start, app, stretches, name)
        case "documents":
            now, document = start, rng.randrange(2000, 6000)
            for turn in range(1 if rng.random() < 0.6 else rng.randrange(3, 9)):
                asked: list[Stretch] = [(name, document, Part.TURN, False), (f"{name} {turn}", 40, Part.TURN, True)]
                yield built(now, app, [*_head(app, rng), *asked], name)
                now += rng.expovariate(1 / 45.0)
        case _:
            agent = app.kind == "agent"
            now, said = start, list[Stretch]()
            head = _head(app, rng)
            for turn in range(rng.randrange(10, 35) if agent else rng.randrange(2, 9)):
                tokens = rng.randrange(200, 700) if agent else rng.randrange(50, 200)
                said.append((f"{name} {turn}", tokens, Part.TURN, True))
                yield built(now, app, [*(_head(app, rng) if app.defect else head), *said], name)
                said.append((f"{name} {turn} answer", tokens, Part.TURN, True))
                now += rng.expovariate(1 / (8.0 if agent else 35.0))
