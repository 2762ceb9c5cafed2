"""The semantic tier with a model of our own making: what it serves, what it refuses, and what it learns."""

import asyncio
import hashlib
import json
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from proxy.call import Candidate
from proxy.errors import CacheError
from proxy.model import Apart, Entry, Form, Judgement, Key, Neighbour, TenantId, Veto
from proxy.policy import Control, Plan
from proxy.ports import Shelf, Store, Tallies, VectorIndex, Vectors
from proxy.providers.routing import Route
from proxy.semantic.bars import Bar, FixedBar, Passage, bar
from proxy.semantic.question import Question
from proxy.semantic.recall import Recalled
from proxy.settings import SemanticSettings
from proxy.stores.memory import MemoryStore
from proxy.stores.shelf import MemoryShelf, MemoryTallies
from proxy.stores.sqlite_file import SqliteFile
from proxy.stores.sqlite_shelf import SqliteShelf, SqliteTallies
from proxy.stores.sqlite_threads import SqliteThreads
from proxy.tasks import Tasks
from proxy.tiers import given, learning, pairs
from proxy.tiers.given import KEPT_S, Given
from proxy.tiers.semantic import Inquiry, SemanticTier
from proxy.vectors.block import BlockIndex
from tests.awaited import awaited

NOW = 1000.0
ASKED = "how do i reset my password"
SAME = "how do i reset a password"
OTHER = "where do penguins live in winter"

FIXED = SemanticSettings(policy="fixed", threshold=0.7, deadline_s=5.0)


class WordEmbedder:
    """Texts as bags of words: the more words they share, the nearer they are."""

    identity = "words"
    dimension = 256

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.broken = False

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """One row each."""
        self.asked.append(list(texts))
        await self.gate.wait()
        if self.broken:
            raise CacheError("the embedder is on fire")
        rows = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in text.split():
                row[sum(word.encode()) * 7 % self.dimension] += 1
        unit: Vectors = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        return unit

    async def close(self) -> None:
        """Nothing."""


class WordVerifier:
    """The cosine for a score; ``not`` on one side alone is a veto."""

    identity = "words"

    def __init__(self) -> None:
        self.judged: list[list[str]] = []

    async def judge(self, asked: str, neighbours: Sequence[Neighbour]) -> tuple[Judgement, ...]:
        """A judgement each."""
        self.judged.append([neighbour.text for neighbour in neighbours])
        return tuple(
            Judgement(score=0.0, fast=0.0, stage="guards", vetoes=(Veto(guard="negation"),))
            if ("not" in asked.split()) != ("not" in neighbour.text.split())
            else Judgement(score=neighbour.cosine, fast=neighbour.cosine, stage="fast")
            for neighbour in neighbours
        )


