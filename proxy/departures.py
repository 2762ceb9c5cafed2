"""Sends flights off: what goes to the provider on a call's behalf, what may stand in for it, and what comes after."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import partial

from proxy.accounts.settling import Settling
from proxy.accounts.usageasking import UsageAsking
from proxy.flights import Airspace, Flight, Landing, Seat
from proxy.gathering import MAX_GATHERED_BYTES
from proxy.headers import Fields
from proxy.landing import Ground
from proxy.leases import Lease, Leasing
from proxy.model import Entry, Finding, Reason
from proxy.ports import Upload
from proxy.providers.ahead import Ahead
from proxy.providers.fleet import Fleet
from proxy.providers.provider import Incoming
from proxy.providers.upstream import Upstream
from proxy.replay import Replayed
from proxy.replies import Replies
from proxy.semantic.recalling import Recalling
from proxy.settings import Config
from proxy.tasks import Tasks
from proxy.tiers.prefix import PrefixTier
from proxy.tiers.watching import Watch
from proxy.visit import Visit


@dataclass(frozen=True, slots=True)
class Departed:
    """A flight that has taken off, and the seat of the call that leads it."""

    flight: Flight
    seat: Seat
    lease: Lease | None

    @property
    def elsewhere(self) -> bool:
        """Another process had fetched the same thing meanwhile."""
        return self.lease is not None and self.lease.found is not None


class Departures:
    """Makes flights and sends them off."""

    def __init__(
        self,
        config: Config,
        *,
        upstreams: Mapping[str, Upstream | Fleet],
        airspace: Airspace,
        ground: Ground,
        recalling: Recalling,
        prefix: PrefixTier,
        usage_asking: UsageAsking,
        leasing: Leasing,
        replies: Replies,
        settling: Settling,
        tasks: Tasks,
    ) -> None:
        self._cache = config.cache
        self._limits = config.flights
        self._timed = config.replay.pace == "recorded"
        self._upstreams = upstreams
        self._airspace = airspace
        self._ground = ground
        self._recalling = recalling
        self._prefix = prefix
        self._usage_asking = usage_asking
        self._leasing = leasing
        self._replies = replies
        self._settling = settling
        self._tasks = tasks

    def __repr__(self) -> str:
        return f"<Departures, {self._airspace!r}>"

    def take_off(self, visit: Visit, course: Hashable | None) -> Departed:
        """Send a flight off for *visit*, which others find on *course*. Nothing is awaited on the way."""
        watch = self._prefix.watch(visit.call, visit.dialect, visit.candidate)
        lease = self._lease(visit, course)
        ahead = self._ahead(visit, watch, lease)
        flight = Flight(
            ahead.answer,
            recall=self._recalling.recall(visit.sought, ahead, partial(self._fits, visit)),
            request_fields=visit.call.fields,
            max_record_bytes=max(MAX_GATHERED_BYTES if visit.gathering else 0, self._cache.max_entry_bytes),
            max_lead_bytes=self._limits.max_lead_bytes,
            max_lag_bytes=self._limits.max_lag_bytes,
            finish_abandoned=visit.candidate.plan.write and self._cache.finish_abandoned,
            timed=self._timed,
        )
        self._settling.charge(visit.meter, flight, visit.gathering)
        if watch is not None and lease is None:
            flight.when_examined(partial(self._prefix.landed, watch))
        seat = flight.board()
        if course is not None:
            self._airspace.enter(course, flight)
        flight.take_off(self._tasks, partial(self._landed, visit, flight, course, watch, lease))
        return Departed(flight, seat, lease)

    async def _landed(
        self,
        visit: Visit,
        flight: Flight,
        course: Hashable | None,
        watch: Watch | None,
        lease: Lease | None,
        landing: Landing,
    ) -> None:
        elsewhere = lease.found if lease is not None else None
        try:
            if elsewhere is not None:
                usage, tier = elsewhere.usage, elsewhere.service_tier
                flight.examined(Finding(usage=usage, model=elsewhere.model, service_tier=tier))
            elif flight.recalled is None:
                if watch is not None and lease is not None:
                    flight.when_examined(partial(self._prefix.landed, watch))
                await self._ground.land(visit, flight, landing)
        finally:
            if course is not None:
                self._airspace.exit(course, flight)
            if lease is not None:
                lease.end()

    def _lease(self, visit: Visit, course: Hashable | None) -> Lease | None:
        """The right to ask for what other processes may be asking for, too; None where nobody waits for the other.

        A stream that waited for another process to have it whole would come late; a store that fails knows of none.
        """
        shared = course is not None and visit.candidate.plan.join and visit.gathering is None
        if not shared or visit.key is None or visit.candidate.form.stream or visit.reason is Reason.CACHE_FAULT:
            return None
        return self._leasing.lease(visit.key, partial(self._fetched_elsewhere, visit))

    async def _fetched_elsewhere(self, visit: Visit, entry: Entry) -> Replayed | None:
        # What is kept may be what was too old a moment ago.
        most_s = visit.candidate.asked.max_age_s
        if most_s is not None and self._ground.age_s(entry) > most_s:
            return None
        again = await self._replies.replay(visit, entry)
        return again if isinstance(again, Replayed) else None

    async def _fits(self, visit: Visit, entry: Entry) -> bool:
        return isinstance(await self._replies.replay(visit, entry), Replayed)

    def _ahead(self, visit: Visit, watch: Watch | None, lease: Lease | None) -> Ahead:
        call, candidate, gathering = visit.call, visit.candidate, visit.gathering

        async def send(fields: Fields, body: bytes | Upload | None) -> Incoming:
            return await self._upstreams[candidate.route.name].ask(call.method, call.target, fields, body)

        async def steer(fields: Fields, body: bytes | Upload | None) -> Incoming:
            return await (self._prefix.ask(send, fields, body, watch) if watch is not None else send(fields, body))

        async def ask() -> Incoming:
            if gathering is not None:
                return await gathering.ask(send)
            return await self._usage_asking.ask(steer, call, candidate)

        return Ahead(ask if lease is None else partial(lease.answer, ask), self._tasks)
