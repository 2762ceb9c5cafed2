"""What the proxy says about itself at /stats, read and waited for."""

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from tests import raw_client
from tests.raw_client import Address

Stats: TypeAlias = Mapping[str, Any]

OUTCOMES = ("hits", "joined", "misses", "bypassed", "errors")


def stats(proxy: Address) -> Stats:
    """What stands at /stats now."""
    answer = raw_client.exchange(proxy, raw_client.request("GET", "/_askonce/stats"))
    assert answer.status == 200, answer.status_line
    shown: Stats = json.loads(answer.body)
    return shown


def wait_for_stats(proxy: Address, holds: Callable[[Stats], bool], *, timeout_s: float = 5.0) -> Stats:
    """What stands at /stats once *holds* is true of it; fails after *timeout_s*."""
    deadline = time.monotonic() + timeout_s
    while not holds(shown := stats(proxy)):
        assert time.monotonic() < deadline, f"/stats never came to it within {timeout_s} s: {shown}"
        time.sleep(0.005)
    return shown


def settled(proxy: Address, *, requests: int, fetches: int) -> Stats:
    """What stands at /stats once *requests* calls and *fetches* fetches are accounted for and nothing is under way."""
    return wait_for_stats(
        proxy,
        lambda shown: shown["requests"] >= requests and shown["fetches"] >= fetches and shown["in_flight"] == 0,
    )


def counted(before: Stats, after: Stats, section: str) -> dict[str, int]:
    """What was added in *section* (``reasons``, ``unkept``) from *before* to *after*, zeros left out."""
    return {
        word: count - before[section][word] for word, count in after[section].items() if count != before[section][word]
    }


def assert_adds_up(shown: Stats) -> None:
    """The outcomes and the reasons each add up to the requests."""
    assert shown["requests"] == sum(shown[outcome] for outcome in OUTCOMES), shown
    assert shown["requests"] == sum(shown["reasons"].values()), shown
