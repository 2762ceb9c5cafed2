"""The chronicle: minutes, hours and days add up across processes, and a store that fails loses nothing of them."""

import asyncio
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from proxy import cli
from proxy.accounts.books import Books
from proxy.accounts.chronicle import MAX_WAITING_PAGES, Chronicle, Span
from proxy.accounts.ledger import Ledger
from proxy.accounts.money import PARTS
from proxy.accounts.periods import DAY_S, EVER, Window, period, starts
from proxy.errors import CacheError
from proxy.model import Outcome
from proxy.pages import windows
from proxy.stores.shelf import MemoryShelf, MemoryTallies
from proxy.tasks import Tasks
from tests import raw_client
from tests.awaited import awaited
from tests.conftest import StartProxy
from tests.observation import settled, stats
from tests.receipts import hit

ROOT = Path(__file__).resolve().parent.parent
WINDOW, STATS = (
    json.loads((ROOT / "docs" / f"{name}.schema.json").read_text(encoding="utf-8")) for name in ("window", "stats")
)
VALIDATOR = Draft202012Validator(
    WINDOW, registry=Registry().with_resource("stats.schema.json", Resource.from_contents(STATS))
)

# The first second of a day, 2025-10-09.
MIDNIGHT = 1_759_968_000.0


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self, time: float = MIDNIGHT) -> None:
        self.time = time

    def __call__(self) -> float:
        return self.time


class Failing(MemoryTallies):
    """Fails while it is told to."""

    fails = False

    async def add(self, page: str, counts: Mapping[str, int], *, keep_s: float) -> None:
        await asyncio.sleep(0)
        if self.fails:
            raise CacheError("the disk is full")
        await super().add(page, counts, keep_s=keep_s)

    async def read(self, pages: Sequence[str]) -> Sequence[Mapping[str, int]]:
        if self.fails:
            raise CacheError("the disk is full")
        return await super().read(pages)


class Desk:
    """Processes that count together."""

    def __init__(self, *, processes: int = 1) -> None:
        self.clock = Clock()
        self.tallies = Failing(now=self.clock)
        self.shelf = MemoryShelf()
        self.tasks = Tasks()
        self.ledgers = [Ledger(now=self.clock) for _ in range(processes)]
        self.chronicles = [self.joins(ledger) for ledger in self.ledgers]

    def joins(self, ledger: Ledger) -> Chronicle:
        """The chronicle of one more process."""
        return Chronicle(ledger, self.tallies, self.shelf, tasks=self.tasks, shared=True, now=self.clock)

    async def read(self, window: Window = Window.ALL) -> Any:
        """The requests and the dollars of *window*, once everybody put theirs away."""
        for chronicle in self.chronicles:
            await chronicle.put_away()
        self.clock.time += 1.5
        span = await self.chronicles[0].read(window)
        total = span.whole.total
        assert sum(books.total.saved.measured.usd for books in span.steps.values()) == total.saved.measured.usd
        return sum(total.outcomes.counts.values()), total.saved.measured.usd // PARTS


# --- windows ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", Window)
@given(now=st.floats(1e9, 4e9))
def test_the_steps_of_a_window_follow_one_another_up_to_now(window: Window, now: float) -> None:
    steps, length = starts(window, now), period(window).length_s
    assert [after - before for before, after in itertools.pairwise(steps)] == [length] * (len(steps) - 1)
    assert steps[-1] <= now < steps[-1] + length
    assert steps[-1] % length == 0
    spans = {Window.HOUR: 3600, Window.DAY: DAY_S, Window.WEEK: 7 * DAY_S, Window.ALL: 366 * DAY_S}
    assert length * len(steps) == spans[window]


@awaited
async def test_each_window_looks_back_as_far_as_it_says() -> None:
    desk = Desk()
    ages = {0: 4, 59 * 60: 4, 61 * 60: 3, 22 * 3600: 3, 25 * 3600: 2, 6 * DAY_S: 2, 8 * DAY_S: 1, 300 * DAY_S: 1}
    for age in sorted(ages, reverse=True):
        desk.clock.time = MIDNIGHT + 400 * DAY_S + 1800 - age
        desk.ledgers[0].record(hit())
        await desk.chronicles[0].put_away()
    found = [(await desk.read(window))[0] for window in (Window.HOUR, Window.DAY, Window.WEEK, Window.ALL)]
    assert found == [sum(windows >= least for windows in ages.values()) for least in (4, 3, 2, 1)]


