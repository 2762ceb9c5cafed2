"""``python -m bench.semantic.hits``: how long a semantic answer takes end to end, by each backend, over HTTP.

Questions of some 30 tokens are asked once and answered by the provider; then each is asked in other words, one after
the other, and the replies that came from a neighbour are timed. All are of one scope, so each has its three neighbours.
"""

import argparse
import asyncio
import os
from itertools import islice, product

import aiohttp

from bench import processes
from bench.semantic.asking import DEADLINE, PATIENCE_S, STREAM_SCOPE, Asking
from bench.semantic.provider import Provider
from proxy.encoder import graph

NAMES = ("colour", "size", "name", "address", "number", "owner", "title", "place", "form", "plan", "cover", "frame")
FIRST = (
    "how can i change the {} of my {} order when the {} was agreed by letter and the shop has not answered what i "
    "wrote at all"
)
AGAIN = (
    "how could i change the {} of my {} order when the {} was agreed by letter and the shop has not answered what i "
    "wrote at all"
)
WARMING = 5


async def measure(backend: str, count: int) -> None:
    """Ask, time and print."""
    words = list(islice(product(NAMES, repeat=3), 0, (count + WARMING) * 7, 7))
    provider = Provider()
    await provider.start()
    try:
        settings = (DEADLINE, f"semantic.backend={backend}", "server.drain_s=1")
        with processes.proxy(provider.port, *settings) as server:
            async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE_S)) as session:
                asking = Asking(session, provider, server.ports[0])
                await asking.settled()
                for three in words:
                    await asking.ask(STREAM_SCOPE, FIRST.format(*three), " ".join(three))
                hits, exact = [], []
                for number, three in enumerate(words):
                    word, _, took = await asking.ask(STREAM_SCOPE, AGAIN.format(*three), " ".join(three))
                    if word == "semantic" and number >= WARMING:
                        hits.append(took)
                for three in words:
                    exact.append((await asking.ask(STREAM_SCOPE, FIRST.format(*three), " ".join(three)))[2])
    finally:
        await provider.stop()
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    if not hits:
        raise SystemExit(f"{backend}: none of {count} questions in other words was a hit")
    middle = sorted(hits)[len(hits) // 2] * 1e3
    print(
        f"{backend:12} {len(hits)} hits of {count}: p50 {middle:6.1f} ms, least {min(hits) * 1e3:6.1f} ms; "
        f"an exact hit {sorted(exact)[len(exact) // 2] * 1e3:.1f} ms; load {load} on {os.cpu_count()} processors"
    )


def main() -> None:
    """Measure each backend that is here."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=100, help="questions for each backend")
    count = parser.parse_args().count
    for backend in ["numpy"] if graph.absent() else ["numpy", "onnxruntime"]:
        asyncio.run(measure(backend, count))


if __name__ == "__main__":
    main()
