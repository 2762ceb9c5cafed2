"""L2: another question with the same meaning was answered before.

Scope, vectors, guards and verifier narrow the choice, in this order; the bar decides.
"""

import asyncio
import logging
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from proxy.call import Candidate
from proxy.errors import CacheError, told
from proxy.model import Apart, Entry, Judgement, Key, Neighbour
from proxy.ports import Embedder, Shelf, Store, VectorIndex, Vectors, Verifier
from proxy.semantic.bars import Bar, Level, Passage
from proxy.semantic.question import Question, known_words, symbols
from proxy.semantic.recall import Recalled
from proxy.settings import SemanticSettings
from proxy.tasks import Tasks
from proxy.tiers import guarded
from proxy.tiers.given import Given
from proxy.tiers.learning import Learning, Near
from proxy.tiers.neighbourhood import FLOOR, NEAREST, Neighbourhood
from proxy.tiers.pairs import Alias
from proxy.tiers.questions import Known

log = logging.getLogger(__name__)

NAME = "semantic"

LENGTHS, SLACK_CHARS = 3, 60
"""A question answers none that is so many times shorter: long texts can be made to lie near to anything."""

RECENT = 1000
"""Look-ups whose times are remembered."""


@dataclass(slots=True)
class Inquiry:
    """One question on its way through the tier."""

    key: Key
    question: Question
    scope: str
    maker: str
    """Whose request it is, where several clients share answers; else empty."""
    min_similarity: float
    max_age_s: int | None
    vector: Vectors | None = field(default=None, repr=False)
    near: Near | None = None
    apart: Apart = Apart.ALONE

    def takes(self, found: Recalled) -> bool:
        """Whether what was found for somebody else who asked the same at the same time may be given here, too."""
        return (
            found.similarity >= self.min_similarity
            and (self.max_age_s is None or found.age_s <= self.max_age_s)
            and found.only_for in (None, self.maker)
        )


