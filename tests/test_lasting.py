"""Stores that last, as users see them: the same answers after a restart, for every process, and never half of one."""

import json
import time
from pathlib import Path

import pytest

from tests import raw_client
from tests.comparison import Ways
from tests.conftest import StartProxy
from tests.observation import settled, stats
from tests.raw_client import RawAnswer
from tests.redis_server import RedisServer

pytestmark = pytest.mark.proxy_only


WITHOUT_STORE = {("MISS", "cache_fault"), ("JOINED", "in_flight")}
"""What becomes of requests while the store fails: an answer that is still being put away can be joined."""


def said(answer: RawAnswer) -> tuple[str | None, str | None]:
    """What became of a request, and why."""
    return answer.get("x-cache"), answer.get("x-cache-reason")


def ask(ways: Ways, octets: bytes) -> RawAnswer:
    """The answer by way of the proxy."""
    return raw_client.exchange(ways.proxy, octets)


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(tmp_path / "askonce.db")


@pytest.fixture(params=["sqlite", "redis"])
def lasting(request: pytest.FixtureRequest, nonce: str) -> dict[str, str]:
    """The settings of a store that lasts."""
    if request.param == "sqlite":
        return {"store__kind": "sqlite", "store__path": request.getfixturevalue("file")}
    url = request.getfixturevalue("redis_server").url
    return {"store__kind": "redis", "store__url": url, "store__prefix": f"{nonce}:"}


def test_a_restarted_proxy_answers_what_it_answered_before(start_proxy: StartProxy, lasting: dict[str, str]) -> None:
    first = start_proxy(**lasting)
    first.plays(first.fixed())
    answered = ask(first, first.chat())
    assert said(answered) == ("MISS", "not_found")
    assert first.process is not None
    assert first.process.stop() == 0
    second = start_proxy(**lasting)
    again = ask(second, second.chat())
    assert said(again) == ("HIT", "found")
    assert again.body == answered.body
    # The tenants are the same, and still apart.
    other = second.chat().replace(b"sk-contract", b"sk-stranger")
    second.plays(second.fixed())
    assert said(ask(second, other)) == ("MISS", "not_found")
    assert len(second.received()) == 2


def test_two_proxies_on_one_store_answer_for_each_other(start_proxy: StartProxy, lasting: dict[str, str]) -> None:
    one = start_proxy(**lasting)
    other = start_proxy(**lasting)
    one.plays(one.fixed())
    assert said(ask(one, one.chat())) == ("MISS", "not_found")
    settled(one.proxy, requests=1, fetches=1)
    assert [said(ask(other, other.chat())) for _ in range(3)] == [("HIT", "found")] * 3
    assert stats(other.proxy)["hits"] == 3


@pytest.mark.parametrize(
    "kills",
    [2, pytest.param(50, marks=[pytest.mark.nightly, pytest.mark.timeout(600)])],
    ids=lambda kills: f"{kills} kills",
)
def test_a_proxy_killed_at_any_moment_leaves_whole_answers(start_proxy: StartProxy, file: str, kills: int) -> None:
    known: dict[int, bytes] = {}
    for round_ in range(kills):
        ways = start_proxy(store__kind="sqlite", store__path=file)
        assert ways.process is not None
        ways.plays(ways.fixed())
        for number in range(round_ * 20, round_ * 20 + 20):
            octets = ways.chat(messages=[{"role": "user", "content": f"{ways.nonce} {number}"}])
            known[number] = bytes(ask(ways, octets).body)
        # The last may not have been stored when its client had it.
        ways.process.kill()
    ways = start_proxy(store__kind="sqlite", store__path=file)
    hits = 0
    for number, answered in known.items():
        octets = ways.chat(messages=[{"role": "user", "content": f"{ways.nonce} {number}"}])
        for _ in range(2):
            again = ask(ways, octets)
            assert again.body == answered
            hits += again.get("x-cache") == "HIT"
    assert hits > len(known)


def test_a_store_that_cannot_be_opened_costs_hits_and_says_so(start_proxy: StartProxy, tmp_path: Path) -> None:
    (tmp_path / "in-the-way").write_text("")
    ways = start_proxy(store__kind="sqlite", store__path=str(tmp_path / "in-the-way" / "askonce.db"))
    ways.plays(ways.fixed())
    assert said(ask(ways, ways.chat())) == ("MISS", "cache_fault")
    assert {said(ask(ways, ways.chat())) for _ in range(3)} <= WITHOUT_STORE
    health = json.loads(ask(ways, ways.request("GET", "/healthz")).body)
    assert (health["status"], health["degraded"]) == ("degraded", ["store"])
    assert stats(ways.proxy)["store"]["degraded"] is True
    assert ways.process is not None
    assert ways.process.said().count("the store failed; requests go on as misses") == 1


def test_a_redis_that_goes_and_comes_back_costs_hits_and_nothing_else(
    start_proxy: StartProxy, own_redis: RedisServer
) -> None:
    ways = start_proxy(store__kind="redis", store__url=own_redis.url, store__local_ttl_s="0")
    ways.plays(ways.fixed())
    answered = ask(ways, ways.chat())
    settled(ways.proxy, requests=1, fetches=1)
    assert said(ask(ways, ways.chat())) == ("HIT", "found")
    own_redis.stop()
    gone = [ask(ways, ways.chat()) for _ in range(4)]
    assert {said(answer) for answer in gone} <= WITHOUT_STORE
    own_redis.start()
    while said(back := ask(ways, ways.chat())) != ("HIT", "found"):
        assert back.body == answered.body
        time.sleep(0.1)
    assert {bytes(answer.body) for answer in (*gone, back)} == {bytes(answered.body)}
    assert json.loads(ask(ways, ways.request("GET", "/healthz")).body)["status"] == "healthy"
    assert ways.process is not None
    assert ways.process.said().count("the store failed; requests go on as misses") == 1


def test_a_redis_that_hangs_delays_requests_by_no_more_than_its_deadline(
    start_proxy: StartProxy, own_redis: RedisServer
) -> None:
    ways = start_proxy(store__kind="redis", store__url=own_redis.url, store__local_ttl_s="0")
    ways.plays(ways.fixed())
    ask(ways, ways.chat())
    own_redis.pause()
    answers, longest_s = [], 0.0
    for _ in range(6):
        began = time.perf_counter()
        answers.append(ask(ways, ways.chat()))
        longest_s = max(longest_s, time.perf_counter() - began)
    own_redis.resume()
    # 50 ms by contract; this machine may be busy, but nobody waits for one operation after the other.
    assert longest_s < 1.0
    assert {said(answer) for answer in answers} <= WITHOUT_STORE
    assert stats(ways.proxy)["errors"] == 0


def test_a_proxy_starts_without_its_redis_and_takes_to_it_when_it_is_there(
    start_proxy: StartProxy, own_redis: RedisServer
) -> None:
    own_redis.stop()
    ways = start_proxy(store__kind="redis", store__url=own_redis.url)
    ways.plays(ways.fixed())
    assert said(ask(ways, ways.chat())) == ("MISS", "cache_fault")
    own_redis.start()
    while said(ask(ways, ways.chat())) != ("HIT", "found"):
        time.sleep(0.1)