@awaited
async def test_processes_add_up() -> None:
    desk = Desk(processes=3)
    for number, ledger in enumerate(desk.ledgers):
        for _ in range(number + 1):
            ledger.record(hit())
    assert [await desk.read(window) for window in Window] == [(6, 18)] * 4


@awaited
async def test_what_was_counted_outlives_the_process() -> None:
    desk = Desk()
    desk.ledgers[0].record(hit())
    await desk.chronicles[0].close()
    desk.clock.time += 7200
    later = Ledger(now=desk.clock)
    desk.ledgers, desk.chronicles = [later], [desk.joins(later)]
    later.record(hit())
    assert await desk.read() == (2, 6)
    assert await desk.read(Window.HOUR) == (1, 3)
    ever = await desk.chronicles[0].ever()
    assert ever is not None
    assert ever[1] == MIDNIGHT


@awaited
async def test_a_day_is_told_from_the_next() -> None:
    desk = Desk()
    for pause, calls in ((0, 1), (DAY_S, 2), (3 * DAY_S, 3)):
        desk.clock.time += pause
        for _ in range(calls):
            desk.ledgers[0].record(hit())
    await desk.read()
    span = await desk.chronicles[0].read(Window.ALL)
    shown = windows.shown(span, window=Window.ALL, by="day", prices_as_of="")
    VALIDATOR.validate(shown)
    told = {day: group["requests"] for day, group in shown["groups"].items()}  # type: ignore[attr-defined]
    assert told == {"2025-10-09": 1, "2025-10-10": 2, "2025-10-13": 3}
    assert [step["requests"] for step in shown["series"]] == [1, 2, 0, 0, 3]  # type: ignore[attr-defined]


# --- faults ----------------------------------------------------------------------------------------------------------


@awaited
async def test_a_store_that_fails_loses_nothing_and_counts_nothing_twice() -> None:
    desk = Desk()
    for fails in (False, True, True, False, True, False):
        desk.tallies.fails = fails
        desk.ledgers[0].record(hit())
        await desk.chronicles[0].put_away()
        desk.clock.time += 61
    assert [await desk.read(window) for window in Window] == [(6, 18)] * 4


@awaited
async def test_a_store_that_fails_for_long_is_waited_for_in_bounds_and_everything_ever_is_kept() -> None:
    desk = Desk()
    desk.tallies.fails = True
    for _ in range(MAX_WAITING_PAGES + 100):
        desk.ledgers[0].record(hit())
        await desk.chronicles[0].put_away()
        desk.clock.time += 60
    assert len(desk.chronicles[0]._waiting) <= MAX_WAITING_PAGES
    desk.tallies.fails = False
    await desk.chronicles[0].put_away()
    assert Books.of(*await desk.tallies.read([EVER])).total.outcomes.counts[Outcome.HIT] == MAX_WAITING_PAGES + 100


@awaited
async def test_a_reader_is_told_that_the_store_fails() -> None:
    desk = Desk()
    desk.tallies.fails = True
    with pytest.raises(CacheError):
        await desk.chronicles[0].read(Window.HOUR)
    assert await desk.chronicles[0].ever() is None


@awaited
async def test_who_leaves_while_it_is_put_away_makes_nothing_count_twice() -> None:
    desk = Desk()
    desk.ledgers[0].record(hit())
    reader = asyncio.ensure_future(desk.chronicles[0].put_away())
    await asyncio.sleep(0)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert await desk.read() == (1, 3)


# --- the page --------------------------------------------------------------------------------------------------------


def page(ways: Any, query: str, *fields: tuple[str, str]) -> tuple[int, Any]:
    """The status of /stats with *query*, and what it shows."""
    answer = raw_client.exchange(ways.proxy, raw_client.request("GET", f"/stats?{query}", fields, host=b"localhost"))
    return answer.status, json.loads(answer.body)


def test_the_schema_of_a_window_refuses_what_it_does_not_name() -> None:
    Draft202012Validator.check_schema(WINDOW)
    shown: Any = windows.shown(
        Span(start=0, end=1, step_s=60, whole=Books(), steps={}, days={}), window=Window.HOUR, by=None, prices_as_of=""
    )
    VALIDATOR.validate(shown)
    for wrong in ({**shown, "surprise": 1}, {**shown, "reasons": {}}, {**shown, "hits": -1}, {**shown, "window": "2h"}):
        assert not VALIDATOR.is_valid(wrong)


