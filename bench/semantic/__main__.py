"""``python -m bench.semantic DIRECTORY``: ask labelled questions through the running proxy, count, draw a picture.

Pairs: the first question of each is asked, then the second, in a scope of their own. A stream: all questions in order
in one scope. A hit is right where the answer that came was made for a question of the same meaning. Loopback only.
"""

import argparse
import asyncio
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from bench import processes
from bench.semantic import baseline, picture, sets
from bench.semantic.asking import DEADLINE, PATIENCE_S, STREAM_SCOPE, Asking
from bench.semantic.baseline import Tally
from bench.semantic.provider import Provider, fingerprint
from bench.semantic.sets import Item, Pair

RESULTS = Path(__file__).parent.parent / "results"
SEED = 11


@dataclass(slots=True)
class Outcome:
    """What came of one set."""

    tally: Tally = field(default_factory=Tally)
    words: Counter[str] = field(default_factory=Counter)
    """How each second question ended: ``semantic``, ``exact``, or why it was none."""
    groups: dict[str, Tally] = field(default_factory=dict)
    hit_ms: list[float] = field(default_factory=list)
    miss_ms: list[float] = field(default_factory=list)


async def ask_pairs(asking: Asking, asked: Sequence[Pair], *, first_scope: int, at_once: int) -> Outcome:
    """Every pair in a scope of its own."""
    outcome = Outcome()
    gate = asyncio.Semaphore(at_once)

    async def one(scope: int, pair: Pair) -> None:
        async with gate:
            await asking.ask(scope, pair.first, "one")
            if pair.first == pair.second:
                return
            word, whose, took = await asking.ask(scope, pair.second, "one" if pair.same else "two")
        served = whose == fingerprint(scope, pair.first)
        if served != (word == "semantic"):
            raise SystemExit(f"a reply that calls itself {word} is the answer to the other question: {pair}")
        outcome.words[word] += 1
        (outcome.hit_ms if served else outcome.miss_ms).append(took * 1000)
        baseline.count(outcome.tally, same=pair.same, served=served)
        baseline.count(outcome.groups.setdefault(pair.group, Tally()), same=pair.same, served=served)

    await asyncio.gather(*(one(first_scope + at, pair) for at, pair in enumerate(asked)))
    return outcome


async def ask_stream(asking: Asking, asked: Sequence[Item]) -> Outcome:
    """All of a stream, one after the other."""
    outcome = Outcome()
    tally = outcome.tally
    meant: dict[str, str] = {}
    seen: set[str] = set()
    for at, item in enumerate(asked):
        word, whose, took = await asking.ask(STREAM_SCOPE, item.text, item.meaning)
        meant.setdefault(fingerprint(STREAM_SCOPE, item.text), item.meaning)
        outcome.words[word] += 1
        if word == "exact":
            continue
        tally.repeats += item.meaning in seen
        tally.others += item.meaning not in seen
        if word == "semantic":
            right = meant[whose] == item.meaning
            tally.right += right
            tally.wrong += not right
            outcome.hit_ms.append(took * 1000)
        else:
            seen.add(item.meaning)
            outcome.miss_ms.append(took * 1000)
        if (at + 1) % 500 == 0:
            print(f"... {at + 1} of {len(asked)}: {_told(tally)}", file=sys.stderr)
    return outcome


def _told(tally: Tally) -> str:
    return (
        f"recall {tally.recall * 100:5.1f} %  FHR {tally.false_of_others * 100:5.1f} %  "
        f"f/hit {tally.false_of_hits * 100:5.1f} %  ({tally.right} right, {tally.wrong} wrong, "
        f"{tally.repeats} repeats, {tally.others} others)"
    )


