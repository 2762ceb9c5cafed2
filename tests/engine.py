"""The real engine for tests: llama.cpp on random weights, and the proxy in front of it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from demo.children import Engine, engine_lacks, fetch_json
from tests.proxy_process import ProxyProcess
from tests.raw_client import Address

LACKS = engine_lacks()
needs_engine = pytest.mark.skipif(bool(LACKS), reason=LACKS or "the engine is there")
MODEL = "tiny-random"


@dataclass(frozen=True, slots=True)
class Mark:
    """What the engine's counters showed at one moment."""

    requests: int
    generated_tokens: int


@dataclass(frozen=True, slots=True)
class Stage:
    """An engine and a proxy in front of it."""

    engine: Engine
    proxy: ProxyProcess

    @property
    def base_url(self) -> str:
        """What an application is given as OPENAI_BASE_URL."""
        host, port = self.proxy.address
        return f"http://{host}:{port}/v1"

    @property
    def direct_url(self) -> str:
        """The same without the proxy."""
        return f"{self.engine.url}/v1"

    def settle(self) -> None:
        """Return when the proxy has stored what it fetched: a client may be back before that, and would join."""
        settle(self.proxy.address)

    def mark(self) -> Mark:
        """The engine's counters now."""
        return Mark(self.engine.requests(), self.engine.generated_tokens())


def settle(proxy: Address, within_s: float = 5.0) -> None:
    """Return when nothing is in flight at *proxy* any more."""
    host, port = proxy
    deadline = time.monotonic() + within_s
    while fetch_json(f"http://{host}:{port}/stats")["in_flight"]:
        assert time.monotonic() < deadline, f"still in flight after {within_s} s"
        time.sleep(0.005)


@contextmanager
def fresh_stage(folder: Path) -> Iterator[Stage]:
    """An engine that has answered nothing yet, with a proxy whose cache is empty."""
    folder.mkdir(parents=True, exist_ok=True)
    with Engine(folder / "engine.log") as engine, ProxyProcess(engine.url, folder / "proxy.log") as proxy:
        yield Stage(engine, proxy)