@dataclass
class House:
    """A tier, and what it stands on."""

    settings: SemanticSettings = FIXED
    bar: Bar = field(default_factory=lambda: FixedBar(0.7))
    chance: float = 0.5
    keeps_vectors: bool = False
    store: Store = field(default_factory=lambda: MemoryStore(max_bytes=1 << 20, now=lambda: NOW))
    shelf: Shelf = field(default_factory=MemoryShelf)
    tallies: Tallies | None = None
    embedder: WordEmbedder = field(default_factory=WordEmbedder)
    verifier: WordVerifier = field(default_factory=WordVerifier)
    tasks: Tasks = field(default_factory=Tasks)
    beside: Callable[[VectorIndex], VectorIndex] = lambda own: own
    """What the tier searches, given the block of its own."""

    def __post_init__(self) -> None:
        self.index = BlockIndex(dimension=self.embedder.dimension, max_bytes=1 << 22)
        self.tier = SemanticTier(
            self.settings,
            embedder=self.embedder,
            verifier=self.verifier,
            index=self.beside(self.index),
            store=self.store,
            shelf=self.shelf,
            bar=self.bar,
            tasks=self.tasks,
            keeps_vectors=self.keeps_vectors,
            given=Given(self.tallies, tasks=self.tasks) if self.tallies is not None else None,
            now=lambda: NOW,
            chance=lambda: self.chance,
        )

    async def begin(self) -> None:
        """Load the model."""

        async def load() -> None:
            pass

        await self.tier.begin(load)

    def inquiry(self, text: str, *, maker: str = "", scope: str = "p1", **asked: Any) -> Inquiry | None:
        """A question on its way."""
        question = Question(text=text, scope=scope)
        candidate = Candidate(
            model="m",
            asked=Control(**asked),
            plan=Plan(read=True, write=True, join=True, reason="not_found"),  # type: ignore[arg-type]
            form=Form(),
            tenant=TenantId("t"),
            identity=Key(key_of(text)),
            route=Route(),
            question=question,
        )
        return self.tier.inquiry(key_of(text), candidate, question, scope=scope, maker=maker)

    async def ask(self, text: str, **how: Any) -> Recalled | Apart:
        """What the tier says; where it finds something, that is served."""
        inquiry = self.inquiry(text, **how)
        if inquiry is None:
            return Apart.REFUSED
        found = await self.tier.recall(inquiry)
        if found is None:
            return inquiry.apart
        self.tier.served(found)
        return found

    async def fetch(
        self, text: str, answer: str = "", *, maker: str = "", scope: str = "p1", **how: Any
    ) -> Recalled | Apart:
        """What the tier says; where it finds nothing, the question gets an answer of its own, which is kept."""
        inquiry = self.inquiry(text, maker=maker, scope=scope, **how)
        found = await self.tier.recall(inquiry) if inquiry is not None else None
        if found is not None:
            self.tier.served(found)
            return found
        bare = entry(text, answer or f"About {text}.")
        question = Question(text=text, scope=scope)
        kept = self.tier.marked(bare, question, inquiry, scope=scope, maker=maker)
        assert await self.store.put(kept)
        self.tier.kept(kept, inquiry)
        await self.settle()
        return inquiry.apart if inquiry is not None else Apart.REFUSED

    async def settle(self) -> None:
        """Wait until nothing goes on in the background."""
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)


def key_of(text: str) -> Key:
    """An exact key."""
    return Key(hashlib.sha256(text.encode()).hexdigest())


def entry(text: str, answer: str) -> Entry:
    """An answer to *text*."""
    body = json.dumps({"choices": [{"index": 0, "message": {"role": "assistant", "content": answer}}]}).encode()
    return Entry(key=key_of(text), dialect="chat", status=200, phrase=b"OK", head=b"", body=body, created=NOW - 60)


def play(scene: Callable[[House], Coroutine[Any, Any, None]], **house: Any) -> None:
    """Play *scene* in a house of its own."""

    async def whole() -> None:
        built = House(**house)
        await built.begin()
        await scene(built)
        await built.tasks.close()

    asyncio.run(whole())


def answered(found: Recalled | Apart) -> str:
    """Whose answer it is."""
    assert isinstance(found, Recalled), found
    return found.entry.question


def test_a_question_is_given_the_answer_of_one_that_means_the_same() -> None:
    async def scene(house: House) -> None:
        assert await house.fetch(ASKED) is Apart.ALONE
        found = await house.ask(SAME)
        assert answered(found) == ASKED
        assert isinstance(found, Recalled)
        assert 0.7 <= found.similarity < 1
        assert found.age_s == 60

    play(scene)


def test_one_that_means_something_else_is_not() -> None:
    async def scene(house: House) -> None:
        await house.fetch(ASKED)
        assert await house.ask(OTHER) is Apart.ALONE
        assert await house.ask(f"{ASKED} not") is Apart.GUARDED

    play(scene)


def test_no_question_is_embedded_where_it_has_none_to_be_compared_with() -> None:
    async def scene(house: House) -> None:
        assert await house.ask(ASKED, scope="d1") is Apart.ALONE
        await house.fetch(ASKED, scope="d1")
        assert house.embedder.asked == []
        assert answered(await house.ask(SAME, scope="d1")) == ASKED
        assert house.embedder.asked == [[SAME, ASKED]]

    play(scene)


def test_scopes_do_not_see_each_other() -> None:
    async def scene(house: House) -> None:
        await house.fetch(ASKED, scope="p1")
        assert await house.ask(SAME, scope="p2") is Apart.ALONE

    play(scene)


