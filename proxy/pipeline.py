"""The pass: how a call lives. Nothing but the order of the steps."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from proxy import canonical, codings, fingerprint, headers, labels, policy
from proxy.call import Call, Deliver, Repeat, Reply
from proxy.canonical import Unfit
from proxy.codings import Undecodable
from proxy.config import CacheSettings, Config
from proxy.errors import Garbled, Unreachable, UpstreamError
from proxy.fingerprint import Tenants
from proxy.flights import Abandoned, Airspace, Flight, Head, Lagged, Landing, Seat
from proxy.headers import Fields
from proxy.ledger import Ledger
from proxy.model import CutOff, Entry, Finding, Form, Json, Key, Outcome, Reason, TenantId, Unkept
from proxy.pace import Paced
from proxy.policy import Control, Plan
from proxy.ports import Body, Dialect
from proxy.receipts import FetchReceipt, Receipt
from proxy.replay import MAX_DECODED_BYTES, Replayed, replay
from proxy.tasks import Tasks
from proxy.tiers.exact import NAME as EXACT
from proxy.tiers.exact import ExactTier, Found
from proxy.upstream import Answer, Upstream

log = logging.getLogger(__name__)

OFF_LOOP_BYTES = 128 * 1024
"""A JSON text above this is read in a thread: it takes more than a millisecond, and others are waiting."""

NEVER_S = 1e12
"""A time to live beyond this is none."""

NO_FORM = Form()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    """A call of which the cache knows enough to decide."""

    request: Json
    asked: Control
    plan: Plan
    form: Form
    tenant: TenantId
    identity: Key | None
    """The exact key; None where the call cannot be told from others."""
    key: Key | None
    """The exact key narrowed by what answers on this path vary by: where the entry lies."""


@dataclass(slots=True)
class _Meter:
    """What one call has come to so far; the receipt is made from it at the end."""

    started: float
    outcome: Outcome = Outcome.ERROR
    reason: Reason = Reason.INTERNAL
    status: int = 0
    body: bytes | Body = b""
    first_s: float = 0.0
    cut: CutOff = CutOff.DELIVERED
    tier: str = ""
    saved: Entry | None = None
    flight: Flight | None = None
    model: str = ""

    def consider(self, candidate: _Candidate) -> None:
        """Until more is known the call has the outcome that its plan foresees."""
        self.model = policy.model_of(candidate.request)
        self.outcome = Outcome.BYPASS if candidate.plan.bypass else Outcome.MISS
        self.reason = candidate.plan.reason

    def begin(self, reply: Reply, now: float) -> None:
        """The reply begins."""
        self.status = reply.status
        self.body = reply.body
        self.first_s = now - self.started

    def fail(self, reason: Reason) -> None:
        """The call ends in an error: of the proxy's own, or by breaking off."""
        self.outcome, self.reason = Outcome.ERROR, reason
        self.cut = CutOff.BROKE_OFF if self.status else CutOff.DELIVERED


