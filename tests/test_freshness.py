"""Answers that have expired: in place of an outage, or while their successor is on its way; never unless asked for."""

import asyncio
import dataclasses
import time

import pytest

from proxy import freshness
from proxy.freshness import MAX_REFRESHES, Refreshes
from proxy.model import Entry, Key
from proxy.settings import CacheSettings
from proxy.tasks import Tasks
from tests import answers, raw_client
from tests.answers import DONE, EVENTS
from tests.awaited import awaited
from tests.comparison import Ways
from tests.conftest import StartProxy
from tests.observation import assert_adds_up, settled, stats
from tests.raw_client import RawAnswer
from tests.scripted_provider import Gate, steps

TTL_S = 0.3
OUTAGE = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
BUSY = OUTAGE.replace(b"503 Service Unavailable", b"429 Too Many Requests")
REFUSED = OUTAGE.replace(b"503 Service Unavailable", b"400 Bad Request")

MISS, FOUND = ("MISS", "not_found"), ("HIT", "found")
IN_PLACE = ("HIT", "stale_if_error")
MEANWHILE = ("HIT", "stale_while_revalidate")


def said(answer: RawAnswer) -> tuple[str | None, str | None]:
    return answer.get("x-cache"), answer.get("x-cache-reason")


def ask(ways: Ways, **asked: object) -> RawAnswer:
    return raw_client.exchange(ways.proxy, ways.post("/v1/chat/completions", ways.chat_body(**asked)))


def numbered(ways: Ways, number: int) -> bytes:
    return answers.whole(answers.chat_body(f"{ways.nonce} number {number}"))


def test_by_default_an_outage_is_passed_on_however_old_the_answer(start_proxy: StartProxy) -> None:
    ways = start_proxy(cache__ttl_s=str(TTL_S))
    ways.plays(numbered(ways, 1), OUTAGE)
    assert said(ask(ways)) == MISS
    time.sleep(TTL_S)
    again = ask(ways)
    assert (said(again), again.status) == (MISS, 503)


@pytest.mark.parametrize("store", ["memory", "sqlite", "redis"])
def test_an_expired_answer_stands_in_for_an_outage(
    start_proxy: StartProxy, request: pytest.FixtureRequest, store: str, nonce: str
) -> None:
    settings = {"store__kind": store, "store__path": str(request.getfixturevalue("tmp_path") / "askonce.db")}
    if store == "redis":
        server = request.getfixturevalue("redis_server")
        settings |= {"store__url": server.url, "store__prefix": f"{nonce}:"}
    ways = start_proxy(cache__ttl_s=str(TTL_S), cache__stale_if_error_s="60", **settings)
    ways.plays(numbered(ways, 1), OUTAGE, BUSY, REFUSED, numbered(ways, 2))
    first = ask(ways)
    settled(ways.proxy, requests=1, fetches=1)
    time.sleep(TTL_S)
    for _ in range(2):
        again = ask(ways)
        assert (said(again), again.status, again.body) == (IN_PLACE, 200, first.body)
        assert "ttl=-" in (again.get("cache-status") or "") or "ttl=0" in (again.get("cache-status") or "")
    # A refusal is no outage: it is about the request.
    refused = ask(ways)
    assert (said(refused), refused.status) == (MISS, 400)
    assert b"number 2" in ask(ways).body
    shown = settled(ways.proxy, requests=5, fetches=5)
    assert_adds_up(shown)
    assert shown["hits"] == 2


def test_an_expired_answer_stands_in_for_a_provider_that_cannot_be_reached(start_proxy: StartProxy) -> None:
    ways = start_proxy(cache__ttl_s=str(TTL_S), cache__stale_if_error_s="60", upstream__connect_timeout_s="1")
    ways.plays(numbered(ways, 1))
    first = ask(ways)
    settled(ways.proxy, requests=1, fetches=1)
    ways.provider.stop()
    time.sleep(TTL_S)
    again = ask(ways)
    assert (said(again), again.body) == (IN_PLACE, first.body)


def test_after_its_grace_an_answer_stands_in_for_nothing(start_proxy: StartProxy) -> None:
    ways = start_proxy(cache__ttl_s=str(TTL_S), cache__stale_if_error_s=str(TTL_S))
    ways.plays(numbered(ways, 1), OUTAGE)
    ask(ways)
    time.sleep(2 * TTL_S + 0.1)
    assert ask(ways).status == 503


def test_a_stream_stands_in_for_a_stream(start_proxy: StartProxy) -> None:
    ways = start_proxy(cache__ttl_s=str(TTL_S), cache__stale_if_error_s="60")
    ways.plays(answers.chunked(b"".join([*answers.chat_events([ways.nonce]), DONE]), EVENTS), OUTAGE)
    first = ask(ways, stream=True)
    settled(ways.proxy, requests=1, fetches=1)
    time.sleep(TTL_S)
    again = ask(ways, stream=True)
    assert (said(again), again.body) == (IN_PLACE, first.body)