@pytest.mark.proxy_only
@pytest.mark.parametrize("window", Window)
def test_a_window_shows_what_stats_show(start_proxy: StartProxy, window: Window) -> None:
    ways = start_proxy()
    for _ in range(3):
        raw_client.exchange(ways.proxy, ways.chat())
    raw_client.exchange(ways.proxy, ways.chat(temperature=1, model="other"))
    plain = settled(ways.proxy, requests=4, fetches=2)
    for by, names in {"model": {"gpt-4o-mini", "other"}, "client": {""}, "tier": {"exact", "none"}}.items():
        status, shown = page(ways, f"window={window}&by={by}")
        VALIDATOR.validate(shown)
        assert (status, shown["window"], shown["by"]) == (200, window, by)
        assert {name for name, group in shown["groups"].items() if group["requests"]} == names
        assert sum(group["requests"] for group in shown["groups"].values()) == 4
    for name in ("requests", "hits", "misses", "bypassed", "reasons", "fetches", "kept", "tokens", "savings", "bytes"):
        assert shown[name] == plain[name]
    assert sum(step["hits"] for step in shown["series"]) == 2
    assert shown["series"][-1]["requests"] == 4


@pytest.mark.proxy_only
def test_a_query_that_means_nothing_is_refused_and_one_of_somebody_elses_is_ignored(start_proxy: StartProxy) -> None:
    ways = start_proxy()
    for query, said in (("window=2h", "1h, 24h, 7d, all"), ("by=colour", "model, client, team, tier, day")):
        status, shown = page(ways, query)
        assert (status, shown["error"]["code"]) == (400, "bad_query")
        assert said in shown["error"]["message"]
    assert page(ways, "pretty=1")[1].keys() == stats(ways.proxy).keys()


@pytest.mark.proxy_only
def test_who_asked_is_for_the_operator(start_proxy: StartProxy) -> None:
    ways = start_proxy(admin__token="word")
    token = ("x-askonce-admin-token", "word")
    seen = {by: (page(ways, f"by={by}")[0], page(ways, f"by={by}", token)[0]) for by in windows.WAYS}
    assert seen == {
        "model": (200, 200),
        "client": (401, 200),
        "team": (401, 200),
        "tier": (200, 200),
        "day": (200, 200),
    }


@pytest.mark.proxy_only
def test_what_was_counted_is_there_after_a_restart(start_proxy: StartProxy, tmp_path: Path) -> None:
    kept = {"store__kind": "sqlite", "store__path": str(tmp_path / "askonce.db")}
    first = start_proxy(**kept)
    for number in range(3):
        raw_client.exchange(first.proxy, first.chat())
        # Who asks while the first answer is on its way into the file joins it, and is no hit.
        before = settled(first.proxy, requests=number + 1, fetches=1)
    assert first.process is not None
    first.process.stop()
    again = start_proxy(**kept)
    for name in ("since", "requests", "hits", "reasons", "tokens", "savings", "models", "tiers", "bytes"):
        assert stats(again.proxy)[name] == before[name]
    raw_client.exchange(again.proxy, again.chat())
    shown = settled(again.proxy, requests=4, fetches=1)
    assert (shown["requests"], shown["hits"]) == (4, 3)
    assert page(again, "window=1h&by=model")[1]["groups"]["gpt-4o-mini"]["requests"] == 4


@pytest.mark.proxy_only
def test_the_command_shows_a_window_as_a_table(
    start_proxy: StartProxy, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ways = start_proxy(admin__token="word")
    for _ in range(2):
        raw_client.exchange(ways.proxy, ways.chat())
    settled(ways.proxy, requests=2, fetches=1)
    url = "http://{}:{}".format(*ways.proxy)
    assert cli.main(["stats", url, "--window", "24h", "--by", "tier"]) == 0
    shown = capsys.readouterr().out
    assert ", 24h, from 20" in shown
    assert [line.split()[:3] for line in shown.splitlines() if line.startswith(("exact", "none"))] == [
        ["exact", "1", "1"],
        ["none", "1", "0"],
    ]
    assert cli.main(["stats", url, "--by", "client"]) == 1
    assert "admin.token" in capsys.readouterr().err
    monkeypatch.setenv("ASKONCE_ADMIN__TOKEN", "word")
    assert cli.main(["stats", url, "--by", "client"]) == 0
    assert ", all, from 20" in capsys.readouterr().out