def test_what_was_decided_is_remembered_and_what_is_refused_is_not_served() -> None:
    async def scene(house: House) -> None:
        await house.fetch(ASKED)
        first, again = await house.ask(SAME), await house.ask(SAME)
        assert isinstance(first, Recalled)
        assert isinstance(again, Recalled)
        assert (first.remembered, again.remembered) == (False, True)
        assert [texts for texts in house.embedder.asked if SAME in texts] == [[SAME]]
        assert await house.ask(SAME, similar=False) is Apart.REFUSED
        assert await house.ask(SAME, min_similarity=0.99) is Apart.BELOW

    play(scene)


def test_a_questions_own_fresh_answer_ends_what_was_decided() -> None:
    async def scene(house: House) -> None:
        await house.fetch(ASKED)
        await house.ask(SAME)
        await house.fetch(SAME, similar=False)
        assert house.tier.shown()["aliases"] == 0

    play(scene)


@pytest.mark.parametrize(("max_age_s", "served"), [(59, False), (60, True)])
def test_an_answer_that_is_too_old_for_the_request_is_not_served(max_age_s: int, served: bool) -> None:
    async def scene(house: House) -> None:
        await house.fetch(ASKED)
        found = await house.ask(SAME, max_age_s=max_age_s)
        assert (found is not Apart.GONE) == served

    play(scene)


def test_an_entry_that_is_gone_serves_nobody_and_leaves_no_vector() -> None:
    async def scene(house: House) -> None:
        await house.fetch(ASKED)
        await house.ask(SAME)
        await house.store.drop(key_of(ASKED))
        assert len(house.index) == 0
        assert await house.ask(SAME) in (Apart.GONE, Apart.ALONE)
        assert await house.ask(SAME) is Apart.ALONE

    play(scene)


def test_nothing_is_decided_after_the_deadline() -> None:
    async def scene(house: House) -> None:
        await house.fetch(ASKED)
        house.embedder.gate.clear()
        assert await house.ask(SAME) is Apart.LATE
        house.embedder.gate.set()
        assert answered(await house.ask(SAME)) == ASKED

    play(scene, settings=SemanticSettings(policy="fixed", threshold=0.7, deadline_s=0.4))