def test_an_expired_answer_is_given_at_once_and_fetched_anew_once(start_proxy: StartProxy) -> None:
    ways = start_proxy(cache__ttl_s="1", cache__stale_while_revalidate_s="60")
    gate = Gate()
    ways.plays(numbered(ways, 1), steps(gate, numbered(ways, 2)))
    first = ask(ways)
    settled(ways.proxy, requests=1, fetches=1)
    time.sleep(1)
    meanwhile = [ask(ways) for _ in range(5)]
    assert {(said(answer), bytes(answer.body)) for answer in meanwhile} == {(MEANWHILE, bytes(first.body))}
    assert len(ways.provider.wait_for(ways.nonce, count=2)) == 2
    gate.open()
    shown = settled(ways.proxy, requests=6, fetches=2)
    assert_adds_up(shown)
    assert (shown["hits"], shown["misses"], shown["fetches"]) == (5, 1, 2)
    fresh = ask(ways)
    assert said(fresh) == FOUND
    assert b"number 2" in fresh.body


def test_a_request_that_wants_it_fresh_does_not_get_it_stale(start_proxy: StartProxy) -> None:
    ways = start_proxy(cache__ttl_s=str(TTL_S), cache__stale_while_revalidate_s="60", cache__stale_if_error_s="60")
    ways.plays(numbered(ways, 1), numbered(ways, 2))
    ask(ways)
    time.sleep(TTL_S)
    octets = ways.chat(headers=(("Cache-Control", "max-age=30"),))
    assert said(raw_client.exchange(ways.proxy, octets)) == MISS


def test_a_refresh_that_fails_leaves_what_there_was(start_proxy: StartProxy) -> None:
    ways = start_proxy(cache__ttl_s=str(TTL_S), cache__stale_while_revalidate_s="60")
    ways.plays(numbered(ways, 1), OUTAGE, OUTAGE, numbered(ways, 2))
    ask(ways)
    for fetches in (2, 3):
        time.sleep(TTL_S)
        assert said(ask(ways)) == MEANWHILE
        settled(ways.proxy, requests=fetches, fetches=fetches)
    assert stats(ways.proxy)["errors"] == 0


def test_the_time_to_live_goes_by_model_where_a_rule_fits(start_proxy: StartProxy) -> None:
    ways = start_proxy(cache__ttl_s="60", cache__ttl_by_model='{"gpt-4o-*": 0, "gpt-4*": 5}')
    ways.plays(numbered(ways, 1))
    assert [said(ask(ways)) for _ in range(2)] == [MISS, MISS]
    assert said(ask(ways, model="gpt-4.1")) == MISS
    settled(ways.proxy, requests=3, fetches=3)
    assert "ttl=4" in (ask(ways, model="gpt-4.1").get("cache-status") or "")
    ask(ways, model="o3")
    settled(ways.proxy, requests=5, fetches=4)
    assert "ttl=59" in (ask(ways, model="o3").get("cache-status") or "")


def entry(*, expires: float) -> Entry:
    made = Entry(key=Key("a"), dialect="chat", status=200, phrase=b"OK", head=b"", body=b"", created=0.0)
    return dataclasses.replace(made, expires=expires)


def test_an_answer_is_stale_from_its_end_to_the_end_of_its_grace() -> None:
    settings = CacheSettings(stale_if_error_s=10, stale_while_revalidate_s=5)
    assert freshness.grace_s(settings) == 10
    moments = (99.9, 100.0, 104.9, 105.0, 109.9, 110.0)
    assert [freshness.may_stand_in(entry(expires=100), now, settings) for now in moments] == [False, *[True] * 4, False]
    precedes = [freshness.may_precede_refresh(entry(expires=100), now, settings) for now in moments]
    assert precedes == [False, True, True, False, False, False]


@awaited
async def test_no_more_than_so_many_are_fetched_anew_together() -> None:
    tasks = Tasks()
    refreshes = Refreshes(tasks)
    gate = asyncio.Event()
    fetched = []

    async def fetch(number: int) -> None:
        await gate.wait()
        fetched.append(number)

    async def one(number: int) -> None:
        await fetch(number)

    begun = [refreshes.begin(number, lambda number=number: one(number)) for number in range(MAX_REFRESHES + 3)]  # type: ignore[misc]
    assert begun == [True] * MAX_REFRESHES + [False] * 3
    assert refreshes.begin(0, lambda: one(-1))
    gate.set()
    while len(tasks):  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert sorted(fetched) == list(range(MAX_REFRESHES))
    assert refreshes.begin(MAX_REFRESHES, lambda: one(MAX_REFRESHES))
    await tasks.close()
