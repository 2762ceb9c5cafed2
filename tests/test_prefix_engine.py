"""The prefix tier before a real engine: it reads what is foretold, and replicas chosen by prefix compute less."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from demo.children import Engine
from tests.engine import MODEL, needs_engine, settle
from tests.observation import stats
from tests.proxy_process import ProxyProcess

pytestmark = [needs_engine, pytest.mark.timeout(300), pytest.mark.proxy_only]

TIMEOUT_S = 60.0
WORDS = ("harbour", "clerk", "parcel", "ledger", "ferry", "pilot", "signal", "anchor", "rope", "tide", "berth", "crane")
PREFIX = {"prefix.provider": "llamacpp"}


def words(rng: random.Random, count: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(count))


def conversations(rng: random.Random, count: int, *, systems: int) -> list[list[dict[str, str]]]:
    """Requests of several applications: conversations that go on, branch, repeat, and strangers."""
    heads = [{"role": "system", "content": words(rng, 30)} for _ in range(systems)]
    talks: list[list[dict[str, str]]] = []
    asked: list[list[dict[str, str]]] = []
    while len(asked) < count:
        kind = rng.random()
        if kind < 0.4 and talks:
            talk = rng.choice(talks)
            talk += [{"role": "assistant", "content": words(rng, 12)}, {"role": "user", "content": words(rng, 10)}]
        elif kind < 0.5 and talks:
            talk = [*rng.choice(talks)[:-1], {"role": "user", "content": words(rng, 10)}]
        else:
            talk = [rng.choice(heads), {"role": "user", "content": words(rng, 10)}]
            talks = [*talks[-3:], talk]
        if sum(len(turn["content"]) for turn in talk) < 600:
            asked.append([dict(turn) for turn in talk])
    return asked


def read_by(url: str, asked: list[list[dict[str, str]]]) -> tuple[list[int], list[int]]:
    """Prompt tokens and those read from memory, as the engine says, for each of *asked* in turn."""
    prompts, read = [], []
    with httpx.Client(timeout=TIMEOUT_S, trust_env=False) as client:
        for messages in asked:
            body = {"model": MODEL, "messages": messages, "temperature": 0.7, "seed": 1, "max_tokens": 1}
            usage: dict[str, Any] = client.post(f"{url}/chat/completions", json=body).json()["usage"]
            prompts.append(usage["prompt_tokens"])
            read.append(usage["prompt_tokens_details"]["cached_tokens"])
    return prompts, read


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An engine that has answered nothing yet."""
    with Engine(tmp_path / "engine.log") as running:
        yield running


def base(proxy: ProxyProcess) -> str:
    return f"http://127.0.0.1:{proxy.address[1]}/v1"


def test_what_is_foretold_is_what_the_engine_reads(engine: Engine, tmp_path: Path) -> None:
    asked = conversations(random.Random(3), 50, systems=2)
    with ProxyProcess(engine.url, tmp_path / "proxy.log", settings=PREFIX) as proxy:
        _, read = read_by(base(proxy), asked)
        settle(proxy.address)
        prefix = stats(proxy.address)["prefix"]
    forecast = prefix["forecast"]
    assert (prefix["observed"]["read"], prefix["observed"]["requests"]) == (sum(read), 50)
    # Until it has read something nobody knows whether an engine tells.
    assert forecast["requests"] == forecast["within_a_block"] >= 48
    assert forecast["actual_tokens"] > 8_000
    # A share of the prompt's octets is taken for the same share of its tokens, and the template's own are spread.
    assert abs(forecast["predicted_tokens"] - forecast["actual_tokens"]) < 0.1 * forecast["actual_tokens"]


def test_two_replicas_compute_less_when_they_are_chosen_by_prefix(tmp_path: Path) -> None:
    asked = conversations(random.Random(11), 18, systems=3)
    computed = {}
    for routing in ("round_robin", "prefix"):
        folder = tmp_path / routing
        folder.mkdir()
        with Engine(folder / "a.log") as a, Engine(folder / "b.log") as b:
            settings = {**PREFIX, "upstream.replicas": b.url, "upstream.routing": routing}
            with ProxyProcess(a.url, folder / "proxy.log", settings=settings) as proxy:
                prompts, read = read_by(base(proxy), asked)
            computed[routing] = sum(prompts) - sum(read)
            assert min(a.requests(), b.requests()) > 0
    # Which replica a new text gets is left to chance: most runs compute two thirds.
    assert computed["prefix"] < 0.95 * computed["round_robin"], computed