def test_an_embedder_that_fails_costs_hits_and_one_line(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(house: House) -> None:
        await house.fetch(ASKED)
        house.embedder.broken = True
        with caplog.at_level(logging.WARNING):
            assert [await house.ask(SAME) for _ in range(3)] == [Apart.FAULT] * 3
        assert house.tier.degraded
        assert len(caplog.records) == 1
        house.embedder.broken = False
        assert answered(await house.ask(SAME)) == ASKED
        assert not house.tier.degraded

    play(scene)


def test_without_a_model_nothing_is_served_and_nothing_is_at_fault() -> None:
    async def scene() -> None:
        house = House()

        async def load() -> None:
            raise CacheError("no model here")

        assert house.tier.state == "loading"
        await house.tier.begin(load)
        assert (house.tier.state, house.tier.missing) == ("off", "no model here")
        assert await house.ask(SAME) is Apart.OFF
        assert not house.tier.degraded

    asyncio.run(scene())


def test_questions_kept_while_the_model_loads_are_found_afterwards() -> None:
    async def scene() -> None:
        house = House()
        assert await house.fetch(ASKED) is Apart.LOADING
        await house.begin()
        await house.settle()
        assert answered(await house.ask(SAME)) == ASKED

    asyncio.run(scene())


# --- what it learns --------------------------------------------------------------------------------------------------


def test_a_fresh_answer_is_compared_with_the_one_that_might_have_served() -> None:
    async def scene(house: House) -> None:
        await house.fetch(ASKED, "Click on it.")
        await house.fetch(SAME, "click on it")
        assert (house.tier.counts["same"], house.tier.counts["different"]) == (1, 0)
        await house.fetch(f"{SAME} now", "Take 3 steps.")
        assert (house.tier.counts["same"], house.tier.counts["different"]) == (1, 1)
        assert house.tier.shown()["told_apart"] == 1

    play(scene, bar=FixedBar(1.1))


def test_what_is_known_to_differ_is_not_served_when_its_own_answer_is_gone() -> None:
    async def scene(house: House) -> None:
        await house.fetch(ASKED, "Take 2 steps.")
        await house.fetch(SAME, "Take 3 steps.")
        await house.store.drop(key_of(SAME))
        house.bar.threshold = 0.7  # type: ignore[attr-defined]
        assert await house.ask(SAME) is Apart.TOLD_APART

    play(scene, bar=FixedBar(1.1))


def calibrated(settings: SemanticSettings) -> Bar:
    """The bar of the verified policy, with nothing known beforehand."""
    return bar(settings, "words")


VERIFIED = SemanticSettings(policy="verified", deadline_s=5.0)


def test_what_traffic_shows_opens_the_verified_policy_and_outlives_the_process() -> None:
    shelf = MemoryShelf()

    async def scene(house: House) -> None:
        for number in range(130):
            scope = f"p{number}"
            await house.fetch(ASKED, "Click on it.", scope=scope)
            await house.fetch(f"{SAME} {number}", "Click on it.", scope=scope)
            await house.store.clear()
        classes = house.bar.shown()["classes"]
        assert isinstance(classes, list)
        assert classes[0]["threshold"] is not None
        await house.fetch(ASKED, scope="px")
        assert answered(await house.ask(SAME, scope="px")) == ASKED

    play(scene, settings=VERIFIED, bar=calibrated(VERIFIED), shelf=shelf)

    async def later(house: House) -> None:
        await house.fetch(ASKED, scope="px")
        assert answered(await house.ask(SAME, scope="px")) == ASKED

    play(later, settings=VERIFIED, bar=calibrated(VERIFIED), shelf=shelf)


class OpenBar(FixedBar):
    """Serves everything, but explores where chance has it."""

    verified = True

    def __init__(self) -> None:
        super().__init__(0.0)
        self.heard: list[tuple[bool, bool]] = []

    def passes(self, kind: str, score: float, chance: float) -> Passage:
        """Explore below one half."""
        return Passage.EXPLORE if chance < 0.5 else Passage.SERVE

    def compared(self, kind: str, score: float, *, right: bool, explored: bool) -> bool:
        """Note it."""
        self.heard.append((right, explored))
        return False


def test_what_is_explored_is_asked_anew_and_compared() -> None:
    opened = OpenBar()

    async def scene(house: House) -> None:
        await house.fetch(ASKED, "Click on it.")
        assert await house.fetch(SAME, "Click on it.") is Apart.EXPLORED
        assert opened.heard == [(True, True)]

    play(scene, bar=opened, chance=0.1)


def test_the_shadow_serves_nothing_and_compares_everything() -> None:
    opened = OpenBar()

    async def scene(house: House) -> None:
        await house.fetch(ASKED, "Click on it.")
        assert await house.fetch(SAME, "Wait 5 minutes.") is Apart.SHADOW
        assert opened.heard == [(False, True)]
        assert house.tier.counts["served"] == 0

    play(scene, bar=opened, chance=0.9, settings=SemanticSettings(policy="shadow", deadline_s=5.0))


async def remembers_that_they_are_apart(house: House) -> None:
    """What another or a later process on the same shelf is held to."""
    await house.fetch(ASKED)
    assert await house.ask(SAME) is Apart.TOLD_APART


def test_one_wrong_verdict_ends_the_pair_at_once_and_for_later_processes() -> None:
    shelf = MemoryShelf()

    async def scene(house: House) -> None:
        await house.fetch(ASKED)
        found = await house.ask(SAME)
        assert isinstance(found, Recalled)
        assert await house.tier.verdict(found.id, False) == 1
        assert await house.ask(SAME) is Apart.TOLD_APART
        assert answered(await house.ask(f"{SAME} please")) == ASKED
        assert house.tier.verdicts == {"right": 0, "wrong": 1}

    play(scene, shelf=shelf)

    play(remembers_that_they_are_apart, shelf=shelf)


def test_no_process_takes_back_a_verdict_that_another_was_told() -> None:
    shelf = MemoryShelf()

    async def scene(house: House) -> None:
        other = House(shelf=shelf)
        await other.begin()
        await house.fetch(ASKED)
        found = await house.ask(SAME)
        assert isinstance(found, Recalled)
        assert await house.tier.verdict(found.id, False) == 1
        # It knew nothing of that, and writes down what it knows.
        await other.tier.close()
        assert await other.ask(SAME) is Apart.ALONE
        await remembers_that_they_are_apart(other)

    play(scene, shelf=shelf)

    play(remembers_that_they_are_apart, shelf=shelf)


def test_what_people_said_outlives_what_was_found_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "MAX_APART", 3)
    monkeypatch.setattr(pairs, "MAX_DUMPED", 2)
    shelf = MemoryShelf()

    async def scene(house: House) -> None:
        await house.fetch(ASKED)
        found = await house.ask(SAME)
        assert isinstance(found, Recalled)
        assert await house.tier.verdict(found.id, False) == 1
        house.bar.threshold = 1.1  # type: ignore[attr-defined]
        for number, word in enumerate(("please", "again", "quickly", "safely", "easily", "online")):
            await house.fetch(f"{ASKED} {word}", f"Wait {number} minutes.")
        assert house.tier.shown()["told_apart"] == 4
        await house.tier.close()

    play(scene, shelf=shelf)

    play(remembers_that_they_are_apart, shelf=shelf)


