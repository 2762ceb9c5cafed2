"""``python -m bench``: measure, print a table, write bench/results/latest.json. Loopback only; ends by itself."""

import argparse
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from bench import cases, processes, report
from bench.report import Results

QUICK_EFFORT = 0.2
TIME_LIMIT_S = 1800


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", metavar="NAMES", help=f"some of {', '.join(cases.NAMES)}, by their beginnings")
    parser.add_argument("--rounds", type=int, default=5, help="how often each server is measured, in turns")
    parser.add_argument("--quick", action="store_true", help="a fifth of the requests, and fewer rounds unless told")
    arguments = parser.parse_args(given)
    if arguments.quick and arguments.rounds == parser.get_default("rounds"):
        arguments.rounds = 3
    wanted = arguments.only.split(",") if arguments.only else []
    for name in wanted:
        if not any(known.startswith(name) for known in cases.NAMES):
            parser.error(f"--only {name}: known are {', '.join(cases.NAMES)}")
    if arguments.rounds < 1:
        parser.error("--rounds: at least 1")
    arguments.names = [n for n in cases.NAMES if not wanted or any(n.startswith(name) for name in wanted)]
    return arguments


def _stop(number: int, frame: FrameType | None) -> None:
    sys.exit(f"stopped by {signal.Signals(number).name}")


def main(given: Sequence[str] | None = None) -> int:
    """Run the benches; the exit status."""
    arguments = _arguments(given)
    for number in (signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, _stop)
    signal.alarm(TIME_LIMIT_S)
    if processes.nginx_version() is None:
        print("nginx is not on this machine: measuring ours alone, without ratios", file=sys.stderr)
    effort = QUICK_EFFORT if arguments.quick else 1.0
    names, rounds = arguments.names, arguments.rounds
    results = Results()
    with cases.bench() as bench:
        for case in cases.CASES:
            if case.name in names:
                print(f"... {case.told}", file=sys.stderr)
                results.costs[case.name] = bench.measure(case, rounds=rounds, effort=effort)
        if cases.LATENCY in names:
            print("... latency", file=sys.stderr)
            results.latency = bench.latency(rounds=rounds, effort=effort)
    if cases.MEMORY in names:
        print("... memory", file=sys.stderr)
        results.memory = cases.memory(effort=effort)
    print(report.table(results))
    command = " ".join(["python -m bench", *(given if given is not None else sys.argv[1:])])
    print(
        f"written to {report.write(results, command=command, rounds=rounds, effort=effort).relative_to(processes.ROOT)}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
