"""`make demo`: a real engine, the proxy in front of it, the real SDK in front of that; asks, and shows who answered.

The exit code is 0 only if everything happened that the proxy promises.
"""

import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median

from demo import paper
from demo.children import (
    Child,
    Engine,
    NotStartedError,
    engine_lacks,
    fetch_json,
    start_proxy,
    start_scripted_provider,
)
from demo.questions import Asker, Given

LABEL = "random weights: the words are nonsense, the protocol is real"
SKY = "Why is the sky blue?"
SKY_IN_OTHER_WORDS = "What makes the sky blue?"
SEA = "Why is the sea blue?"
RIVERS = "Name three rivers."
RUSH = "What happened in 1969?"
CROWD = 20
SETTLE_WITHIN_S = 5.0

SHOWN = (
    *("version", "uptime_s", "requests", "hits", "joined", "misses", "bypassed", "errors", "hit_rate", "forwarded"),
    *("fetches", "kept", "tokens", "savings", "time_saved_s", "opportunity", "store"),
)
"""What of /stats goes on paper; all of it is some pages long."""


@dataclass(frozen=True, slots=True)
class Step:
    """A question, how it was put, what came back, and what should have."""

    asked: str
    how: str
    answers: Sequence[Given]
    paid: int | None
    """How often the provider had to be asked; None where chance decides: some answers are asked for to learn from."""
    outcomes: frozenset[str]
    """The outcomes that the answers may have, besides the MISS of the one that pays."""


def main() -> int:
    """The exit code: 0 if everything happened as promised."""
    for ending in (signal.SIGTERM, signal.SIGINT):
        # As an exception, so that every child is ended on the way out.
        signal.signal(ending, lambda number, _: sys.exit(128 + number))
    started = time.monotonic()
    with contextlib.ExitStack() as children:
        logs = Path(children.enter_context(tempfile.TemporaryDirectory(prefix="askonce-demo-")))
        paper.title("askonce: ask once; every repeat is free")
        provider, engine = _provider(children, logs)
        try:
            proxy = children.enter_context(start_proxy(provider.url, logs / "proxy.log"))
        except NotStartedError as error:
            paper.say(f"  {error}")
            return 1
        # All that the application is told; its code knows nothing of a proxy.
        os.environ["OPENAI_BASE_URL"] = f"{proxy.url}/v1"
        os.environ["OPENAI_API_KEY"] = "sk-demo-not-a-key"
        os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"
        paper.fact("proxy", f"{proxy.url} in front of {provider.url}")
        paper.fact("client", f"openai {version('openai')}, unchanged; OPENAI_BASE_URL={os.environ['OPENAI_BASE_URL']}")
        asker = Asker()
        children.callback(asker.close)

        steps = _play(asker, "the engine" if engine else "the provider", proxy)
        stats = fetch_json(f"{proxy.url}/stats")
        _sums(steps, engine)
        paper.title("/stats, the beginning of it")
        paper.say("  " + paper.folded({name: stats[name] for name in SHOWN if name in stats}))
        broken = _broken(steps, engine, stats)
    paper.title(f"{len(broken)} promises broken" if broken else "Everything happened as promised")
    for promise in broken:
        paper.say(paper.paint(f"  not as promised: {promise}", "ERROR"))
    paper.say(f"  {time.monotonic() - started:.1f} s in all; every process of the demonstration has ended")
    return 1 if broken else 0


def _provider(children: contextlib.ExitStack, logs: Path) -> tuple[Child, Engine | None]:
    lacks = engine_lacks()
    if not lacks:
        try:
            engine = children.enter_context(Engine(logs / "engine.log"))
        except NotStartedError as error:
            lacks = str(error)
        else:
            paper.fact("engine", f"llama.cpp (xllamacpp {version('xllamacpp')}), a real engine without key or network;")
            paper.fact("", LABEL)
            return engine, engine
    paper.fact("engine", f"cannot be had ({lacks})")
    paper.fact("", "instead: a scripted provider of our own, which echoes; nothing below was thought by a model")
    return children.enter_context(start_scripted_provider(logs / "provider.log")), None


def _play(asker: Asker, paid_by: str, proxy: Child) -> list[Step]:
    """Ask everything, print each row as it is known."""
    paper.title("What was asked, and where each answer came from")
    paper.table_head()
    steps: list[Step] = []

    def row(asked: str, how: str, answers: Sequence[Given], *outcomes: str, paid: int | None = 0) -> None:
        steps.append(Step(asked, how, answers, paid, frozenset(outcomes)))
        paper.table_row(len(steps), asked, how, answers, paid_by)
        _settle(proxy)

    row(SKY, "whole", [asker.ask(SKY)], "MISS", paid=1)
    row(SKY, "whole again", [asker.ask(SKY)], "HIT")
    row(SKY, "now streamed", [asker.ask_streamed(SKY)], "HIT")
    row(RIVERS, "streamed", [asker.ask_streamed(RIVERS)], "MISS", paid=1)
    row(RIVERS, "streamed again", [asker.ask_streamed(RIVERS)], "HIT")
    row(RIVERS, "now whole", [asker.ask(RIVERS)], "HIT")
    row(RUSH, f"async, {CROWD} at once", asker.ask_at_once(RUSH, CROWD), "MISS", "JOINED", "HIT", paid=1)
    row(RUSH, "async, once more", asker.ask_at_once(RUSH, 1), "HIT")
    if _compares(proxy):
        row(SKY_IN_OTHER_WORDS, "in other words", [asker.ask(SKY_IN_OTHER_WORDS)], "HIT", "MISS", paid=None)
        row(SEA, "but one word", [asker.ask(SEA)], "MISS", paid=1)
    row(SKY, "with seed=7", [asker.ask(SKY, seed=7)], "MISS", paid=1)
    row(SKY, "at temperature 1", [asker.ask(SKY, temperature=1)], "BYPASS", paid=1)
    row(SKY, "and once more so", [asker.ask(SKY, temperature=1)], "BYPASS", paid=1)
    paper.say(paper.paint("paid and saved are tokens, as the provider's own usage counts them", "dim"))
    return steps


