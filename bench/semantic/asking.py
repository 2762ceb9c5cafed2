"""A client of the proxy under test, and what it tells of each reply."""

import asyncio
import time
from collections.abc import Mapping

import aiohttp

from bench.semantic.provider import Provider

STREAM_SCOPE = 0
PATIENCE_S = 60.0
LOADED_WITHIN_S = 60.0

DEADLINE = "semantic.deadline_s=10"
"""Accuracy is measured, not time: on a machine that does other work too, a deadline would turn hits into misses."""


class Asking:
    """A client of the proxy, and the provider behind it."""

    def __init__(self, session: aiohttp.ClientSession, provider: Provider, port: int) -> None:
        self._session = session
        self._provider = provider
        self._url = f"http://127.0.0.1:{port}"

    def __repr__(self) -> str:
        return f"<Asking {self._url}>"

    async def ask(self, scope: int, text: str, meaning: str) -> tuple[str, str, float]:
        """How it ended, whose answer came, and how long that took in seconds."""
        self._provider.means(scope, text, meaning)
        body = {
            "model": "gpt-4o-mini",
            "temperature": 0,
            "seed": scope,
            "messages": [{"role": "user", "content": text}],
        }
        start = time.perf_counter()
        async with self._session.post(f"{self._url}/v1/chat/completions", json=body) as answer:
            said = await answer.json()
            took = time.perf_counter() - start
            label = answer.headers["x-cache"]
            status = answer.headers.get("cache-status", "")
            word = answer.headers.get("x-cache-tier", "") if label == "HIT" else status.partition("semantic=")[2]
            return word or label.lower(), said["system_fingerprint"], took

    async def settled(self) -> Mapping[str, object]:
        """What /stats says of the tier, once it is there."""
        until = time.monotonic() + LOADED_WITHIN_S
        while True:
            async with self._session.get(f"{self._url}/_askonce/stats") as answer:
                shown: Mapping[str, Mapping[str, object]] = await answer.json()
            if shown["semantic"]["state"] == "ready":
                return shown["semantic"]
            if time.monotonic() > until or shown["semantic"]["state"] == "off":
                raise SystemExit(f"the semantic tier is {shown['semantic']['state']}: {shown['semantic']['missing']}")
            await asyncio.sleep(0.1)
