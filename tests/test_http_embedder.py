"""Vectors from an endpoint: what it is asked, what is made of its answer, and everything it can do wrong."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from aiohttp import web
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.accounts.usage import Usage
from proxy.embedders import http
from proxy.embedders.http import HttpEmbedder
from proxy.errors import CacheError, EmbedderError
from proxy.providers.upstream import Upstream
from proxy.settings import UpstreamSettings

Answer = Callable[[dict[str, Any]], web.StreamResponse]


def rows(request: dict[str, Any]) -> list[list[float]]:
    """A vector for each text that differs by its length."""
    return [[float(len(text) % 5), float(len(text) % 7), 1.0] for text in request["input"]]


def good(request: dict[str, Any]) -> web.StreamResponse:
    """What a provider answers, in another order than asked."""
    data = [{"index": at, "embedding": row} for at, row in enumerate(rows(request))]
    return web.json_response({"data": data[::-1], "usage": {"prompt_tokens": 7, "total_tokens": 7}})


class Endpoint:
    """An endpoint that plays *answer*, and remembers what it was asked."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.gate: asyncio.Event | None = None
        self.at_once = 0
        self.most = 0
        self.two = asyncio.Event()

    async def answered(self, request: web.Request) -> web.StreamResponse:
        self.keys.append(request.headers.get("Authorization"))
        body = await request.json()
        self.asked.append(body)
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        if self.at_once == 2:
            self.two.set()
        if self.gate is not None:
            await self.gate.wait()
        self.at_once -= 1
        return self.answer(body)


def played(
    endpoint: Endpoint, play: Callable[[HttpEmbedder], Awaitable[None]], *, timeout_s: float = 5.0, **more: Any
) -> list[Usage]:
    """Let *play* use an embedder in front of *endpoint*; the usage that was told."""
    spent: list[Usage] = []

    async def run() -> None:
        app = web.Application()
        app.router.add_post("/v1/embeddings", endpoint.answered)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        embedder = HttpEmbedder(
            Upstream(UpstreamSettings(url=f"http://127.0.0.1:{port}")),
            target="/v1/embeddings",
            model="m",
            key="sk-secret",
            **{"batch_texts": 3, "max_waiting": 10, "max_calls": 2, **more},
            deadline_s=timeout_s,
            spent=lambda _, usage: spent.append(usage),
        )
        try:
            await play(embedder)
        finally:
            await embedder.close()
            await runner.cleanup()

    asyncio.run(run())
    return spent


def test_texts_get_their_own_rows_of_length_one_in_batches_and_the_usage_is_told() -> None:
    endpoint = Endpoint(good)
    texts = ["a", "bb", "ccc", "dddd", "eeeee"]

    async def play(embedder: HttpEmbedder) -> None:
        found = await embedder.embed(texts)
        wanted = np.array(rows({"input": texts}), dtype=np.float32)
        assert np.allclose(found, wanted / np.linalg.norm(wanted, axis=1, keepdims=True))
        assert embedder.dimension == 3

    spent = played(endpoint, play)
    assert [asked["input"] for asked in endpoint.asked[1:]] == [texts[:3], texts[3:]]
    assert {asked["model"] for asked in endpoint.asked} == {"m"}
    assert set(endpoint.keys) == {"Bearer sk-secret"}
    assert spent == [Usage(input_tokens=7)] * 3


BROKEN: dict[str, Answer] = {
    "an error": lambda _: web.json_response({"error": "no"}, status=500),
    "too many requests": lambda _: web.Response(status=429),
    "no json": lambda _: web.Response(text="<html>"),
    "an array": lambda _: web.json_response([]),
    "no data": lambda _: web.json_response({}),
    "a vector too few": lambda request: web.json_response({"data": [{"index": 0, "embedding": [1.0]}][: len(request)]}),
    "an index twice": lambda request: web.json_response(
        {"data": [{"index": 0, "embedding": [1.0, 2.0]} for _ in request["input"]]}
    ),
    "text for numbers": lambda request: web.json_response(
        {"data": [{"index": at, "embedding": ["x"]} for at, _ in enumerate(request["input"])]}
    ),
    "nothing but zeros": lambda request: web.json_response(
        {"data": [{"index": at, "embedding": [0.0, 0.0]} for at, _ in enumerate(request["input"])]}
    ),
    "no numbers": lambda request: web.json_response(
        {"data": [{"index": at, "embedding": [float("nan")]} for at, _ in enumerate(request["input"])]}
    ),
    "rows of two lengths": lambda request: web.json_response(
        {"data": [{"index": at, "embedding": [1.0] * (at + 1)} for at, _ in enumerate(request["input"])]}
    ),
    "one vector for everything": lambda request: web.json_response(
        {"data": [{"index": at, "embedding": [1.0, 2.0]} for at, _ in enumerate(request["input"])]}
    ),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_an_endpoint_that_is_broken_costs_a_vector_and_raises_nothing_else(broken: str) -> None:
    async def play(embedder: HttpEmbedder) -> None:
        with pytest.raises(EmbedderError):
            await embedder.embed(["a", "bb"])

    played(Endpoint(BROKEN[broken]), play)


def test_an_endpoint_that_keeps_failing_is_left_alone() -> None:
    endpoint = Endpoint(BROKEN["an error"])

    async def play(embedder: HttpEmbedder) -> None:
        for _ in range(9):
            with pytest.raises(CacheError):
                await embedder.embed(["a"])
        assert embedder.resting

    played(endpoint, play)
    assert len(endpoint.asked) < 6


def test_an_endpoint_that_is_silent_is_waited_for_no_longer_than_its_time() -> None:
    endpoint = Endpoint(good)

    async def play(embedder: HttpEmbedder) -> None:
        endpoint.gate = asyncio.Event()
        with pytest.raises(CacheError, match="took longer"):
            await embedder.embed(["a"])
        endpoint.gate.set()

    played(endpoint, play, timeout_s=0.05)


def test_calls_and_waiting_texts_are_bounded() -> None:
    endpoint = Endpoint(good)

    async def play(embedder: HttpEmbedder) -> None:
        await embedder.embed(["first"])
        endpoint.gate = asyncio.Event()
        waiting = [asyncio.ensure_future(embedder.embed(["x" * number])) for number in range(1, 11)]
        await endpoint.two.wait()
        with pytest.raises(EmbedderError, match="wait to be embedded"):
            await embedder.embed(["one too many"])
        endpoint.gate.set()
        await asyncio.gather(*waiting)

    played(endpoint, play)
    assert endpoint.most == 2


def test_nobody_at_the_address_is_an_embedder_error() -> None:
    async def play() -> None:
        embedder = HttpEmbedder(
            Upstream(UpstreamSettings(url="http://127.0.0.1:9", connect_timeout_s=1.0)),
            target="/v1/embeddings",
            model="m",
            key="",
            batch_texts=1,
            max_waiting=1,
            max_calls=1,
            deadline_s=5.0,
            spent=lambda _, __: None,
        )
        with pytest.raises(EmbedderError, match="cannot be asked"):
            await embedder.embed(["a"])
        await embedder.close()

    asyncio.run(play())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["data", "index", "embedding"]), inner),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(json_values)
@example({"data": [{"index": float("inf")}]})
@example({"data": [{"index": 0, "embedding": [10**400]}, {"index": 1, "embedding": [1]}]})
def test_any_answer_is_rows_or_an_embedder_error(answer: object) -> None:
    try:
        found, _ = http.read(json.dumps(answer).encode(), 2)
    except EmbedderError:
        return
    assert found.shape[0] == 2