def _compares(proxy: Child) -> bool:
    """Whether the proxy has a sentence model to compare questions with; says so where it has none."""
    semantic = fetch_json(f"{proxy.url}/stats").get("semantic")
    missing = semantic.get("missing") if isinstance(semantic, dict) else "no semantic tier"
    if missing:
        paper.say(paper.paint(f"questions of the same meaning are not compared: {missing}", "dim"))
    return not missing


def _settle(proxy: Child) -> None:
    # The SDK is content with [DONE]; the proxy keeps a stream when its last octet has come, a moment later.
    deadline = time.monotonic() + SETTLE_WITHIN_S
    while fetch_json(f"{proxy.url}/stats").get("in_flight") and time.monotonic() < deadline:
        time.sleep(0.01)


def _sums(steps: Sequence[Step], engine: Engine | None) -> None:
    answers = [answer for step in steps for answer in step.answers]
    paid = [answer for answer in answers if not answer.free]
    free = [answer for answer in answers if answer.free]
    slowness: dict[str, float] = {}
    for step in steps:
        for answer in step.answers:
            if answer.outcome == "MISS":
                slowness.setdefault(step.asked, answer.seconds)
    hits = [(step.asked, answer.seconds) for step in steps for answer in step.answers if answer.outcome == "HIT"]
    paper.title("What that saved")
    paper.fact("answers", f"{len(answers)} given, {len(paid)} paid for, {len(free)} free")
    saved, spent = sum(answer.tokens for answer in free), sum(answer.tokens for answer in paid)
    paper.fact("tokens", f"{spent} billed, {saved} saved: {saved / (saved + spent):.0%} of what was asked for")
    if hits:
        spared = sum(slowness.get(asked, slowness[SKY]) - seconds for asked, seconds in hits)
        quick, slow = median(seconds for _, seconds in hits), median(slowness.values())
        typical = f"a hit takes {quick * 1000:.1f} ms, asking takes {slow * 1000:.0f} ms (medians)"
        paper.fact("time", f"{spared:.2f} s less waiting over {len(hits)} hits; {typical}")
    if engine:
        said = f"{engine.requests()} requests, {engine.generated_tokens()} tokens generated"
        paper.fact("engine", f"its own counters: {said}")
    paper.fact("its words", f"'{steps[0].answers[0].text.strip()[:70]} ...'")


def _broken(steps: Sequence[Step], engine: Engine | None, stats: dict[str, object]) -> list[str]:
    """Every promise that was not kept, as a sentence."""
    broken: list[str] = []
    texts: dict[str, str] = {}
    for number, step in enumerate(steps, 1):
        paid = sum(not answer.free for answer in step.answers)
        if step.paid is not None and paid != step.paid:
            broken.append(f"row {number} was paid {paid} times, not {step.paid}")
        for answer in step.answers:
            if answer.outcome not in step.outcomes:
                broken.append(f"row {number} said {answer.outcome} ({answer.reason}), not {sorted(step.outcomes)}")
            if answer.finish != "stop" or not answer.text:
                broken.append(f"row {number} ended by {answer.finish!r} after {len(answer.text)} characters")
            if answer.outcome == "BYPASS" and answer.reason != "temperature":
                broken.append(f"row {number} was not refused for its temperature but for {answer.reason!r}")
            if answer.outcome == "MISS":
                texts[step.asked] = answer.text
        # The answer to a question in other words is that of the other.
        source = SKY if step.paid is None else step.asked
        if any(answer.free and answer.text != texts.get(source) for answer in step.answers):
            broken.append(f"row {number} has another text than the answer it repeats")
    answers = [answer for step in steps for answer in step.answers]
    paid_for = [answer for answer in answers if not answer.free]
    expected = {
        "requests": len(answers),
        "hits": sum(answer.outcome == "HIT" for answer in answers),
        "joined": sum(answer.outcome == "JOINED" for answer in answers),
        "misses": sum(answer.outcome == "MISS" for answer in answers),
        "bypassed": sum(answer.outcome == "BYPASS" for answer in answers),
        "errors": 0,
    }
    broken += [
        f"/stats has {name} = {stats.get(name)}, not {count}"
        for name, count in expected.items()
        if stats.get(name) != count
    ]
    if engine:
        generated = sum(answer.completion_tokens for answer in paid_for)
        if engine.requests() != len(paid_for):
            broken.append(f"the engine was asked {engine.requests()} times, not {len(paid_for)}")
        if engine.generated_tokens() != generated:
            broken.append(f"the engine generated {engine.generated_tokens()} tokens, not {generated}")
    return broken


if __name__ == "__main__":
    sys.exit(main())
