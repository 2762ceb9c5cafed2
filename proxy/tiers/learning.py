"""What is learned of pairs of questions: by comparing answers, from verdicts, from other processes that learn the same.

It lies beside the entries, for those who come later and for those who answer at the same time.
"""

import asyncio
import json
import logging
import re
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from proxy import codings
from proxy.codings import Undecodable
from proxy.dialects.said import said
from proxy.errors import CacheError
from proxy.model import Entry, Key
from proxy.ports import Embedder, Shelf, Store
from proxy.semantic import sameness
from proxy.semantic.bars import Bar
from proxy.semantic.recall import Recalled
from proxy.tasks import Tasks
from proxy.tiers.given import Given
from proxy.tiers.pairs import Pairs, Served

log = logging.getLogger(__name__)

MAX_COMPARING = 32
"""Answers that are compared at once in the background; what comes above that is not compared."""

MAX_ANSWER_BYTES = 1024 * 1024
"""A longer answer is compared with none."""

MAX_EMBEDDED_CHARS = 2000
"""So much of an answer is embedded to be compared."""

FOLLOW_EVERY_S = 2.0
"""How long another process may go on to serve what was reported as wrong here."""

MAX_REPORTED = 256
"""So many entries of which somebody said that they served wrongly are told to other processes, the latest."""

MAX_ATTEMPTS = 8
"""So often it is tried to add what was learned to what others are adding to at the same time."""

_KEY = re.compile(r"[0-9a-f]{8,64}")
"""What a key, or the beginning of one, looks like."""


@dataclass(slots=True)
class Near:
    """The neighbour that was not served, for its answer to be compared with the fresh one."""

    key: Key
    score: float
    explored: bool


