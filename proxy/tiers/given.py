"""What was given of late, told to all processes that share the store: a verdict may come to any of them."""

import re
import time
from collections import deque
from collections.abc import Callable

from proxy.errors import CacheError
from proxy.model import Key
from proxy.ports import Tallies
from proxy.semantic.question import KINDS
from proxy.semantic.recall import Recalled
from proxy.tasks import Tasks
from proxy.tiers.pairs import Served

KEPT_S = 1800.0
"""So long an answer can be judged at any process; at the one that gave it, a little longer."""

MAX_KEPT = 16384
"""Answers that one process has told of and that are kept; those above it can be judged there alone."""

MAX_WAITING = 256
"""Answers that wait to be told of; those above it can be judged at the process that gave them alone."""

_ID = re.compile(r"[0-9a-f]{16}")
_KEY = re.compile(r"[0-9a-f]{64}")
_PARTS = 1_000_000


class Given:
    """Answers of other questions by the id that was told with them, in pages of the store that lapse by themselves."""

    def __init__(self, tallies: Tallies, *, tasks: Tasks, clock: Callable[[], float] = time.monotonic) -> None:
        self._tallies = tallies
        self._tasks = tasks
        self._clock = clock
        self._told_at: deque[float] = deque(maxlen=MAX_KEPT)
        self._waiting: deque[tuple[str, str, int]] = deque()
        self._telling = False

    def __repr__(self) -> str:
        return f"<Given, {len(self._told_at)} told, {len(self._waiting)} waiting>"

    def tell(self, found: Recalled) -> None:
        """*found* was given. Nothing waits for it to be told."""
        now = self._clock()
        full = len(self._told_at) == MAX_KEPT and now - self._told_at[0] < KEPT_S
        if full or len(self._waiting) >= MAX_WAITING:
            return
        self._told_at.append(now)
        told = f"{found.asked}:{found.entry.key}:{found.kind}"
        self._waiting.append((found.id, told, round(found.score * _PARTS)))
        if not self._telling:
            self._telling = True
            self._tasks.start(self._tell_all(), name="tell of answers")

    async def _tell_all(self) -> None:
        try:
            while self._waiting:
                name, told, score = self._waiting.popleft()
                await self._tallies.add(_page(name), {told: score}, keep_s=KEPT_S)
        except CacheError:
            # Whatever else needs the store says so. What waits is judged here, or not at all.
            self._waiting.clear()
        finally:
            self._telling = False

    async def find(self, name: str) -> Served | None:
        """What was given under the id *name*, by whichever process.

        Raises:
            CacheError: the store cannot tell.
        """
        if not _ID.fullmatch(name):
            return None
        (page,) = await self._tallies.read([_page(name)])
        for told, score in page.items():
            asked, _, rest = told.partition(":")
            cached, _, kind = rest.partition(":")
            if _KEY.fullmatch(asked) and _KEY.fullmatch(cached) and kind in KINDS.values():
                return Served(Key(asked), Key(cached), score / _PARTS, kind)
        return None


def _page(name: str) -> str:
    return f"given:{name}"
