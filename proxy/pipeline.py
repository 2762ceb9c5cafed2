"""The pass: how a call lives. Nothing but the order of the steps."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from proxy import allowance, fingerprint, freshness, headers, labels, money
from proxy.ahead import Ahead
from proxy.allowance import STRANGER, Refusal
from proxy.budgets import Budgets
from proxy.byhand import ByHand
from proxy.call import Call, Candidate, Deliver, Repeat, Reply
from proxy.clients import Client
from proxy.counting import Counting
from proxy.errors import Broke, Garbled, KeyRefused, Unreachable, UpstreamError
from proxy.fleet import Fleet
from proxy.flights import Abandoned, Airspace, Flight, Head, Lagged, Landing, Seat
from proxy.gathering import MAX_GATHERED_BYTES, Gatherer, Gathering
from proxy.headers import Fields
from proxy.landing import OFF_LOOP_BYTES, OFF_LOOP_CODED_BYTES, Ground
from proxy.leases import Lease, Leasing
from proxy.ledger import Ledger
from proxy.meter import Meter
from proxy.model import Apart, CutOff, Entry, Finding, Form, Key, Neighbour, Outcome, Reason, Unkept
from proxy.money import Cost
from proxy.pace import Paced
from proxy.ports import Body, Dialect, Upload
from proxy.provider import Incoming
from proxy.question import Question
from proxy.recall import Recalled
from proxy.recalling import Recalling, why
from proxy.receipts import Bill, Receipt
from proxy.reception import Reception
from proxy.replay import Replayed, replay
from proxy.settings import CacheSettings, Config
from proxy.tasks import Tasks
from proxy.tiers.exact import NAME as EXACT
from proxy.tiers.exact import ExactTier, Found, Missed
from proxy.tiers.prefix import PrefixTier, Watch
from proxy.tiers.semantic import NAME as SEMANTIC
from proxy.tiers.semantic import SemanticTier
from proxy.till import Till
from proxy.upstream import Upstream
from proxy.usage import Method, Usage
from proxy.usageasking import UsageAsking
from proxy.warmth import Warmth

log = logging.getLogger(__name__)

NEVER_S = 1e12
"""A time to live beyond this is none."""


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
        now: Callable[[], float] = time.time,
    ) -> None:
        self._settings: CacheSettings = config.cache
        self._flight_settings = config.flights
        self._replay_settings = config.replay
        self._label_level = config.headers
        self._upstreams = upstreams
        self._exact = exact
        self._gatherer = Gatherer(exact)
        self._ledger = ledger
        self._tills = tills
        self._prefix = prefix
        self._tasks = tasks
        self._budgets = budgets
        self._reception = Reception(
            config.cache,
            semantic=config.semantic,
            secret=secret,
            trusted=trusted,
            shared_key=config.keys.mode == "shared",
            compat=config.compat,
        )
        self._warmth = Warmth()
        self._usage_asking = UsageAsking(enabled=config.accounting.request_stream_usage, now=now)
        self._now = now
        self._timed = config.replay.pace == "recorded"
        counting = Counting(tasks)
        self._recalling = Recalling(
            semantic,
            exact=exact,
            counting=counting,
            maker=self._reception.maker if self._reception.shares else None,
            parallel=config.semantic.parallel,
            refused_by=config.semantic.refused_by,
        )
        self._ground = Ground(
            config.cache,
            exact=exact,
            recalling=self._recalling,
            ledger=ledger,
            tills=tills,
            counting=counting,
            tasks=tasks,
            timed=self._timed,
            now=now,
        )
        self._leasing = leasing
        self._refreshes = freshness.Refreshes(tasks)
        self.airspace = Airspace()
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

    async def forward(self, call: Call, deliver: Deliver) -> None:
        """A call on a path that is not cached: through to the provider unread, both ways as it comes."""
        try:
            refused = allowance.of_unread(call, self._budgets)
            if refused is not None:
                await deliver(self._refused(refused))
                return
            upstream = self._upstreams[call.way.unread.name]
            async with await upstream.ask(call.method, call.target, call.fields, call.body) as answer:
                await deliver(
                    Reply(
                        status=answer.status,
                        phrase=answer.phrase,
                        head=headers.block(answer.fields),
                        body=answer,
                        sized=b"content-length" in answer.fields and b"transfer-encoding" not in answer.fields,
                    )
                )
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
        return self._refused(refused) if refused is not None else None

    def turned_away(self, call: Call) -> Reply:
        """*call* came without a key that is good."""
        if call.dialect is None:
            self._ledger.forwarded()
        else:
            meter = Meter(0.0)
            meter.refuse(STRANGER.reason)
            meter.begin(reply := self._refused(STRANGER), 0.0)
            self._ledger.record(meter.receipt(call, total_s=0.0, cut=CutOff.DELIVERED))
            return reply
        return self._refused(STRANGER)

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
                await self._answer(call, dialect, candidate, meter, begin)
            except (UpstreamError, Abandoned) as error:
                reason = reason_of(error)
                meter.fail(reason)
                if meter.status:
                    raise
                await begin(self._refusal(reason, str(error), status=502))
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
                self._account(meter, call, clock())

    def _account(self, meter: Meter, call: Call, now: float) -> None:
        """The one receipt of a call, and for one who joined what that spared, as soon as it is known."""
        flight = meter.flight
        bill = meter.bill = Bill() if flight is not None else meter.bill
        self._ledger.record(meter.receipt(call, total_s=now - meter.started, cut=meter.cut))
        if (
            meter.outcome is Outcome.JOINED
            and meter.cut is CutOff.DELIVERED
            and meter.status == 200
            and flight is not None
            and bill is not None
        ):
            flight.when_examined(partial(self._spared, bill, meter.model, call.asker, self._tills[meter.route]))

    def _spared(self, bill: Bill, model: str, who: Client, till: Till, found: Finding) -> None:
        # An answer that is only cut short was worth its price to whoever asked; an error inside was worth nothing.
        if found.unkept in (None, Unkept.LENGTH, Unkept.CONTENT_FILTER):
            cost = self._cost(till, model, found, found.usage)
            self._ledger.spared(model, found.usage, cost, client=who.name, team=who.team)
            self._settle(bill, model, till, None, found)
            if found.late is not None:
                found.late.when_known(
                    lambda usage: self._ledger.counted_spared(
                        model, usage, self._cost(till, model, found, usage), client=who.name, team=who.team
                    )
                )

    def _settle(self, bill: Bill, model: str, till: Till, gathering: Gathering | None, found: Finding) -> None:
        """What a fetch cost is known when it has landed, or when its tokens were counted."""
        found = gathering.own(found) if gathering is not None else found
        bill.settle(found.usage, self._cost(till, model, found, found.usage))
        if found.late is not None:
            found.late.when_known(lambda usage: bill.settle(usage, self._cost(till, model, found, usage)))

    def _cost(self, till: Till, model: str, found: Finding, usage: Usage | None) -> Cost | None:
        return till.cost(found.model or model, found.service_tier, usage, self._now())

    async def _answer(self, call: Call, dialect: Dialect, candidate: Candidate, meter: Meter, deliver: Deliver) -> None:
        """Look up, join, or fetch."""
        plan, identity = candidate.plan, candidate.identity
        refused = allowance.of_model(call, candidate)
        if refused is not None:
            meter.refuse(refused.reason)
            await deliver(self._refused(refused))
            return
        generation: int | None = self._exact.generation
        stale: Entry | None = None
        key = self._exact.narrow(identity, dialect.name, call.fields) if identity is not None else None
        reason, meter.key = plan.reason, key
        gathering = self._gatherer.open(call, candidate, dialect.name) if plan.write else None
        if plan.read and key is not None:
            found = await self._exact.look_up(key, max_age_s=candidate.asked.max_age_s)
            if isinstance(found, Missed) and gathering is not None:
                found, generation = await gathering.look_up(max_age_s=candidate.asked.max_age_s), None
            if isinstance(found, Found):
                again = await self._replay(found.entry, call, candidate.form, dialect)
                if isinstance(again, Replayed):
                    if gathering is None:
                        self._reception.remember(call, dialect, candidate)
                    self._recalling.seen(call, candidate, found.entry)
                    await deliver(self._hit(found, again, candidate, call, meter, generation))
                    return
                reason = again
            else:
                reason, stale = found.reason, found.stale
        if stale is not None and freshness.may_precede_refresh(stale, self._now(), self._settings):
            reply = await self._expired(stale, Reason.STALE_WHILE_REVALIDATE, call, dialect, candidate, meter)
            if reply is not None and self._refresh(key, call, dialect, candidate):
                await deliver(reply)
                return
        if candidate.asked.only_if_cached:
            meter.outcome, meter.reason = Outcome.ERROR, Reason.NOT_CACHED
            await deliver(
                self._refusal(Reason.NOT_CACHED, "nothing is kept for this request (only-if-cached)", status=504)
            )
            return

        # From here to take-off nothing waits: of many calls that come at once one leads and all others find it.
        sought = self._recalling.seek(call, candidate, key)
        form = (key, candidate.form, call.fields.all(b"accept-encoding"))
        # A flight that may be given another question's answer is only for those who take one; any other is for all.
        takes = sought is not None and sought.inquiry is not None
        course = (*form, takes) if plan.write else None
        aloft = self.airspace.find(course) or self.airspace.find((*form, False)) if plan.join and course else None
        if aloft is not None:
            seat = aloft.board()
            meter.outcome, meter.reason, meter.flight = Outcome.JOINED, Reason.IN_FLIGHT, aloft
            try:
                head = await self._head(seat, stale)
                if head is None:
                    if reply := await self._stands_in(stale, call, dialect, candidate, meter):
                        await deliver(reply)
                        return
                    head = await seat.head()
                if isinstance(head, Recalled):
                    if sought is not None and sought.takes(head):
                        await deliver(await self._similar(head, call, candidate, dialect, meter))
                        return
                elif _fits(head.fields, call.fields, aloft.request_fields):
                    await deliver(self._passed_on(seat, head, key, meter))
                    return
            finally:
                seat.leave()
            course = None

        refused = allowance.of_money(call, self._budgets)
        if refused is not None:
            meter.refuse(refused.reason)
            meter.flight = None
            await deliver(self._refused(refused))
            return

        meter.outcome = Outcome.BYPASS if plan.bypass else Outcome.MISS
        meter.reason, meter.flight, meter.bill = reason, None, Bill()
        meter.inputs_found = gathering.found if gathering is not None else 0
        finish = plan.write and self._settings.finish_abandoned
        watch = self._prefix.watch(call, dialect, candidate)

        async def replayed(entry: Entry) -> Replayed | None:
            again = await self._replay(entry, call, candidate.form, dialect)
            return again if isinstance(again, Replayed) else None

        async def fits(entry: Entry) -> bool:
            return await replayed(entry) is not None

        async def fetched(entry: Entry) -> Replayed | None:
            # What is kept may be what was too old a moment ago.
            most_s = candidate.asked.max_age_s
            return await replayed(entry) if most_s is None or self._now() - entry.created <= most_s else None

        # A stream that waited for another process to have it whole would come late; a store that fails knows of none.
        shared = course is not None and plan.join and gathering is None and reason is not Reason.CACHE_FAULT
        lease = self._leasing.lease(key, fetched) if shared and key and not candidate.form.stream else None
        ahead = self._ahead(call, candidate, watch, gathering, lease)
        recall = self._recalling.recall(sought, ahead, fits)
        flight = self._flight(call, ahead, recall, gathering, finish_abandoned=finish)
        flight.when_examined(partial(self._settle, meter.bill, meter.model, self._tills[meter.route], gathering))
        if watch is not None and lease is None:
            flight.when_examined(partial(self._prefix.landed, watch))
        seat = flight.board()
        if course is not None:
            self.airspace.enter(course, flight)

        async def landed(landing: Landing) -> None:
            elsewhere = lease.found if lease is not None else None
            try:
                if elsewhere is not None:
                    usage, tier = elsewhere.usage, elsewhere.service_tier
                    flight.examined(Finding(usage=usage, model=elsewhere.model, service_tier=tier))
                elif flight.recalled is None:
                    if watch is not None and lease is not None:
                        flight.when_examined(partial(self._prefix.landed, watch))
                    await self._ground.land(call, dialect, candidate, flight, landing, sought, gathering)
            finally:
                if course is not None:
                    self.airspace.exit(course, flight)
                if lease is not None:
                    lease.end()

        flight.take_off(self._tasks, landed)
        try:
            head = await self._head(seat, stale)
            if head is None:
                if reply := await self._stands_in(stale, call, dialect, candidate, meter):
                    await deliver(reply)
                    return
                head = await seat.head()
            if isinstance(head, Recalled):
                await deliver(await self._similar(head, call, candidate, dialect, meter))
            else:
                if lease is not None and lease.found is not None:
                    meter.outcome, meter.reason, meter.flight = Outcome.JOINED, Reason.IN_FLIGHT, flight
                await deliver(self._passed_on(seat, head, key, meter, apart=why(sought)))
        finally:
            seat.leave()

    async def _head(self, seat: Seat, stale: Entry | None) -> Head | Recalled | None:
        """The head of what is fetched; None where the provider failed and *stale* may stand in for its answer."""
        if stale is None or not freshness.may_stand_in(stale, self._now(), self._settings):
            return await seat.head()
        try:
            head = await seat.head()
        except UpstreamError:
            return None
        return None if isinstance(head, Head) and freshness.is_outage(head.status) else head

    async def _stands_in(
        self, stale: Entry | None, call: Call, dialect: Dialect, candidate: Candidate, meter: Meter
    ) -> Reply | None:
        if stale is None:
            return None
        return await self._expired(stale, Reason.STALE_IF_ERROR, call, dialect, candidate, meter)

    async def _expired(
        self, entry: Entry, reason: Reason, call: Call, dialect: Dialect, candidate: Candidate, meter: Meter
    ) -> Reply | None:
        """An answer that has expired, marked as such; None where it cannot be given in the form asked for."""
        again = await self._replay(entry, call, candidate.form, dialect)
        if isinstance(again, Reason):
            return None
        meter.flight = meter.bill = None
        found = Found(entry, max(0.0, self._now() - entry.created))
        return self._hit(found, replace(again, reason=reason), candidate, call, meter, generation=None)

    def _refresh(self, key: Key | None, call: Call, dialect: Dialect, candidate: Candidate) -> bool:
        """Fetch the successor of an expired answer for nobody in particular; False where too much is under way."""
        asked = replace(candidate.asked, no_cache=True)
        anew = replace(candidate, asked=asked, plan=replace(candidate.plan, read=False, join=False), unasked=True)
        # Nobody asked for it, so nobody's receipt is made of this.
        meter = Meter(time.perf_counter())
        meter.consider(anew)
        fetch = partial(self._answer, call, dialect, anew, meter, freshness.let_pass)
        return self._refreshes.begin((key, candidate.form), fetch)

    async def _similar(
        self, found: Recalled, call: Call, candidate: Candidate, dialect: Dialect, meter: Meter
    ) -> Reply:
        """The answer to another question."""
        again = await self._replay(found.entry, call, candidate.form, dialect)
        if isinstance(again, Reason):
            # It could be given a moment ago, to the one who leads.
            raise Broke("a recorded answer can no longer be given")
        meter.flight = None
        return self._hit(
            Found(found.entry, found.age_s),
            replace(again, reason=Reason.SIMILAR),
            candidate,
            call,
            meter,
            generation=None,
            recalled=found,
        )

    async def _replay(self, entry: Entry, call: Call, form: Form, dialect: Dialect) -> Replayed | Reason:
        accepted = call.fields.tokens(b"accept-encoding")
        again = partial(
            replay, entry, form=form, accept_encoding=accepted, dialect=dialect, settings=self._replay_settings
        )
        long = len(entry.body) > (OFF_LOOP_CODED_BYTES if entry.encoding else OFF_LOOP_BYTES)
        if long and (form != entry.form or entry.encoding or self._replay_settings.fresh_ids):
            return await asyncio.to_thread(again)
        return again()

    def _hit(
        self,
        found: Found,
        again: Replayed,
        candidate: Candidate,
        call: Call,
        meter: Meter,
        generation: int | None,
        recalled: Recalled | None = None,
    ) -> Reply:
        entry, tier = found.entry, EXACT if recalled is None else SEMANTIC
        meter.outcome, meter.reason, meter.tier, meter.saved = Outcome.HIT, again.reason, tier, entry
        usage = meter.saved_usage = entry.usage
        meter.inputs_found = meter.inputs
        till = self._tills[candidate.route.name]

        def cost_at(now: float) -> Cost | None:
            return till.cost(entry.model, entry.service_tier, usage, now)

        def net_at(now: float) -> Cost | None:
            return self._warmth.cost(
                entry, usage, now, till=till, rule=lambda: self._prefix.rule(candidate.route.name, entry.model)
            )

        meter.saved_cost = net_at(self._now())

        def head_at(now: float) -> bytes:
            left_s, cost = entry.expires - now, cost_at(now)
            return again.head + labels.labels(
                self._label_level,
                Outcome.HIT,
                again.reason,
                key=entry.key,
                tier=tier,
                recalled=recalled,
                age_s=max(0, int(now - entry.created)),
                ttl_s=int(left_s) if left_s < NEVER_S else None,
                saved_tokens=usage.total_tokens if usage is not None else None,
                saved_method=usage.method if usage is not None else Method.MEASURED,
                saved_usd=money.text(cost.usd) if cost is not None else None,
            )

        body: bytes | Body = again.body
        repeat = None
        if again.exact and entry.marks and self._timed:
            body = Paced(again.body, entry.marks)
        else:
            meter.body = again.body
            # What the request says about age, or who sent it through which proxy, may decide otherwise next time.
            if (
                generation is not None
                and candidate.asked.max_age_s is None
                and not (self._reception.peer_matters or self._replay_settings.fresh_ids)
            ):
                receipt = meter.receipt(call, total_s=0.0, cut=CutOff.DELIVERED)

                def receipt_at(now: float) -> Receipt:
                    cost = net_at(now)
                    return receipt if cost == receipt.saved_cost else replace(receipt, saved_cost=cost)

                repeat = Repeat(entry=entry, head_at=head_at, receipt_at=receipt_at, generation=generation)
        return Reply(
            status=entry.status,
            phrase=entry.phrase,
            head=head_at(self._now()),
            body=body,
            sized=not again.chunked,
            outcome=Outcome.HIT,
            reason=again.reason,
            repeat=repeat,
        )

    def _passed_on(self, seat: Seat, head: Head, key: Key | None, meter: Meter, apart: Apart | None = None) -> Reply:
        fields = head.fields
        said = labels.labels(self._label_level, meter.outcome, meter.reason, key=key, apart=apart)
        # A cookie is for the one whose request it answers; a CDN's own x-cache would contradict ours.
        unsaid = headers.CDN_LABELS if said else frozenset()
        if meter.outcome is Outcome.JOINED:
            unsaid |= headers.COOKIES
        return Reply(
            status=head.status,
            phrase=head.phrase,
            head=headers.block(fields, without=unsaid) + said,
            body=seat,
            sized=b"content-length" in fields and b"transfer-encoding" not in fields,
            outcome=meter.outcome,
            reason=meter.reason,
        )

    def _refused(self, refused: Refusal) -> Reply:
        return self._refusal(refused.reason, refused.message, status=refused.status, more=refused.more)

    def _refusal(self, reason: Reason, message: str, *, status: int, more: bytes = b"") -> Reply:
        body = labels.error_body(message, reason)
        head = b"Content-Type: application/json\r\nContent-Length: %d\r\n%b" % (len(body), more)
        return Reply(
            status=status,
            phrase=labels.PHRASES[status],
            head=head + labels.labels(self._label_level, Outcome.ERROR, reason),
            body=body,
            sized=True,
            outcome=Outcome.ERROR,
            reason=reason,
        )

    def _ahead(
        self,
        call: Call,
        candidate: Candidate,
        watch: Watch | None,
        gathering: Gathering | None,
        lease: Lease | None,
    ) -> Ahead:
        async def send(fields: Fields, body: bytes | Upload | None) -> Incoming:
            return await self._upstreams[candidate.route.name].ask(call.method, call.target, fields, body)

        async def steer(fields: Fields, body: bytes | Upload | None) -> Incoming:
            return await (self._prefix.ask(send, fields, body, watch) if watch is not None else send(fields, body))

        async def ask() -> Incoming:
            if gathering is not None:
                return await gathering.ask(send)
            return await self._usage_asking.ask(steer, call, candidate)

        return Ahead(ask if lease is None else partial(lease.answer, ask), self._tasks)

    def _flight(
        self,
        call: Call,
        ahead: Ahead,
        recall: Callable[[], Awaitable[Recalled | None]] | None,
        gathering: Gathering | None,
        *,
        finish_abandoned: bool,
    ) -> Flight:
        return Flight(
            ahead.answer,
            recall=recall,
            request_fields=call.fields,
            max_record_bytes=max(MAX_GATHERED_BYTES if gathering else 0, self._settings.max_entry_bytes),
            max_lead_bytes=self._flight_settings.max_lead_bytes,
            max_lag_bytes=self._flight_settings.max_lag_bytes,
            finish_abandoned=finish_abandoned,
            timed=self._timed,
        )


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