class Learning:
    """What is known of pairs, and the bar that goes by it; kept on *shelf* under its *name*, told by the model.

    *given* tells other processes of answers, where there are any. *fault* hears of what failed: it is learned later, or
    not at all.
    """

    def __init__(
        self,
        name: Callable[[], str],
        *,
        bar: Bar,
        shelf: Shelf,
        store: Store,
        embedder: Embedder,
        tasks: Tasks,
        given: Given | None,
        fault: Callable[[CacheError], None],
    ) -> None:
        self._name = name
        self.bar = bar
        self.pairs = Pairs()
        self._shelf = shelf
        self._store = store
        self._embedder = embedder
        self._tasks = tasks
        self._given = given
        self._fault = fault
        self._comparing = 0
        self._writing = asyncio.Lock()
        self._taken_up: bytes | None = None
        """What all have learned, as it was last read or written; None until it was read once."""
        self._written = b""
        """What was last to be written down, whether that was said to have failed or not."""
        self._reported: dict[str, str] = {}
        """What entries' keys begin with that were said to have served wrongly, by the time and id of the report."""
        self.counts: dict[str, int] = dict.fromkeys(["served", "remembered", "compared", "same", "different"], 0)

    def __repr__(self) -> str:
        return f"<Learning, {self.pairs!r}, {self.bar!r}>"

    async def take_up(self) -> None:
        """Learn what others have learned who share the store: processes before this one, and beside it.

        Raises:
            CacheError: the store cannot tell.
        """
        async with self._writing:
            await self._take_up()

    async def _take_up(self) -> None:
        kept = await self._shelf.read(self._name()) or b""
        if kept == self._taken_up:
            return
        if kept and kept == self._written:
            # It was said to have failed.
            self._learned_by_all(kept)
        elif kept:
            try:
                learned = await asyncio.to_thread(json.loads, kept)
                self.bar.restore(learned["bar"])
                self.pairs.restore(learned["apart"], learned.get("said"))
                self._hear(learned.get("reported"))
            except (ValueError, KeyError, TypeError):
                log.warning("what the semantic tier had learned cannot be read; it begins anew")
        self._taken_up = kept

    def _hear(self, reported: object) -> None:
        """What this process served from entries that were reported at another was wrong."""
        for each in reported if isinstance(reported, list) else ():
            match each:
                case [str() as report, str() as name] if report not in self._reported:
                    # An old one that was forgotten says nothing of what was served since.
                    if self._report(report, name):
                        self._judge(self.pairs.served(name), right=False)
                case _:
                    pass

    def _report(self, report: str, name: str) -> bool:
        """Know of *report*, unless so many later ones are known."""
        self._reported[report] = name
        if len(self._reported) > MAX_REPORTED:
            del self._reported[min(self._reported)]
        return report in self._reported

    def _learned_by_all(self, octets: bytes) -> None:
        """What was to be written down is."""
        self._taken_up = octets
        self.bar.written()
        self.pairs.written()

    async def follow(self, ready: Callable[[], bool]) -> None:
        """Learn for ever what is told to other processes that share the store, once it is *ready* to."""
        while True:
            await asyncio.sleep(FOLLOW_EVERY_S)
            if ready():
                # Where the store fails, whatever else needs it says so.
                with suppress(CacheError):
                    await self.take_up()
                    if self.pairs.news:
                        await self.write_down()

    def served(self, found: Recalled) -> None:
        """*found* is given."""
        self.pairs.serve(found)
        if self._given is not None:
            self._given.tell(found)
        self.bar.served(found.kind, found.score)
        self.counts["served"] += 1
        self.counts["remembered"] += found.remembered

    def compare(self, entry: Entry, near: Near, kind: str) -> None:
        """Learn in the background whether the answer of *near* would have been as right as *entry*, the fresh one."""
        if self._comparing < MAX_COMPARING:
            self._comparing += 1
            self._tasks.start(self._compare(entry, near, kind), name="compare")

    async def _compare(self, entry: Entry, near: Near, kind: str) -> None:
        try:
            other = await self._store.get(near.key)
            if other is None or len(entry.body) + len(other.body) > MAX_ANSWER_BYTES:
                return
            same = await self._say_the_same(entry, other)
        except CacheError as error:
            self._fault(error)
            return
        finally:
            self._comparing -= 1
        self.counts["compared"] += 1
        if same is None:
            return
        self.counts["same" if same else "different"] += 1
        if not same:
            self.pairs.tell_apart(entry.key, near.key)
        if self.bar.compared(kind, near.score, right=same, explored=near.explored):
            await self.write_down()

    async def _say_the_same(self, entry: Entry, other: Entry) -> bool | None:
        fresh, cached = await asyncio.to_thread(_texts, entry, other)
        if fresh is None or cached is None:
            return None
        same = await asyncio.to_thread(sameness.by_text, fresh, cached)
        if same is not None:
            return same
        vectors = await self._embedder.embed([fresh[:MAX_EMBEDDED_CHARS], cached[:MAX_EMBEDDED_CHARS]])
        cosine = float(vectors[0] @ vectors[1])
        return await asyncio.to_thread(sameness.by_meaning, fresh, cached, cosine)

    async def write_down(self) -> None:
        """Add what was learned here to what others have learned; what fails is added the next time."""
        async with self._writing:
            try:
                for _ in range(MAX_ATTEMPTS):
                    await self._take_up()
                    reported = [list(each) for each in self._reported.items()]
                    learned = {"bar": self.bar.dumped(), **self.pairs.dumped(), "reported": reported}
                    self._written = (await asyncio.to_thread(json.dumps, learned)).encode()
                    if await self._shelf.replace(self._name(), self._written, instead_of=self._taken_up or None):
                        self._learned_by_all(self._written)
                        return
            except CacheError as error:
                self._fault(error)

    async def judged(self, name: str, *, right: bool) -> int:
        """Somebody says that the answer with the id *name*, or all from the entry *name*, were right or wrong.

        What was wrong is never served again. How many answers that concerns.
        """
        concerned = self.pairs.served(name) or await self._served_elsewhere(name)
        self._judge(concerned, right=right)
        by_key = not concerned or concerned[0].cached.startswith(name)
        if by_key and not right and _KEY.fullmatch(name):
            # Others may have served from it, too.
            self._report(f"{int(time.time() * 1000):012x}{secrets.token_hex(4)}", name)
        if concerned or not right:
            await self.write_down()
        return len(concerned)

    def _judge(self, concerned: Sequence[Served], *, right: bool) -> None:
        for each in concerned:
            if not right:
                self.pairs.tell_apart(each.asked, each.cached, said=True)
            self.bar.judged(each.kind, each.score, right=right)

    async def _served_elsewhere(self, name: str) -> Sequence[Served]:
        """What another process gave under the id *name*, which one is enough to know."""
        try:
            found = await self._given.find(name) if self._given is not None else None
        except CacheError as error:
            self._fault(error)
            return ()
        return (found,) if found is not None else ()


def _texts(entry: Entry, other: Entry) -> tuple[str | None, str | None]:
    return _text(entry), _text(other)


def _text(entry: Entry) -> str | None:
    try:
        body = codings.decode(entry.body, entry.encoding, limit=2 * MAX_ANSWER_BYTES)
    except Undecodable:
        return None
    return said(entry.dialect, body, stream=entry.form.stream)
