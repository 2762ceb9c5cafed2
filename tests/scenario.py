"""A scenario: a few calls, and what the client, the provider and /stats have to say about them."""

import json
import re
import time
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import brotli
import zstandard

from tests import answers, raw_client
from tests.observation import assert_adds_up, counted, wait_for_stats
from tests.proxy_process import ProxyProcess
from tests.raw_client import Ending, Headers, RawAnswer
from tests.scripted_provider import Script, ScriptedProvider, steps

CHAT = "/v1/chat/completions"
KEY = ("Authorization", "Bearer sk-scenario")

NONCE = "NONCE"
"""Stands in a call for the word by which its scenario is known to the provider."""

FORWARDED = "forwarded"
"""The label of a call that the cache has no part in."""

Body: TypeAlias = "Mapping[str, object] | bytes | None"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request."""

    body: Body = None
    path: str = CHAT
    method: str = "POST"
    headers: Headers = ()
    key: tuple[str, str] | None = KEY
    after_s: float = 0.0
    """How long to wait before it is sent."""

    def octets(self, nonce: str) -> bytes:
        """It, spelled out for one scenario."""
        body = self.body
        if isinstance(body, Mapping):
            body = answers.compact(body)
        keyed = () if self.key is None else (self.key,)
        fields = [("Content-Type", "application/json"), ("x-nonce", nonce), *keyed, *self.headers]
        if body is not None:
            body = body.replace(NONCE.encode(), nonce.encode())
        return raw_client.request(self.method, self.path, fields, body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Calls in their order; the label of each is its ``x-cache`` and ``x-cache-reason``."""

    id: str
    calls: tuple[Ask | Mapping[str, object], ...]
    labels: tuple[str, ...]
    fetches: int
    """How many requests reach the provider."""
    settings: Mapping[str, str] = field(default_factory=dict)
    plays: tuple[Script | bytes, ...] = ()
    """What the provider answers, one each, the last one from then on; else friendly answers, each unlike the others."""
    unkept: tuple[str, ...] = ()
    """Why answers were not kept, as /stats has it."""
    alone: bool = False
    """It leaves something behind in the proxy that others would notice."""

    def asks(self) -> tuple[Ask, ...]:
        """The calls; a bare body is a chat request."""
        return tuple(call if isinstance(call, Ask) else Ask(body=call) for call in self.calls)


def play(scenario: Scenario, provider: ScriptedProvider, proxy: ProxyProcess, nonce: str) -> list[RawAnswer]:
    """Send the calls one after the other and hold everybody to what the scenario says; the answers, for more."""
    assert len(scenario.calls) == len(scenario.labels)
    if scenario.plays:
        provider.on(nonce, *(steps(each) if isinstance(each, bytes) else each for each in scenario.plays))
    # What an earlier one left under way would be counted with this one.
    before = wait_for_stats(proxy.address, lambda shown: shown["in_flight"] == 0)
    requests, fetches = before["requests"], before["fetches"]
    got: list[RawAnswer] = []
    for number, (ask, label) in enumerate(zip(scenario.asks(), scenario.labels, strict=True)):
        time.sleep(ask.after_s)
        asked_before = len(provider.requests(nonce))
        octets = ask.octets(nonce)
        answer = raw_client.exchange(proxy.address, octets)
        where = f"{scenario.id}, call {number}"
        assert _label(answer) == label, f"{where}: {answer.status_line!r} {answer.header_lines} {answer.body[:300]!r}"
        fetched = len(provider.requests(nonce)) - asked_before
        outcome = label.partition(" ")[0]
        match outcome:
            case "HIT":
                assert fetched == 0, where
                assert answer.ending is Ending.WHOLE, where
                assert _comes_from(answer, got), f"{where}: nobody was ever told {bytes(answer.body)!r}"
            case "ERROR":
                assert fetched <= 1, where
            case _:
                assert fetched == 1, f"{where}: {fetched} requests upstream"
        got.append(answer)
        requests += outcome != FORWARDED
        fetches += outcome in ("MISS", "BYPASS")
        due = (requests, fetches)
        after = wait_for_stats(
            proxy.address,
            lambda shown, due=due: (  # type: ignore[misc]
                shown["requests"] >= due[0] and shown["fetches"] >= due[1] and shown["in_flight"] == 0
            ),
        )
    assert_adds_up(after)
    assert len(provider.requests(nonce)) == scenario.fetches
    assert counted(before, after, "unkept") == Counter(scenario.unkept)
    reasons = (label.partition(" ")[2] for label in scenario.labels if label != FORWARDED)
    due_reasons = Counter(reasons)
    found = counted(before, after, "reasons")
    assert found == due_reasons, f"{scenario.id}: {found}"
    return got


def plain(answer: RawAnswer) -> bytes:
    """The body of *answer* without its content coding."""
    body = bytes(answer.body)
    match answer.get("content-encoding"):
        case None | "identity":
            return body
        case "gzip":
            return zlib.decompress(body, 31)
        case "deflate":
            return zlib.decompress(body)
        case "br":
            decoded: bytes = brotli.decompress(body)
            return decoded
        case "zstd":
            return zstandard.ZstdDecompressor().decompressobj().decompress(body)
        case other:
            raise AssertionError(f"a test does not know {other}")


def identities(body: bytes) -> set[str]:
    """The ids by which one answer is told from another, in whatever form it is."""
    return set(re.findall(r'"((?:chatcmpl|cmpl|resp|msg)[-_]\w+)"', body.decode("utf-8", "replace")))


def events(body: bytes) -> list[Any]:
    """The JSON objects of an event stream, ``[DONE]`` left out."""
    lines = (line.removeprefix(b"data: ") for line in body.split(b"\n") if line.startswith(b"data: "))
    return [json.loads(line) for line in lines if line != b"[DONE]"]


def _label(answer: RawAnswer) -> str:
    outcome, reason = answer.get("x-cache"), answer.get("x-cache-reason")
    return FORWARDED if outcome is None else f"{outcome} {reason}"


def _comes_from(answer: RawAnswer, earlier: list[RawAnswer]) -> bool:
    told = plain(answer)
    if answer.get("x-cache-reason") == "found":
        return any(told == plain(one) for one in earlier)
    return any(identities(told) == identities(plain(one)) != set() for one in earlier)
