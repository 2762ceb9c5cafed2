"""Answers that have expired: when they may still be given, and who fetches their successors meanwhile."""

import logging
from collections.abc import Awaitable, Callable, Hashable
from fnmatch import fnmatchcase

from proxy.call import Reply
from proxy.errors import UpstreamError
from proxy.flights import Abandoned, Lagged
from proxy.model import Entry
from proxy.settings import CacheSettings
from proxy.tasks import Tasks

log = logging.getLogger(__name__)

MAX_REFRESHES = 64
"""So many expired answers are fetched anew at once; for more the next who asks waits for the provider."""

TOO_MANY_REQUESTS = 429


def ttl_s(model: str, settings: CacheSettings) -> float:
    """How long an answer of *model* may be given: by the first rule that fits, or as long as any."""
    for pattern, seconds in settings.ttl_by_model.items():
        if fnmatchcase(model, pattern):
            return seconds
    return settings.ttl_s


def grace_s(settings: CacheSettings) -> float:
    """How long after its end an answer may be of use yet."""
    return max(settings.stale_if_error_s, settings.stale_while_revalidate_s)


def may_precede_refresh(entry: Entry, now: float, settings: CacheSettings) -> bool:
    """Whether *entry* may be given at once while its successor is fetched."""
    return entry.expires <= now < entry.expires + settings.stale_while_revalidate_s


def may_stand_in(entry: Entry, now: float, settings: CacheSettings) -> bool:
    """Whether *entry* may be given in place of an error of the provider's."""
    return entry.expires <= now < entry.expires + settings.stale_if_error_s


def is_outage(status: int) -> bool:
    """Whether the provider cannot answer now, rather than will not (RFC 5861 section 4; it being busy counts, too)."""
    return status == TOO_MANY_REQUESTS or status >= 500


class Refreshes:
    """Fetches of successors that nobody waits for: one for each answer, and not too many together."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._under_way: set[Hashable] = set()

    def __repr__(self) -> str:
        return f"<Refreshes, {len(self._under_way)} under way>"

    def begin(self, what: Hashable, fetch: Callable[[], Awaitable[None]]) -> bool:
        """Do *fetch* in the background, unless *what* is being fetched; False where too much is under way."""
        if what in self._under_way:
            return True
        if len(self._under_way) >= MAX_REFRESHES:
            return False
        self._under_way.add(what)
        self._tasks.start(self._run(what, fetch), name="refresh")
        return True

    async def _run(self, what: Hashable, fetch: Callable[[], Awaitable[None]]) -> None:
        try:
            await fetch()
        except (UpstreamError, Abandoned, Lagged) as error:
            log.debug("an expired answer could not be fetched anew: %s", error)
        finally:
            self._under_way.discard(what)


class _Nowhere:
    """A sink that takes everything."""

    def write(self, octets: bytes) -> bool:
        return True

    def flush(self) -> None:
        return None

    async def drained(self) -> None:
        return None


async def let_pass(reply: Reply) -> None:
    """Deliver *reply* to nobody, to its end."""
    if not isinstance(reply.body, bytes):
        await reply.body.pour(_Nowhere())