class Pipeline:
    """Takes calls, gives replies."""

    def __init__(
        self,
        config: Config,
        *,
        upstream: Upstream,
        exact: ExactTier,
        ledger: Ledger,
        tasks: Tasks,
        secret: bytes,
        trusted: Callable[[str], bool],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._settings: CacheSettings = config.cache
        self._flight_settings = config.flights
        self._replay_settings = config.replay
        self._label_level = config.headers
        self._upstream = upstream
        self._exact = exact
        self._ledger = ledger
        self._tasks = tasks
        self._tenants = Tenants(
            share="credential" if config.cache.share == "auto" else config.cache.share, secret=secret
        )
        self._trusted = trusted
        self._now = now
        self._share = "credential" if config.cache.share == "auto" else config.cache.share
        self._key_headers = tuple(sorted(name.lower().encode() for name in config.cache.key_headers))
        self.airspace = Airspace()

    async def forward(self, call: Call, deliver: Deliver) -> None:
        """A call on a path that is not cached: through to the provider unread, both ways as it comes."""
        try:
            async with await self._upstream.ask(call.method, call.target, call.fields, call.body) as answer:
                await deliver(
                    Reply(
                        status=answer.status,
                        phrase=answer.phrase,
                        head=headers.lines(headers.end_to_end(answer.fields)),
                        body=answer,
                        sized=b"content-length" in answer.fields and b"transfer-encoding" not in answer.fields,
                    )
                )
        finally:
            self._ledger.forwarded()

    async def serve(self, call: Call, dialect: Dialect, deliver: Deliver) -> None:
        """A call on a cached path: recognise it, or fetch and record its answer; account for it at the end."""
        # Not the loop's own time: uvloop's goes in steps of a millisecond.
        clock = time.perf_counter
        meter = _Meter(clock())

        async def begin(reply: Reply) -> None:
            meter.begin(reply, clock())
            await deliver(reply)

        try:
            candidate = await self._consider(call, dialect)
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
            self._account(meter, call, clock())

    def _account(self, meter: _Meter, call: Call, now: float) -> None:
        """The one receipt of a call, and for one who joined what that spared, as soon as it is known."""
        self._ledger.record(self._receipt(meter, call, now - meter.started, meter.cut))
        flight, model = meter.flight, meter.model
        if meter.outcome is Outcome.JOINED and meter.cut is CutOff.DELIVERED and meter.status == 200 and flight:
            flight.when_examined(lambda found: self._ledger.spared(model, found.usage))

    def _receipt(self, meter: _Meter, call: Call, total_s: float, cut: CutOff) -> Receipt:
        entry = meter.saved
        return Receipt(
            outcome=meter.outcome,
            reason=meter.reason,
            model=meter.model,
            status=meter.status or (entry.status if entry is not None else 0),
            bytes_in=len(call.body) if isinstance(call.body, bytes) else 0,
            bytes_out=len(meter.body) if isinstance(meter.body, bytes) else meter.body.poured_bytes,
            first_s=meter.first_s,
            total_s=total_s,
            cut=cut,
            tier=meter.tier,
            saved=entry.usage if entry is not None else None,
            saved_s=entry.fetch_s if entry is not None else 0.0,
        )

    async def _consider(self, call: Call, dialect: Dialect) -> _Candidate:
        """Read the request and decide what the cache may do for it."""
        asked = policy.control(call.fields)
        owner = self._tenants.of(call.fields, peer_trusted=self._trusted(call.peer))

        def out(reason: Reason, request: Json | None = None) -> _Candidate:
            plan = Plan(read=False, write=False, join=False, reason=reason)
            form = dialect.form(request) if request is not None else NO_FORM
            return _Candidate(
                request=request or {}, asked=asked, plan=plan, form=form, tenant=owner, identity=None, key=None
            )

        if not isinstance(call.body, bytes):
            return out(Reason.BODY_TOO_LARGE if call.body is not None else Reason.INVALID_JSON)
        unfit = policy.unfit_headers(call.fields)
        if unfit is Reason.ENCODED_BODY:
            return out(unfit)
        request = await _read(call.body)
        if isinstance(request, Unfit):
            return out(request.reason)
        if unfit is not None:
            return out(unfit, request)
        identity = fingerprint.exact(
            tenant=owner,
            namespace=asked.namespace,
            upstream=self._upstream.origin.identity,
            dialect=dialect,
            target=call.target,
            fields=call.fields,
            extra_headers=self._key_headers,
            request=request,
        )
        if isinstance(identity, Unfit):
            return out(identity.reason, request)
        plan = policy.plan(request, asked, dialect, self._settings)
        key = self._exact.narrow(identity.exact, dialect.name, call.fields)
        return _Candidate(
            request=request,
            asked=asked,
            plan=plan,
            form=dialect.form(request),
            tenant=owner,
            identity=identity.exact,
            key=key,
        )

    async def _answer(
        self, call: Call, dialect: Dialect, candidate: _Candidate, meter: _Meter, deliver: Deliver
    ) -> None:
        """Look up, join, or fetch."""
        plan, key = candidate.plan, candidate.key
        reason = plan.reason
        if plan.read and key is not None:
            found = await self._exact.look_up(key, max_age_s=candidate.asked.max_age_s)
            if isinstance(found, Found):
                again = self._replay(found.entry, call, candidate.form, dialect)
                if isinstance(again, Replayed):
                    await deliver(self._hit(found, again, candidate, call, meter))
                    return
                reason = again
            else:
                reason = found.reason
        if candidate.asked.only_if_cached:
            meter.outcome, meter.reason = Outcome.ERROR, Reason.NOT_CACHED
            await deliver(
                self._refusal(Reason.NOT_CACHED, "nothing is kept for this request (only-if-cached)", status=504)
            )
            return

        # From here to take-off nothing waits: of many calls that come at once one leads and all others find it.
        course = (key, candidate.form, call.fields.all(b"accept-encoding")) if plan.write else None
        aloft = self.airspace.find(course) if plan.join and course is not None else None
        if aloft is not None:
            seat = aloft.board()
            meter.outcome, meter.reason, meter.flight = Outcome.JOINED, Reason.IN_FLIGHT, aloft
            try:
                head = await seat.head()
                if _fits(head.fields, call.fields, aloft.request_fields):
                    await deliver(self._passed_on(seat, head, key, meter))
                    return
            finally:
                seat.leave()
            course = None

        meter.outcome = Outcome.BYPASS if plan.bypass else Outcome.MISS
        meter.reason, meter.flight = reason, None
        flight = self._flight(call)
        seat = flight.board()
        if course is not None:
            self.airspace.enter(course, flight)

        async def landed(landing: Landing) -> None:
            try:
                await self._land(call, dialect, candidate, flight, landing)
            finally:
                if course is not None:
                    self.airspace.exit(course, flight)

        flight.take_off(self._tasks, landed)
        try:
            head = await seat.head()
            await deliver(self._passed_on(seat, head, key, meter))
        finally:
            seat.leave()

    def _replay(self, entry: Entry, call: Call, form: Form, dialect: Dialect) -> Replayed | Reason:
        accepted = call.fields.tokens(b"accept-encoding")
        return replay(entry, form=form, accept_encoding=accepted, dialect=dialect, settings=self._replay_settings)

    def _hit(self, found: Found, again: Replayed, candidate: _Candidate, call: Call, meter: _Meter) -> Reply:
        entry = found.entry
        meter.outcome, meter.reason, meter.tier, meter.saved = Outcome.HIT, again.reason, EXACT, entry

        def head_at(now: float) -> bytes:
            left_s = entry.expires - now
            return again.head + labels.labels(
                self._label_level,
                Outcome.HIT,
                again.reason,
                key=entry.key,
                tier=EXACT,
                age_s=max(0, int(now - entry.created)),
                ttl_s=int(left_s) if left_s < NEVER_S else None,
                saved_tokens=entry.usage.total_tokens if entry.usage is not None else None,
            )

        body: bytes | Body = again.body
        repeat = None
        if again.exact and entry.marks and self._replay_settings.pace == "recorded":
            body = Paced(again.body, entry.marks)
        else:
            meter.body = again.body
            # What the request says about age, or who sent it through which proxy, may decide otherwise next time.
            if candidate.asked.max_age_s is None and not self._share.startswith("header:"):
                repeat = Repeat(entry=entry, head_at=head_at, receipt=self._receipt(meter, call, 0.0, CutOff.DELIVERED))
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

    def _passed_on(self, seat: Seat, head: Head, key: Key | None, meter: _Meter) -> Reply:
        fields = head.fields
        said = labels.labels(self._label_level, meter.outcome, meter.reason, key=key)
        # A cookie is for the one whose request it answers; a CDN's own x-cache would contradict ours.
        unsaid = _CDN if said else frozenset()
        if meter.outcome is Outcome.JOINED:
            unsaid |= _COOKIES
        return Reply(
            status=head.status,
            phrase=head.phrase,
            head=headers.lines(headers.end_to_end(fields, without=unsaid)) + said,
            body=seat,
            sized=b"content-length" in fields and b"transfer-encoding" not in fields,
            outcome=meter.outcome,
            reason=meter.reason,
        )

    def _refusal(self, reason: Reason, message: str, *, status: int) -> Reply:
        body = labels.error_body(message, reason)
        head = b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(body)
        return Reply(
            status=status,
            phrase=labels.PHRASES[status],
            head=head + labels.labels(self._label_level, Outcome.ERROR, reason),
            body=body,
            sized=True,
            outcome=Outcome.ERROR,
            reason=reason,
        )

    def _flight(self, call: Call) -> Flight:
        async def ask() -> Answer:
            return await self._upstream.ask(call.method, call.target, call.fields, call.body)

        return Flight(
            ask,
            request_fields=call.fields,
            max_record_bytes=self._settings.max_entry_bytes,
            max_lead_bytes=self._flight_settings.max_lead_bytes,
            max_lag_bytes=self._flight_settings.max_lag_bytes,
            finish_abandoned=self._settings.finish_abandoned,
            timed=self._replay_settings.pace == "recorded",
        )

    async def _land(
        self, call: Call, dialect: Dialect, candidate: _Candidate, flight: Flight, landing: Landing
    ) -> None:
        """A fetch is over: read what came, keep it if it is worth keeping, and account for it."""
        found = await self._examine(dialect, candidate, landing)
        flight.examined(found)
        unkept = self._unkept(candidate.plan, landing, found)
        kept = False
        if unkept is None and candidate.plan.write and candidate.key is not None:
            unkept = await self._keep(call, dialect, candidate, landing, found)
            kept = unkept is None
        gated = candidate.plan.reason is Reason.TEMPERATURE and unkept is None
        self._ledger.fetched(
            FetchReceipt(
                model=policy.model_of(candidate.request),
                status=landing.head.status if landing.head is not None else None,
                bytes_in=landing.bytes_in,
                total_s=landing.total_s,
                usage=found.usage,
                kept=kept,
                unkept=unkept if candidate.plan.write else None,
                repeatable_key=candidate.key if gated else None,
            )
        )

    async def _examine(self, dialect: Dialect, candidate: _Candidate, landing: Landing) -> Finding:
        head, body = landing.head, landing.body
        if landing.error is not None or head is None:
            abandoned = isinstance(landing.error, Abandoned)
            return Finding(unkept=Unkept.ABANDONED if abandoned else Unkept.BROKE_OFF)
        if body is None:
            return Finding(unkept=Unkept.TOO_LARGE)
        if head.status != 200:
            return Finding(unkept=Unkept.STATUS)
        if policy.content_kind(head.fields) != ("stream" if candidate.form.stream else "json"):
            return Finding(unkept=Unkept.UNREADABLE)
        if len(body) > OFF_LOOP_BYTES:
            return await asyncio.to_thread(_read_answer, dialect, body, _encoding(head.fields), candidate.form)
        return _read_answer(dialect, body, _encoding(head.fields), candidate.form)

    def _unkept(self, plan: Plan, landing: Landing, found: Finding) -> Unkept | None:
        if landing.head is None or landing.error is not None:
            return found.unkept
        return policy.keepable(landing.head.status, found, landing.head.fields, self._settings)

    async def _keep(
        self, call: Call, dialect: Dialect, candidate: _Candidate, landing: Landing, found: Finding
    ) -> Unkept | None:
        """Put the answer away; why it could not be, or None."""
        head, body, identity = landing.head, landing.body, candidate.identity
        if head is None or body is None or identity is None:
            return Unkept.INCOMPLETE
        names = fingerprint.vary_names(head.fields.all(b"vary"))
        if names is None or not self._exact.learn_vary(dialect.name, names):
            return Unkept.VARIES
        ttl_s = candidate.asked.ttl_s if candidate.asked.ttl_s is not None else self._settings.ttl_s
        if ttl_s <= 0:
            return Unkept.FORBIDDEN
        created = self._now()
        paced = candidate.form.stream and self._replay_settings.pace == "recorded"
        entry = Entry(
            # A Vary that this answer was the first to name narrows the key under which it is found from now on.
            key=self._exact.narrow(identity, dialect.name, call.fields),
            dialect=dialect.name,
            status=head.status,
            phrase=head.phrase,
            head=headers.lines(headers.end_to_end(head.fields, without=_NEVER_KEPT)),
            body=body,
            encoding=_encoding(head.fields),
            chunked=b"content-length" not in head.fields or b"transfer-encoding" in head.fields,
            form=candidate.form,
            model=found.model or policy.model_of(candidate.request),
            usage=found.usage,
            created=created,
            expires=created + ttl_s,
            fetch_s=landing.total_s,
            marks=_relative(landing.marks) if paced else (),
            tenant=candidate.tenant,
        )
        return None if await self._exact.keep(entry) else Unkept.CACHE_FAULT


_COOKIES = frozenset({b"set-cookie", b"set-cookie2"})
_CDN = frozenset({b"x-cache", b"x-cache-reason", b"x-cache-key", b"x-cache-tier", b"x-cache-saved-tokens"})
_NEVER_KEPT = _COOKIES | _CDN | {b"age"}
"""Fields of an answer that belong to its first delivery alone."""


async def _read(body: bytes) -> Json | Unfit:
    if len(body) > OFF_LOOP_BYTES:
        return await asyncio.to_thread(canonical.read, body)
    return canonical.read(body)


def _read_answer(dialect: Dialect, body: bytes, encoding: str, form: Form) -> Finding:
    try:
        plain = codings.decode(body, encoding, limit=MAX_DECODED_BYTES)
    except Undecodable:
        return Finding(unkept=Unkept.UNREADABLE)
    return dialect.examine(plain, form)


def _encoding(fields: Fields) -> str:
    return b",".join(fields.tokens(b"content-encoding")).decode("latin-1")


def _fits(answered: Fields, mine: Fields, leaders: Fields) -> bool:
    """Whether an answer made for the leader's header fields is also the one for mine, by its ``Vary``."""
    names = fingerprint.vary_names(answered.all(b"vary"))
    return names is not None and all(mine.all(name) == leaders.all(name) for name in names)


def reason_of(error: UpstreamError | Abandoned) -> Reason:
    """The word for a fault of the provider's."""
    match error:
        case Unreachable():
            return Reason.UPSTREAM_UNREACHABLE
        case Garbled():
            return Reason.UPSTREAM_GARBLED
        case _:
            return Reason.UPSTREAM_BROKE


def _relative(marks: tuple[tuple[int, float], ...]) -> tuple[tuple[int, float], ...]:
    start = marks[0][1] if marks else 0.0
    return tuple((octets, at - start) for octets, at in marks)
