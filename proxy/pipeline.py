"""The pass: how a call lives. Nothing but the order of the steps."""

import asyncio
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from proxy import fingerprint, freshness
from proxy.accounts.counting import Counting
from proxy.accounts.ledger import Ledger
from proxy.accounts.meter import Meter
from proxy.accounts.settling import Settling
from proxy.accounts.till import Till
from proxy.accounts.usageasking import UsageAsking
from proxy.byhand import ByHand
from proxy.call import Call, Deliver, Reply
from proxy.departures import Departures
from proxy.errors import Garbled, KeyRefused, Unreachable, UpstreamError
from proxy.flights import Abandoned, Airspace, Flight, Head, Lagged, Seat
from proxy.gathering import Gatherer, Gathering
from proxy.headers import Fields
from proxy.keys import allowance
from proxy.keys.allowance import STRANGER
from proxy.keys.budgets import Budgets
from proxy.landing import Ground
from proxy.leases import Leasing
from proxy.model import Apart, CutOff, Neighbour, Outcome, Reason
from proxy.ports import Dialect
from proxy.providers.fleet import Fleet
from proxy.providers.upstream import Upstream
from proxy.reception import Reception
from proxy.replies import Replies, unread
from proxy.semantic.question import Question
from proxy.semantic.recall import Recalled
from proxy.semantic.recalling import Recalling, by_itself
from proxy.settings import Config
from proxy.tasks import Tasks
from proxy.tiers.exact import ExactTier, Found, Missed
from proxy.tiers.prefix import PrefixTier
from proxy.tiers.semantic import SemanticTier
from proxy.visit import Visit


