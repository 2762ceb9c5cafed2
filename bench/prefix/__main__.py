"""``python -m bench.prefix``: every policy on two hours of traffic, a table, results.json and a picture."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from bench.prefix import contests, picture
from bench.prefix.contests import ANTHROPIC, OPENAI_56, Learned, Outcome, Waits
from bench.prefix.traffic import APPS, Sent, traffic
from proxy.prefix.acting import Action
from proxy.prefix.replicas import Routing

RESULTS = Path(__file__).resolve().parent / "results"

ENGINES = 4
HOLDS = 150_000
"""Tokens that each engine's memory holds."""

PROCESSES = 4

ROUND_ROBIN_S = 1.06
"""How loaded the engines are, by the mean wait of round robin: as published for such traffic."""


def keyed(given: list[Sent], mended: list[Sent], *, anywhere: bool) -> list[Outcome]:
    """OpenAI before 5.6; what comes above the rate goes *anywhere*, or to the next machine."""
    learned, again = Learned(contests.OPENAI), Learned(contests.OPENAI)
    keys = partial(contests.keys, anywhere=anywhere)
    return [
        keys(given, "do nothing", lambda _: ""),
        keys(given, "key = conversation opener", lambda sent: sent.opener.decode()),
        keys(given, "learned", lambda sent: learned(sent).key),
        contests.one_machine(given, "bound"),
        keys(mended, "advice followed, do nothing", lambda _: ""),
        keys(mended, "advice followed, learned", lambda sent: again(sent).key),
        contests.one_machine(mended, "advice followed, bound"),
    ]


def marked(given: list[Sent], mended: list[Sent], *, implicit: bool) -> list[Outcome]:
    """Anthropic, and OpenAI from 5.6 on."""
    rule = OPENAI_56 if implicit else ANTHROPIC
    blind = [] if implicit else [contests.marks(given, "system + last marked", rule, contests.system_and_last)]
    return [
        contests.marks(given, "do nothing", rule, lambda _: Action()),
        *blind,
        contests.marks(given, "learned", rule, Learned(rule)),
        contests.all_knowing(given, "bound", rule),
        contests.marks(mended, "advice followed, do nothing", rule, lambda _: Action()),
        contests.marks(mended, "advice followed, learned", rule, Learned(rule)),
        contests.all_knowing(mended, "advice followed, bound", rule),
    ]


def replicas(given: list[Sent], *, speed: float) -> list[Waits]:
    """Four engines of one's own."""
    fleet = partial(contests.engines, given, count=ENGINES, tokens_per_s=speed, holds=HOLDS)
    shared = partial(contests.one_memory, given, count=ENGINES, tokens_per_s=speed)
    return [
        *[fleet(each) for each in Routing],
        fleet(Routing.PREFIX, processes=PROCESSES, told=False),
        fleet(Routing.PREFIX, processes=PROCESSES),
        shared("bound, one memory of all", holds=ENGINES * HOLDS),
        shared("bound, boundless", holds=None),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all of it; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.prefix", description=__doc__)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-picture", action="store_true", help="without matplotlib")
    chosen = parser.parse_args(arguments)
    given = traffic(hours=chosen.hours, seed=chosen.seed)
    mended = traffic(hours=chosen.hours, seed=chosen.seed, mended=True)
    tokens = sum(each.tokens for each in given)
    print(f"{len(given):,} requests of {len(APPS)} applications, {tokens / 1e6:.1f} million tokens, seed {chosen.seed}")
    tables = {
        "OpenAI before 5.6: keys, overflow to any machine": keyed(given, mended, anywhere=True),
        "OpenAI before 5.6: keys, overflow to the next": keyed(given, mended, anywhere=False),
        "Anthropic: breakpoints": marked(given, mended, implicit=False),
        "OpenAI 5.6: breakpoints beside implicit ones": marked(given, mended, implicit=True),
    }
    for title, outcomes in tables.items():
        print(f"\n{title}\n  {'':32}{'cost index':>12}{'read':>9}")
        for each in outcomes:
            print(f"  {each.policy:32}{100 * each.cost:12.1f}{100 * each.read:8.1f}%")
    speed = contests.speed_for(given, mean_s=ROUND_ROBIN_S, count=ENGINES, holds=HOLDS)
    waits = replicas(given, speed=speed)
    print(f"\nfour engines of {speed:.0f} tokens/s\n  {'':32}{'mean wait':>12}{'p99':>9}{'computed':>10}")
    for wait in waits:
        print(f"  {wait.policy:32}{wait.mean_s:10.2f} s{wait.p99_s:7.2f} s{100 * wait.computed:9.1f}%")
    RESULTS.mkdir(exist_ok=True)
    told = {title: [asdict(each) for each in outcomes] for title, outcomes in tables.items()}
    told["engines"] = [asdict(each) for each in waits]
    (RESULTS / "latest.json").write_text(json.dumps({"requests": len(given), "seed": chosen.seed, **told}, indent=2))
    if not chosen.no_picture:
        picture.draw(tables, waits, RESULTS / "latest.png")
        print(f"\n{RESULTS / 'latest.png'}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