def _median(values: Sequence[float]) -> float:
    return round(sorted(values)[len(values) // 2], 1) if values else 0.0


def _figures(tally: Tally) -> dict[str, float]:
    return {
        "recall": round(tally.recall, 4),
        "fhr": round(tally.false_of_others, 4),
        "false_per_hit": round(tally.false_of_hits, 4),
        "right": tally.right,
        "wrong": tally.wrong,
        "repeats": tally.repeats,
        "others": tally.others,
    }


async def run(arguments: argparse.Namespace) -> int:
    """Measure everything that was asked for; the exit status."""
    directory = Path(arguments.directory)
    known = {**sets.pair_sets(directory), **sets.streams(directory)}
    chosen = arguments.only.split(",") if arguments.only else list(known)
    if not known or set(chosen) - known.keys():
        print(f"{directory} has {', '.join(known) or 'no labelled questions'}", file=sys.stderr)
        return 2
    model = None if arguments.no_baseline else baseline.encoder()
    results: dict[str, object] = {"settings": arguments.set, "command": " ".join(sys.argv)}
    provider = Provider()
    await provider.start()
    try:
        scope = 1
        for name in chosen:
            # A proxy for each set: what it learns from one shall not tell in another.
            with processes.proxy(provider.port, DEADLINE, "server.drain_s=1", *arguments.set) as server:
                timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
                async with aiohttp.ClientSession(timeout=timeout) as session:
                    asking = Asking(session, provider, server.ports[0])
                    await asking.settled()
                    print(f"\n{name}")
                    if name in sets.streams(directory):
                        items = sets.stream(known[name], most=arguments.stream)
                        outcome = await ask_stream(asking, items)
                        plain = list(baseline.of_stream(model, items)) if model is not None else []
                    else:
                        pairs = sets.pairs(known[name], most=arguments.most, seed=SEED)
                        outcome = await ask_pairs(asking, pairs, first_scope=scope, at_once=arguments.at_once)
                        scope += len(pairs)
                        plain = list(baseline.of_pairs(model, pairs)) if model is not None else []
                    shown = await asking.settled()
            results[name] = _report(name, outcome, plain, shown)
    finally:
        await provider.stop()
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"semantic{arguments.name}.json"
    file.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(f"\n{file}")
    return 0


def _report(
    name: str, outcome: Outcome, plain: Sequence[tuple[float, Tally]], shown: Mapping[str, object]
) -> Mapping[str, object]:
    print(f"  proxy         {_told(outcome.tally)}")
    for threshold, tally in plain:
        print(f"  cosine {threshold:.3f}  {_told(tally)}")
    print(f"  ended: {dict(outcome.words.most_common())}")
    print(
        f"  p50 of a semantic hit {_median(outcome.hit_ms)} ms, of a miss {_median(outcome.miss_ms)} ms (busy or not)"
    )
    for group, tally in sorted(outcome.groups.items()):
        if len(outcome.groups) > 1 and tally.wrong:
            print(f"    {group[:60]:60} {_told(tally)}")
    drawn = {
        "askonce": [(outcome.tally.false_of_hits, outcome.tally.recall, "default")],
        "one cosine": [(tally.false_of_hits, tally.recall, f"{threshold:g}") for threshold, tally in plain],
    }
    if plain:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"semantic-{name}.svg").write_text(picture.draw(name, drawn), encoding="utf-8")
    return {
        "proxy": _figures(outcome.tally),
        "cosine": {f"{threshold:g}": _figures(tally) for threshold, tally in plain},
        "ended": dict(outcome.words),
        "groups": {group: _figures(tally) for group, tally in outcome.groups.items()}
        if len(outcome.groups) > 1
        else {},
        "p50_hit_ms": _median(outcome.hit_ms),
        "p50_miss_ms": _median(outcome.miss_ms),
        "tier": shown,
    }


def main() -> int:
    """Read what is asked for, and do it."""
    parser = argparse.ArgumentParser(prog="python -m bench.semantic", description=__doc__)
    parser.add_argument("directory", help="where pairs_*.jsonl (a, b, label) and stream_*.jsonl (text, cls) lie")
    parser.add_argument("--only", metavar="NAMES", help="some of the sets, by name")
    parser.add_argument("--most", type=int, default=400, help="pairs of each set, drawn by a fixed seed")
    parser.add_argument("--stream", type=int, default=6000, help="questions of each stream, from its beginning")
    parser.add_argument("--at-once", type=int, default=4, help="pairs that are asked at the same time")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=value", help="a setting of the proxy")
    parser.add_argument("--no-baseline", action="store_true", help="without the plain cosine beside it")
    parser.add_argument("--name", default="", help="put behind the name of the results")
    return asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