class Pipeline:
    """Takes calls, gives replies."""

    def __init__(
        self,
        config: Config,
        *,
        upstreams: Mapping[str, Upstream | Fleet],
        exact: ExactTier,
        semantic: SemanticTier | None = None,
        ledger: Ledger,
        tills: Mapping[str, Till],
        prefix: PrefixTier,
        tasks: Tasks,
        leasing: Leasing,
        secret: bytes,
        trusted: Callable[[str], bool],
        budgets: Budgets | None = None,
        operators: Callable[[Call], bool] = lambda _: False,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._settings = config.cache
        self._upstreams = upstreams
        self._exact = exact
        self._ledger = ledger
        self._budgets = budgets
        self._now = now
        self._reception = Reception(
            config.cache,
            semantic=config.semantic,
            secret=secret,
            trusted=trusted,
            shared_key=config.keys.mode == "shared",
            compat=config.compat,
        )
        counting = Counting(tasks)
        self._gatherer = Gatherer(exact)
        self._recalling = Recalling(
            semantic,
            exact=exact,
            counting=counting,
            maker=self._reception.maker if self._reception.shares else None,
            parallel=config.semantic.parallel,
            refused_by=config.semantic.refused_by,
            discussed=operators,
            now=now,
        )
        self.standing = self._recalling.standing
        self._replies = Replies(config, tills=tills, prefix=prefix, peer_matters=self._reception.peer_matters, now=now)
        self._settling = Settling(ledger=ledger, tills=tills, now=now)
        self._refreshes = freshness.Refreshes(tasks)
        self.airspace = Airspace()
        self._departures = Departures(
            config,
            upstreams=upstreams,
            airspace=self.airspace,
            ground=Ground(
                config.cache,
                exact=exact,
                recalling=self._recalling,
                ledger=ledger,
                tills=tills,
                counting=counting,
                tasks=tasks,
                timed=config.replay.pace == "recorded",
                now=now,
            ),
            recalling=self._recalling,
            prefix=prefix,
            usage_asking=UsageAsking(enabled=config.accounting.request_stream_usage, now=now),
            leasing=leasing,
            replies=self._replies,
            settling=self._settling,
            tasks=tasks,
        )
        self.by_hand = ByHand(
            reception=self._reception,
            exact=exact,
            recalling=self._recalling,
            ttl_s=config.cache.ttl_s,
            now=now,
        )

    def use_secret(self, secret: bytes) -> None:
        """From now on tenants are told apart by *secret*, as they are by all who share the store."""
        self._reception.use_secret(secret)
        # What the short way remembers was said to tenants of another name.
        self._exact.generation += 1

    async def forward(self, call: Call, deliver: Deliver, *, bare: bool = False) -> None:
        """A call on a path that is not cached: through to the provider unread, both ways as it comes.

        *bare*: nobody knows who sends it, so no secret of ours goes with it.
        """
        try:
            refused = allowance.of_unread(call, self._budgets)
            if refused is not None:
                await deliver(self._replies.refused(refused))
                return
            upstream = self._upstreams[call.way.unread.name]
            async with await upstream.ask(call.method, call.target, call.fields, call.body, bare=bare) as answer:
                await deliver(unread(answer))
        finally:
            self._ledger.forwarded()

    async def neighbours(self, call: Call, dialect: Dialect) -> Sequence[Neighbour] | Apart:
        """The known questions nearest to that of *call*, which is not served; or why it has none."""
        candidate = await self._reception.consider(call, dialect)
        key = candidate.identity
        narrowed = self._exact.narrow(key, dialect.name, call.fields) if key is not None else None
        sought = self._recalling.seek(call, candidate, narrowed)
        if sought is None:
            return Apart.OFF if isinstance(candidate.question, Question) else candidate.question
        return await self._recalling.neighbours(sought)

    def tunnelled(self, call: Call) -> Reply | None:
        """A WebSocket is asked for: why it is refused, or None where the provider decides."""
        self._ledger.forwarded()
        refused = allowance.of_unread(call, self._budgets, websocket=True)
        return self._replies.refused(refused) if refused is not None else None

    def turned_away(self, call: Call) -> Reply:
        """*call* came without a key that is good."""
        reply = self._replies.refused(STRANGER)
        if call.dialect is None:
            self._ledger.forwarded()
        else:
            meter = Meter(0.0)
            meter.refuse(STRANGER.reason)
            meter.begin(reply, 0.0)
            self._ledger.record(meter.receipt(call, total_s=0.0, cut=CutOff.DELIVERED))
        return reply

    async def serve(self, call: Call, dialect: Dialect, deliver: Deliver) -> None:
        """A call on a cached path: recognise it, or fetch and record its answer; account for it at the end."""
        # Not the loop's own time: uvloop's goes in steps of a millisecond.
        clock = time.perf_counter
        meter = Meter(clock())

        async def begin(reply: Reply) -> None:
            meter.begin(reply, clock())
            await deliver(reply)

        try:
            call = await self._reception.admit(call)
            candidate = await self._reception.consider(call, dialect)
            meter.consider(candidate)
            try:
                await self._answer(Visit(call, dialect, candidate, meter, candidate.plan.reason), begin)
            except (UpstreamError, Abandoned) as error:
                reason = reason_of(error)
                meter.fail(reason)
                if meter.status:
                    raise
                await begin(self._replies.error(reason, str(error), status=502))
        except Lagged:
            meter.fail(Reason.LAGGED)
            raise
        except (asyncio.CancelledError, ConnectionError):
            meter.cut = CutOff.CLIENT_LEFT
            raise
        except Exception:
            if meter.outcome is not Outcome.ERROR:
                meter.fail(Reason.INTERNAL)
            raise
        finally:
            # Who left before the request was read is no request.
            if meter.considered or meter.cut is not CutOff.CLIENT_LEFT:
                self._settling.account(meter, call, clock())

    async def _answer(self, visit: Visit, deliver: Deliver) -> None:
        """Refuse, recognise, join or fetch: the first of them that comes to something."""
        reply = self._refuse(visit) or await self._recognise(visit) or self._give_up(visit)
        if reply is not None:
            await deliver(reply)
            return

        # From here to take-off nothing waits: of many calls that come at once one leads and all others find it.
        visit.sought = self._recalling.seek(visit.call, visit.candidate, visit.key)
        courses = visit.courses() if visit.candidate.plan.write else ()
        course = courses[0] if courses else None
        aloft = self._aloft(courses) if visit.candidate.plan.join else None
        if aloft is not None:
            if await self._join(visit, aloft, deliver):
                return
            course = None
        reply = self._refuse_cost(visit)
        if reply is not None:
            await deliver(reply)
            return
        await self._fetch(visit, course, deliver)

    def _refuse(self, visit: Visit) -> Reply | None:
        """Why the client may not ask for this model, if so."""
        refused = allowance.of_model(visit.call, visit.candidate)
        if refused is None:
            return None
        visit.meter.refuse(refused.reason)
        return self._replies.refused(refused)

    async def _recognise(self, visit: Visit) -> Reply | None:
        """What is kept, if the call may have it."""
        call, candidate, plan = visit.call, visit.candidate, visit.candidate.plan
        generation: int | None = self._exact.generation
        if candidate.identity is not None:
            visit.key = visit.meter.key = self._exact.narrow(candidate.identity, visit.dialect.name, call.fields)
        visit.gathering = self._gatherer.open(call, candidate, visit.dialect.name) if plan.write else None
        if not plan.read or visit.key is None:
            return None
        found = await self._exact.look_up(visit.key, max_age_s=candidate.asked.max_age_s)
        if isinstance(found, Missed) and visit.gathering is not None:
            found, generation = await self._gather(visit, visit.gathering), None
        if isinstance(found, Missed):
            visit.reason, visit.stale = found.reason, found.stale
            return await self._recognise_expired(visit)
        again = await self._replies.replay(visit, found.entry)
        if isinstance(again, Reason):
            visit.reason = again
            return None
        if visit.gathering is None:
            self._reception.remember(call, visit.dialect, candidate)
        self._recalling.seen(call, candidate, found.entry)
        return self._replies.hit(visit, found, again, generation=generation)

    async def _gather(self, visit: Visit, gathering: Gathering) -> Found | Missed:
        """What is kept of several inputs; looked up once more where the others landed while this was looked up."""
        max_age_s = visit.candidate.asked.max_age_s
        aloft = self._aloft(visit.courses())
        found = await gathering.look_up(max_age_s=max_age_s)
        if isinstance(found, Missed) and aloft is not None and self._aloft(visit.courses()) is not aloft:
            found = await gathering.look_up(max_age_s=max_age_s)
        return found

    async def _recognise_expired(self, visit: Visit) -> Reply | None:
        """What is kept and has expired, where it may be given while its successor is fetched."""
        stale = visit.stale
        if stale is None or not freshness.may_precede_refresh(stale, self._now(), self._settings):
            return None
        again = await self._replies.replay(visit, stale)
        if isinstance(again, Reason) or not self._refresh(visit):
            return None
        again = replace(again, reason=Reason.STALE_WHILE_REVALIDATE)
        return self._replies.hit(visit, Found(stale, max(0.0, self._now() - stale.created)), again)

    def _refresh(self, visit: Visit) -> bool:
        """Fetch the successor of an expired answer for nobody in particular; False where too much is under way."""
        candidate = visit.candidate
        asked, plan = replace(candidate.asked, no_cache=True), replace(candidate.plan, read=False, join=False)
        anew = replace(candidate, asked=asked, plan=plan, unasked=True)
        # Nobody asked for it, so nobody's receipt is made of this.
        meter = Meter(time.perf_counter())
        meter.consider(anew)
        unasked = Visit(visit.call, visit.dialect, anew, meter, plan.reason)
        return self._refreshes.begin((visit.key, candidate.form), partial(self._answer, unasked, freshness.let_pass))

    def _give_up(self, visit: Visit) -> Reply | None:
        """The refusal for a request that wants nothing but what is kept."""
        if not visit.candidate.asked.only_if_cached:
            return None
        visit.meter.refuse(Reason.NOT_CACHED)
        message = "nothing is kept for this request (only-if-cached)"
        return self._replies.error(Reason.NOT_CACHED, message, status=504)

    def _refuse_cost(self, visit: Visit) -> Reply | None:
        """Why the client may not cost anything, if so."""
        refused = allowance.of_money(visit.call, self._budgets)
        if refused is None:
            return None
        visit.meter.refuse(refused.reason)
        visit.meter.flight = None
        return self._replies.refused(refused)

    def _aloft(self, courses: Sequence[Hashable]) -> Flight | None:
        """The flight to join on the first of *courses* that has one."""
        return next((flight for course in courses if (flight := self.airspace.find(course)) is not None), None)

    async def _join(self, visit: Visit, aloft: Flight, deliver: Deliver) -> bool:
        """Follow a fetch that somebody else has begun; False where its answer is not for this call."""
        meter = visit.meter
        meter.outcome, meter.reason, meter.flight = Outcome.JOINED, Reason.IN_FLIGHT, aloft
        seat = aloft.board()
        try:
            match await self._begun(visit, seat):
                case Reply() as reply:
                    await deliver(reply)
                case Recalled() as found:
                    if visit.sought is None or not visit.sought.takes(found):
                        return False
                    await deliver(await self._replies.similar(visit, found))
                case Head() as head:
                    if not _fits(head.fields, visit.call.fields, aloft.request_fields):
                        # It was told apart by what its own request says, so it is answered by its own alone.
                        visit.sought = by_itself(visit.sought)
                        return False
                    await deliver(self._replies.passed_on(visit, seat, head))
        finally:
            seat.leave()
        return True

    async def _fetch(self, visit: Visit, course: Hashable | None, deliver: Deliver) -> None:
        """Ask the provider, or whoever may stand in for it."""
        meter, plan = visit.meter, visit.candidate.plan
        meter.outcome = Outcome.BYPASS if plan.bypass else Outcome.MISS
        meter.reason, meter.flight = visit.reason, None
        meter.inputs_found = visit.gathering.found if visit.gathering is not None else 0
        departed = self._departures.take_off(visit, course)
        try:
            match await self._begun(visit, departed.seat):
                case Reply() as reply:
                    await deliver(reply)
                case Recalled() as found:
                    await deliver(await self._replies.similar(visit, found))
                case Head() as head:
                    if departed.elsewhere:
                        meter.outcome, meter.reason, meter.flight = Outcome.JOINED, Reason.IN_FLIGHT, departed.flight
                    await deliver(
                        self._replies.passed_on(visit, departed.seat, head, apart=self._recalling.why(visit.sought))
                    )
        finally:
            departed.seat.leave()

    async def _begun(self, visit: Visit, seat: Seat) -> Head | Recalled | Reply:
        """What begins to come; an expired answer where the provider fails and that may stand in for its own."""
        stale = visit.stale
        if stale is not None and freshness.may_stand_in(stale, self._now(), self._settings):
            try:
                head = await seat.head()
                failed = isinstance(head, Head) and freshness.is_outage(head.status)
            except UpstreamError:
                failed = True
            if failed and (reply := await self._replies.expired(visit, stale, Reason.STALE_IF_ERROR)) is not None:
                return reply
        return await seat.head()


def _fits(answered: Fields, mine: Fields, leaders: Fields) -> bool:
    """Whether an answer made for the leader's header fields is also the one for mine, by its ``Vary``."""
    names = fingerprint.vary_names(answered.all(b"vary"))
    return names is not None and all(mine.all(name) == leaders.all(name) for name in names)


def reason_of(error: UpstreamError | Abandoned) -> Reason:
    """The word for a fault of the provider's."""
    match error:
        case Unreachable():
            return Reason.UPSTREAM_UNREACHABLE
        case KeyRefused():
            return Reason.PROVIDER_KEY
        case Garbled():
            return Reason.UPSTREAM_GARBLED
        case _:
            return Reason.UPSTREAM_BROKE