def test_what_two_processes_learn_at_the_same_time_adds_up(tmp_path: Path) -> None:
    async def scene() -> None:
        stores = [SqliteThreads(SqliteFile(tmp_path / "askonce.db"), deadline_s=10.0) for _ in range(3)]
        houses = [House(settings=VERIFIED, bar=calibrated(VERIFIED), shelf=SqliteShelf(threads)) for threads in stores]
        for house in houses[:2]:
            await house.begin()
        first, second, later = houses
        for number in range(30):
            for house in (first, second):
                await house.fetch(ASKED, "Click on it.", scope=f"p{number}")
                await house.fetch(f"{SAME} {number}", "Click on it.", scope=f"p{number}")
        found = await first.fetch(f"{ASKED} again", "Wait 5 minutes.", scope="p7")
        assert not isinstance(found, Recalled)
        await asyncio.gather(first.tier.close(), second.tier.close())
        await later.begin()
        classes = later.bar.shown()["classes"]
        assert isinstance(classes, list)
        labels = classes[0]["labels"]
        same, different = (first.tier.counts[each] + second.tier.counts[each] for each in ("same", "different"))
        assert (labels["right"], labels["wrong"]) == (same, different)
        assert (same > 50, different) == (True, 1)
        assert later.tier.shown()["told_apart"] == 1
        for house, threads in zip(houses, stores, strict=True):
            await house.tasks.close()
            await threads.close()

    asyncio.run(scene())


def test_a_verdict_on_an_answer_may_come_to_another_process(tmp_path: Path) -> None:
    clock = [NOW]

    async def scene() -> None:
        threads = SqliteThreads(SqliteFile(tmp_path / "askonce.db"), deadline_s=10.0)
        tallies = SqliteTallies(threads, now=lambda: clock[0])
        here, there = (House(shelf=SqliteShelf(threads), tallies=tallies) for _ in range(2))
        for house in (here, there):
            await house.begin()
            await house.fetch(ASKED)
        found = await here.ask(SAME)
        assert isinstance(found, Recalled)
        await here.settle()
        assert await there.tier.verdict(found.id, False) == 1
        assert await there.ask(SAME) is Apart.TOLD_APART
        # It is written down for the one that gave it, too, and for those to come.
        later = House(shelf=SqliteShelf(threads))
        await later.begin()
        await later.fetch(ASKED)
        assert await later.ask(SAME) is Apart.TOLD_APART
        for name in ("0123456789abcdef", found.id[:8], "x" * 500):
            assert await there.tier.verdict(name, False) == 0
        clock[0] += KEPT_S + 1
        assert await there.tier.verdict(found.id, False) == 0
        await threads.close()

    asyncio.run(scene())


async def followed(house: House, *, told_apart: int) -> None:
    """Let *house* hear of others until it knows so many pairs that differ."""
    following = asyncio.ensure_future(house.tier.follow())
    async with asyncio.timeout(10):
        while house.tier.shown()["told_apart"] != told_apart:  # noqa: ASYNC110  (what it hears, it says to nobody)
            await asyncio.sleep(0.01)
    following.cancel()
    await asyncio.wait({following})


