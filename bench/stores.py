"""``python -m bench.stores``: what a hit costs with each kind of store, and how a large file does. Loopback only."""

import argparse
import asyncio
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench import load, processes
from bench.load import Job
from bench.processes import Server
from bench.wire import Ask
from proxy.model import Entry, Key
from proxy.stores.codec import Codec
from proxy.stores.sqlite import SqliteStore
from proxy.stores.sqlite_file import SqliteFile
from proxy.stores.sqlite_threads import SqliteThreads

L2_OFF = "semantic.policy=off"

MOST_RATIO = 1.3
MOST_P50_S = 0.002
MOST_LOOKUP_P50_S = 0.001
MOST_START_S = 3.0

PUT_AT_ONCE = 1000
LOOKUPS = 2000
BODY_BYTES = 400


@contextmanager
def redis(folder: str) -> Iterator[str]:
    """A Redis of our own; its URL."""
    port = processes._free_ports(1)[0]
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 10
        while not processes._open(port):
            if time.monotonic() > until:
                raise RuntimeError("redis-server does not start")
            time.sleep(0.02)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        running.terminate()
        running.wait(10)


def hits(rounds: int, requests: int) -> None:
    """CPU of a hit behind the local tier, against the memory store, and its latency without that tier."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="askonce-bench-"))
        origin = stack.enter_context(processes.origin())
        kinds = {"memory": ["store.kind=memory"], "sqlite": ["store.kind=sqlite"]}
        if shutil.which("redis-server"):
            url = stack.enter_context(redis(folder))
            kinds["redis"] = ["store.kind=redis", f"store.url={url}"]
        fronted: dict[str, Server] = {}
        bare: dict[str, Server] = {}
        for kind, settings in kinds.items():
            for servers, more in ((fronted, []), (bare, ["store.local_ttl_s=0", "store.deadline_ms=1000"])):
                path = f"store.path={folder}/{kind}-{len(more)}.db"
                own = [*settings, *([path] if kind == "sqlite" else []), *more]
                servers[kind] = stack.enter_context(processes.proxy(origin.ports[0], L2_OFF, *own))
        for told, ask in (
            ("the very octets repeated", Ask(tag="hit")),
            ("another traceparent each time", Ask(tag="hit-varied", unique_trace=True)),
        ):
            spent: dict[str, list[float]] = {kind: [] for kind in fronted}
            for turn in range(rounds + 1):
                for kind, server in fronted.items():
                    before_s = server.cpu_s()
                    first = 1 + turn * requests
                    load.run(Job(ports=(server.ports[0],), ask=ask, requests=requests, connections=8, first=first))
                    if turn:
                        spent[kind].append((server.cpu_s() - before_s) / requests)
            least = {kind: min(seconds) for kind, seconds in spent.items()}
            print(f"\nCPU of a hit, {told} (least of {rounds} rounds of {requests}):")
            for kind, seconds in least.items():
                ratio = seconds / least["memory"]
                print(f"  {kind:8} {seconds * 1e6:7.1f} us  {ratio:5.2f} x memory{_mark(ratio <= MOST_RATIO)}")
        print("\nlatency of a hit without the local tier, one request at a time:")
        for kind, server in bare.items():
            ask = Ask(tag="bare", unique_trace=True)
            jobs = [
                load.run(Job(ports=(server.ports[0],), ask=ask, requests=500, connections=1, first=1 + turn * 500))
                for turn in range(3)
            ]
            p50_s = min(statistics.median(job.seconds[0]) for job in jobs[1:])
            print(f"  {kind:8} p50 {p50_s * 1e3:6.3f} ms{_mark(p50_s < MOST_P50_S)}")


def _mark(kept: bool) -> str:
    return "" if kept else "   MARK MISSED"


def large_file(entries: int, folder: str) -> None:
    """A file with many small entries: how soon it is open, how soon an entry is found."""
    asyncio.run(_large_file(entries, Path(folder) / "large.db"))


async def _large_file(entries: int, path: Path) -> None:
    store = _opened(path)
    began = time.perf_counter()
    for start in range(0, entries, PUT_AT_ONCE):
        some = [_entry(number) for number in range(start, min(entries, start + PUT_AT_ONCE))]
        kept = await asyncio.gather(*map(store.put, some))
        if not all(kept):
            raise RuntimeError("an entry was not kept")
    filled_s = time.perf_counter() - began
    await store.close()
    began = time.perf_counter()
    store = _opened(path)
    await store.open()
    opened_s = time.perf_counter() - began
    order, seconds = random.Random(1), []
    for _ in range(LOOKUPS):
        key = _key(order.randrange(entries))
        began = time.perf_counter()
        found = await store.get(key)
        seconds.append(time.perf_counter() - began)
        if found is None or found.key != key:
            raise RuntimeError("an entry was not found")
    await store.close()
    p50_s, p99_s = statistics.median(seconds), sorted(seconds)[int(0.99 * len(seconds))]
    size = path.stat().st_size  # noqa: ASYNC240
    print(f"\nsqlite with {entries:,} entries of {BODY_BYTES} bytes, {size / 1e6:,.0f} MB:")
    print(f"  filled   {entries / filled_s:,.0f} entries a second")
    print(f"  opened   {opened_s:.3f} s{_mark(opened_s < MOST_START_S)}")
    print(f"  look-up  p50 {p50_s * 1e3:.3f} ms, p99 {p99_s * 1e3:.3f} ms{_mark(p50_s < MOST_LOOKUP_P50_S)}")


def _opened(path: Path) -> SqliteStore:
    threads = SqliteThreads(SqliteFile(path), deadline_s=10.0)
    return SqliteStore(threads, Codec(), max_bytes=1 << 40)


def _key(number: int) -> Key:
    return Key(f"{number * 0x9E3779B97F4A7C15 % (1 << 64):064x}")


def _entry(number: int) -> Entry:
    body = random.Random(number).randbytes(BODY_BYTES // 2).hex().encode()
    head = b"Content-Type: application/json\r\n"
    return Entry(key=_key(number), dialect="chat", status=200, phrase=b"OK", head=head, body=body, created=1.0)


def main(given: Sequence[str] | None = None) -> int:
    """Run the benches; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.stores", description=__doc__)
    parser.add_argument("--entries", type=int, default=1_000_000, help="in the large file; 0 leaves it out")
    parser.add_argument("--rounds", type=int, default=5, help="of the hits, in turns; 0 leaves them out")
    parser.add_argument("--requests", type=int, default=4000, help="in each round")
    arguments = parser.parse_args(given)
    if arguments.rounds:
        hits(arguments.rounds, arguments.requests)
    if arguments.entries:
        with tempfile.TemporaryDirectory(prefix="askonce-bench-") as folder:
            large_file(arguments.entries, folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