class SemanticTier:
    """Answers questions by what was answered to others of the same meaning, and learns when that is right.

    *keeps_vectors*: entries outlive the process, so their vectors should. *given* tells other processes of answers,
    where there are any. It begins to answer when ``begin`` has found the model in order.
    """

    def __init__(
        self,
        settings: SemanticSettings,
        *,
        embedder: Embedder,
        verifier: Verifier,
        index: VectorIndex,
        store: Store,
        shelf: Shelf,
        bar: Bar,
        tasks: Tasks,
        keeps_vectors: bool,
        given: Given | None = None,
        now: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._embedder = embedder
        self._verifier = verifier
        self._store = store
        self._bar = bar
        self._keeps_vectors = keeps_vectors
        self._now = now
        self._chance = chance
        self._around = Neighbourhood(embedder=embedder, index=index, store=store, tasks=tasks, fault=self._fault)
        self._questions = self._around.questions
        self._learning = Learning(
            # Scores of two verifiers are not comparable, and neither are thresholds of two policies.
            lambda: f"semantic:{settings.policy}:{verifier.identity}:{embedder.identity}",
            bar=bar,
            shelf=shelf,
            store=store,
            embedder=embedder,
            tasks=tasks,
            given=given,
            fault=self._fault,
        )
        self._pairs = self._learning.pairs
        self._began = False
        self._faulty = False
        self.missing = ""
        """Why there is no model; empty while there is, or may be."""
        self.verdicts: dict[str, int] = dict.fromkeys(["right", "wrong"], 0)
        self.aparts: dict[Apart, int] = dict.fromkeys(Apart, 0)
        self._times_s: deque[float] = deque(maxlen=RECENT)
        store.watch(self._around.gone)

    def __repr__(self) -> str:
        return f"<SemanticTier {self.state}, {self._questions!r}>"

    @property
    def state(self) -> str:
        """``ready``, ``loading``, or ``off`` where there is no model."""
        return "off" if self.missing or self._settings.policy == "off" else "ready" if self._began else "loading"

    async def begin(self, load: Callable[[], Awaitable[None]]) -> None:
        """*load* the model, read what was learned, and take up the questions that the store has answers to."""
        try:
            await load()
        except CacheError as error:
            self.missing = told(error)
            return
        self._began = self._around.ready = True
        try:
            await self._recover()
        except CacheError as error:
            self._fault(error)
        self._around.place()

    async def _recover(self) -> None:
        await self._learning.take_up()
        async for entry in self._store.asked():
            self._around.meet(entry)

    async def accompany(self) -> None:
        """Know the questions whose answers other processes keep in the store, too; ends where there are none."""
        async for entry in self._store.arriving():
            if self._began:
                self._around.meet(entry)
                self._around.place()

    def aside(self, reason: Apart) -> None:
        """A call has no question, for this *reason*."""
        self.aparts[reason] += 1

    def inquiry(self, key: Key, candidate: Candidate, question: Question, *, scope: str, maker: str) -> Inquiry | None:
        """*question* on its way; None where *candidate* takes no answer of another.

        *scope* is that of the question, narrowed as *key* is.
        """
        asked = candidate.asked
        if not asked.similar or not candidate.plan.read:
            self.aparts[Apart.REFUSED] += 1
            return None
        return Inquiry(
            key=key,
            question=question,
            scope=scope,
            maker=maker,
            min_similarity=asked.min_similarity,
            max_age_s=asked.max_age_s,
        )

    def may_know(self, inquiry: Inquiry) -> bool:
        """Whether there is anything to compare it with."""
        return self._began and self._around.others(inquiry.scope, inquiry.key)

    async def recall(self, inquiry: Inquiry) -> Recalled | None:
        """The answer to another question that may be given to this one; None, and why in ``inquiry.apart``."""
        start = time.perf_counter()
        found = None
        try:
            async with asyncio.timeout(self._settings.deadline_s):
                found = await self._recall(inquiry)
            self._faulty = False
        except _Apart as left:
            inquiry.apart = left.reason
            self._faulty = False
        except TimeoutError:
            inquiry.apart = Apart.LATE
        except CacheError as error:
            self._fault(error)
            inquiry.apart = Apart.FAULT
        self._times_s.append(time.perf_counter() - start)
        if found is None:
            self.aparts[inquiry.apart] += 1
        return found

    async def neighbours(self, inquiry: Inquiry) -> Sequence[Neighbour]:
        """The known questions nearest to one, for people to look at; nothing is decided, counted or remembered.

        Raises:
            CacheError: the model is not there, or failed.
        """
        vector = await self._around.embed_with_others(inquiry.scope, inquiry.question.text)
        near = await self._around.near(inquiry.scope, inquiry.key, vector)
        known = [(self._questions.get(key), cosine) for key, cosine in near if key != inquiry.key]
        return [Neighbour(text=each.text, cosine=cosine) for each, cosine in known if each is not None][:NEAREST]

    def unfit(self, inquiry: Inquiry) -> None:
        """What was found cannot be given in the form that is asked for."""
        inquiry.apart = Apart.GONE
        self.aparts[Apart.GONE] += 1

    def served(self, found: Recalled) -> None:
        """*found* is given."""
        self._learning.served(found)

    async def _recall(self, inquiry: Inquiry) -> Recalled:
        asks = inquiry.question
        alias = self._pairs.alias(inquiry.key)
        if alias is not None and self._holds(inquiry, alias):
            return await self._found(inquiry, alias.key, alias.cosine, alias.score, remembered=True)
        if not self._began:
            raise _Apart(Apart.OFF if self.missing else Apart.LOADING)
        if not self._around.others(inquiry.scope, inquiry.key):
            raise _Apart(Apart.ALONE)
        inquiry.vector = await self._around.embed_with_others(inquiry.scope, inquiry.question.text)
        near = await self._around.near(inquiry.scope, inquiry.key, inquiry.vector)
        fit: list[tuple[Key, Neighbour]] = []
        why = Apart.ALONE
        for key, cosine in [each for each in near if each[0] != inquiry.key and each[1] >= FLOOR][:NEAREST]:
            known = self._questions.get(key)
            reason = self._unfit(inquiry, key, known) if known is not None else Apart.GONE
            if known is not None and reason is None:
                fit.append((key, Neighbour(text=known.text, cosine=cosine)))
            elif why is Apart.ALONE:
                why = reason or Apart.GONE
        if not fit:
            raise _Apart(why)
        neighbours = [neighbour for _, neighbour in fit]
        judgements = (
            await self._verifier.judge(asks.text, neighbours)
            if self._bar.verified
            else await asyncio.to_thread(guarded.judge, asks.text, neighbours)
        )
        return await self._decide(inquiry, fit, judgements)

    def _holds(self, inquiry: Inquiry, alias: Alias) -> bool:
        """Whether what was decided for this question before, perhaps for somebody else, would be decided so again."""
        known = self._questions.get(alias.key)
        return (
            known is not None
            and self._unfit(inquiry, alias.key, known) is None
            and self._bar.stands(inquiry.question.kind, alias.score)
            and alias.cosine >= inquiry.min_similarity
        )

    def _unfit(self, inquiry: Inquiry, key: Key, known: Known) -> Apart | None:
        """Why the answer to *known* must not be given, before anybody asks the verifier."""
        asks = inquiry.question
        if self._pairs.told_apart(inquiry.key, key):
            return Apart.TOLD_APART
        if len(known.text) > LENGTHS * len(asks.text) + SLACK_CHARS:
            return Apart.UNLIKE
        if symbols(known.text) != symbols(asks.text):
            return Apart.GUARDED
        if known.maker != inquiry.maker:
            if not known.seen_twice:
                return Apart.UNSEEN
            if known_words(known.text).isdisjoint(known_words(asks.text)):
                return Apart.UNLIKE
        return None

    async def _decide(
        self, inquiry: Inquiry, fit: Sequence[tuple[Key, Neighbour]], judgements: Sequence[Judgement]
    ) -> Recalled:
        kind = inquiry.question.kind
        scored = [
            (judgement.score if self._bar.verified else neighbour.cosine, neighbour.cosine, key)
            for (key, neighbour), judgement in zip(fit, judgements, strict=True)
            if not judgement.vetoes
        ]
        if not scored:
            raise _Apart(Apart.GUARDED)
        score, cosine, key = max(scored)
        passage = self._bar.passes(kind, score, self._chance())
        if passage is not Passage.REFUSE and cosine < inquiry.min_similarity:
            # What this request alone refuses tells nothing of those that are served.
            raise _Apart(Apart.BELOW)
        inquiry.near = Near(key, score, explored=passage is not Passage.REFUSE)
        if passage is Passage.REFUSE:
            raise _Apart(Apart.UNSURE)
        if self._settings.policy == "shadow":
            raise _Apart(Apart.SHADOW)
        if passage is Passage.EXPLORE:
            raise _Apart(Apart.EXPLORED)
        inquiry.near = None
        return await self._found(inquiry, key, cosine, score, remembered=False)

    async def _found(self, inquiry: Inquiry, key: Key, cosine: float, score: float, *, remembered: bool) -> Recalled:
        entry, now = await self._store.get(key), self._now()
        if entry is None:
            self._around.gone(key)
            self._pairs.forget(inquiry.key)
            raise _Apart(Apart.GONE)
        age_s = max(0.0, now - entry.created)
        # What is past its time may serve its own question when the provider fails, and no other.
        if entry.expires <= now or (inquiry.max_age_s is not None and age_s > inquiry.max_age_s):
            raise _Apart(Apart.GONE)
        known = self._questions.get(key)
        return Recalled(
            only_for=known.maker if known is not None and not known.seen_twice else None,
            id=secrets.token_hex(8),
            asked=inquiry.key,
            entry=entry,
            age_s=age_s,
            similarity=cosine,
            score=score,
            kind=inquiry.question.kind,
            remembered=remembered,
        )

    def marked(self, entry: Entry, question: Question, inquiry: Inquiry | None, *, scope: str, maker: str) -> Entry:
        """*entry* with the *question* that it answers."""
        vector = inquiry.vector if inquiry is not None and self._keeps_vectors else None
        return replace(
            entry,
            scope=scope,
            question=question.text,
            maker=maker,
            embedder=self._embedder.identity if vector is not None else "",
            vector=vector.tobytes() if vector is not None else b"",
        )

    def kept(self, entry: Entry, inquiry: Inquiry | None) -> None:
        """*entry*, the fresh answer to a question, is kept: know it, and compare it with what might have served."""
        if not entry.scope:
            return
        self._pairs.forget(entry.key)
        self._around.know(entry, inquiry.vector if inquiry is not None else None)
        self._around.place()
        near = inquiry.near if inquiry is not None else None
        if inquiry is not None and near is not None:
            self._learning.compare(entry, near, inquiry.question.kind)

    def seen(self, key: Key, maker: str) -> None:
        """*maker* asks the question whose entry is under *key*, word for word."""
        self._questions.seen(key, maker)

    async def verdict(self, name: str, right: bool) -> int:
        """Somebody says that the answer with the id *name*, or all from the entry *name*, were right or wrong.

        What was wrong is never served again. How many answers that concerns; an entry that served nobody else and is
        wrong by itself is dropped.
        """
        count = await self._learning.judged(name, right=right)
        if not count and not right:
            for key in self._questions.beginning(name):
                self._around.gone(key)
                count += await self._store.drop(key)
        self.verdicts["right" if right else "wrong"] += count
        return count

    async def follow(self) -> None:
        """Learn for ever what is told to other processes that share the store."""
        await self._learning.follow(lambda: self._began)

    def forget_all(self) -> None:
        """The store was cleared."""
        self._around.clear()
        self._pairs.clear()

    async def close(self) -> None:
        """Write down what was learned, and let the model go."""
        if self._began:
            await self._learning.write_down()
        await self._embedder.close()

    def _fault(self, error: CacheError) -> None:
        if not self._faulty:
            log.warning("the semantic tier failed; requests go on without it: %s", told(error))
        self._faulty = True

    @property
    def counts(self) -> Mapping[str, int]:
        """What was served and compared."""
        return self._learning.counts

    @property
    def degraded(self) -> bool:
        """The last use of it failed. That there is no model is no fault: everything else works."""
        return self._faulty

    def levels(self) -> Sequence[Level]:
        """Where the bar lies; none where the tier is off by its policy."""
        return self._bar.levels() if self._settings.policy != "off" else ()

    def shown(self) -> dict[str, object]:
        """As JSON."""
        times = sorted(self._times_s)
        return {
            "policy": self._settings.policy,
            "state": self.state,
            "missing": self.missing,
            "embedder": self._embedder.identity,
            "verifier": self._verifier.identity,
            "questions": len(self._questions),
            "vector_bytes": self._around.vector_bytes,
            "vectors_shared": self._around.shared,
            "aliases": self._pairs.aliases,
            "told_apart": self._pairs.apart,
            **self.counts,
            "feedback": dict(self.verdicts),
            "apart": {str(reason): count for reason, count in self.aparts.items()},
            "lookup_ms": {
                "p50": round(times[len(times) // 2] * 1000, 3) if times else 0.0,
                "p99": round(times[len(times) * 99 // 100] * 1000, 3) if times else 0.0,
            },
            "bar": self._bar.shown(),
        }


class _Apart(Exception):
    """Leaves a look-up with its reason."""

    def __init__(self, reason: Apart) -> None:
        super().__init__(reason)
        self.reason = reason