def test_an_entry_that_is_reported_at_one_process_is_wrong_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "FOLLOW_EVERY_S", 0.01)
    shelf = MemoryShelf()

    async def scene(house: House) -> None:
        other = House(shelf=shelf)
        await other.begin()
        # What was reported once can be reported again, when it served others.
        for told, text in enumerate((SAME, f"{SAME} please"), start=1):
            for each in (house, other):
                await each.fetch(ASKED)
            assert answered(await house.ask(text)) == ASKED
            # It knows of nobody whom that served there: the entry itself is wrong.
            assert await other.tier.verdict(key_of(ASKED)[:16], False) == 1
            await followed(house, told_apart=told)
            assert await house.ask(text) is Apart.TOLD_APART
        # What it found wrong by that, all hear of.
        await followed(other, told_apart=2)
        await remembers_that_they_are_apart(other)

    play(scene, shelf=shelf)


def test_a_report_that_was_forgotten_says_nothing_of_what_was_served_since(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "FOLLOW_EVERY_S", 0.01)
    monkeypatch.setattr(learning, "MAX_REPORTED", 2)
    shelf = MemoryShelf()

    async def scene(house: House) -> None:
        await house.fetch(ASKED)
        await house.ask(SAME)
        name = key_of(ASKED)[:16]
        old, *later = [[f"{at:020x}", key] for at, key in enumerate((name, "0" * 16, "1" * 16))]
        await shelf.write(house.tier._learning._name(), told([*later]))
        await followed(house, told_apart=1)
        await shelf.write(house.tier._learning._name(), told([*later, old], apart=[["a", "b"], ["c", "d"]]))
        await followed(house, told_apart=2)
        assert answered(await house.ask(SAME)) == ASKED

    def told(reported: list[list[str]], apart: Sequence[Sequence[str]] = (("a", "b"),)) -> bytes:
        return json.dumps({"bar": None, "apart": apart, "said": [], "reported": reported}).encode()

    play(scene, shelf=shelf)


def test_no_number_of_answers_is_told_to_other_processes_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(given, "MAX_WAITING", 3)
    tallies = MemoryTallies()

    async def scene(house: House) -> None:
        await house.fetch(ASKED)
        found = await house.ask(SAME)
        assert isinstance(found, Recalled)
        await house.settle()
        # None of them can be told before something is waited for.
        ids = [f"{number:016x}" for number in range(8)]
        for each in ids:
            house.tier.served(replace(found, id=each))
        await house.settle()
        pages = await tallies.read([f"given:{each}" for each in ids])
        assert list(map(bool, pages)) == [True] * 3 + [False] * 5
        assert [await house.tier.verdict(each, True) for each in ids] == [1] * 8

    play(scene, tallies=tallies)


def test_a_verdict_by_key_concerns_all_that_the_entry_served() -> None:
    async def scene(house: House) -> None:
        await house.fetch(ASKED)
        for text in (SAME, f"{SAME} please"):
            await house.ask(text)
        assert await house.tier.verdict(key_of(ASKED)[:16], False) == 2
        assert await house.tier.verdict("0" * 16, False) == 0

    play(scene)


def test_an_answer_that_is_wrong_for_its_own_question_is_dropped() -> None:
    async def scene(house: House) -> None:
        await house.fetch(ASKED)
        assert await house.tier.verdict(key_of(ASKED)[:16], True) == 0
        assert await house.tier.verdict(key_of(ASKED)[:16], False) == 1
        assert await house.store.get(key_of(ASKED)) is None

    play(scene)


# --- what outlives the process ---------------------------------------------------------------------------------------


def test_the_index_is_built_again_from_what_the_store_kept() -> None:
    async def scene(house: House) -> None:
        await house.fetch(ASKED)
        await house.fetch(f"{ASKED} not")
        later = House(store=house.store, keeps_vectors=True)
        await later.begin()
        await later.settle()
        # The one that was asked when there was something to compare it with brought its vector along.
        assert later.embedder.asked == [[ASKED]]
        assert answered(await later.ask(SAME)) == ASKED
        await later.tasks.close()

    play(scene, keeps_vectors=True)


@pytest.mark.parametrize("vector", [b"", b"\x00" * 1024, b"\x00\x01", b"\xff" * 1024])
def test_a_vector_of_another_embedder_or_none_is_made_anew(vector: bytes) -> None:
    async def scene(house: House) -> None:
        kept = replace(entry(ASKED, "a"), scope="p1", question=ASKED, embedder="others", vector=vector)
        await house.store.put(kept)
        await house.store.put(replace(kept, key=Key("b" * 64), question=f"{ASKED} soon", embedder="words"))
        later = House(store=house.store)
        await later.begin()
        await later.settle()
        assert sorted(later.embedder.asked[0]) == [ASKED, f"{ASKED} soon"]
        assert isinstance(await later.ask(SAME), Recalled)
        await later.tasks.close()

    play(scene)


# --- attacks ---------------------------------------------------------------------------------------------------------


def test_attack_another_clients_entry_answers_nobody_before_a_second_client_asked_it() -> None:
    async def scene(house: House) -> None:
        await house.fetch(ASKED, maker="mallory")
        assert await house.ask(SAME, maker="alice") is Apart.UNSEEN
        house.tier.seen(key_of(ASKED), "mallory")
        assert await house.ask(SAME, maker="alice") is Apart.UNSEEN
        assert answered(await house.ask(SAME, maker="mallory")) == ASKED
        house.tier.seen(key_of(ASKED), "bob")
        assert answered(await house.ask(SAME, maker="alice")) == ASKED

    play(scene)


def test_attack_what_was_decided_for_one_client_is_not_given_to_another() -> None:
    async def scene(house: House) -> None:
        await house.fetch(ASKED, maker="mallory")
        assert answered(await house.ask(SAME, maker="mallory")) == ASKED
        assert await house.ask(SAME, maker="alice") is Apart.UNSEEN

    play(scene)


def test_attack_a_long_text_made_to_lie_near_a_question_does_not_answer_it() -> None:
    async def scene(house: House) -> None:
        await house.fetch(" ".join([ASKED] * 12), "Call this number.")
        assert await house.ask(ASKED) is Apart.UNLIKE

    play(scene)


def test_attack_a_text_without_a_word_in_common_does_not_answer_another_clients_question() -> None:
    class Blind(WordEmbedder):
        """One vector for all texts."""

        async def embed(self, texts: Sequence[str]) -> Vectors:
            """The same for all."""
            return await super().embed(["x"] * len(texts))

    async def scene(house: House) -> None:
        await house.fetch(OTHER, maker="mallory")
        house.tier.seen(key_of(OTHER), "bob")
        assert await house.ask(ASKED, maker="alice") is Apart.UNLIKE

    play(scene, embedder=Blind())


def test_attack_symbols_that_the_model_cannot_read_do_not_pass_for_each_other() -> None:
    async def scene(house: House) -> None:
        await house.fetch(f"{ASKED} ₿")
        assert await house.ask(f"{ASKED} 🔥") is Apart.GUARDED

    play(scene)


def test_what_was_found_for_one_client_is_taken_by_those_only_whom_it_fits() -> None:
    async def scene(house: House) -> None:
        await house.fetch(ASKED, maker="mallory")
        found = await house.ask(SAME, maker="mallory")
        assert isinstance(found, Recalled)

        def takes(**how: Any) -> bool:
            inquiry = house.inquiry(SAME, **how)
            return inquiry is not None and inquiry.takes(found)

        assert takes(maker="mallory")
        assert not takes(maker="alice")
        assert not takes(maker="mallory", max_age_s=10)
        assert not takes(maker="mallory", min_similarity=0.999)

    play(scene)


class Neighbouring(MemoryStore):
    """A store into which another process has just put something."""

    def __init__(self, *entries: Entry) -> None:
        super().__init__(max_bytes=1 << 20, now=lambda: NOW)
        self._arriving = entries

    async def arriving(self) -> AsyncIterator[Entry]:
        """What the other has put."""
        for entry in self._arriving:
            await self.put(entry)
            yield entry


@awaited
async def test_questions_that_another_process_has_answers_to_are_known_here_as_well() -> None:
    other = House(keeps_vectors=True)
    await other.begin()
    await other.fetch("reset my password", "so")
    kept = [entry async for entry in other.store.entries()]
    here = House(store=Neighbouring(*kept))
    await here.begin()
    assert not isinstance(await here.ask("password reset my"), Recalled)
    await here.tier.accompany()
    assert isinstance(await here.ask("password reset my"), Recalled)
