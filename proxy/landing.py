"""After a fetch: read what came, keep it if it is worth keeping, and account for it."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace

from proxy import codings, fingerprint, freshness, headers, policy
from proxy.accounts.books import ITEMS
from proxy.accounts.counting import Counting, Uncounted
from proxy.accounts.ledger import Ledger
from proxy.accounts.money import Cost
from proxy.accounts.receipts import FetchReceipt, Overhead
from proxy.accounts.till import Till
from proxy.accounts.usage import Usage
from proxy.codings import Undecodable
from proxy.flights import Abandoned, Flight, Landing
from proxy.headers import Fields
from proxy.model import Entry, Finding, Form, Reason, Unkept
from proxy.policy import Plan
from proxy.ports import Dialect
from proxy.replay import MAX_DECODED_BYTES, OFF_LOOP_BYTES, OFF_LOOP_CODED_BYTES
from proxy.semantic.recalling import Recalling
from proxy.settings import CacheSettings
from proxy.tasks import Tasks
from proxy.tiers.exact import ExactTier
from proxy.visit import Visit

BILLED = (None, Unkept.LENGTH, Unkept.CONTENT_FILTER, Unkept.ABANDONED)
"""Answers that are complete, or cut short by the provider, or by those who asked: what it said it charges for."""

NEVER_KEPT = headers.COOKIES | headers.CDN_LABELS | {b"age"}
"""Fields of an answer that belong to its first delivery alone."""


class Ground:
    """Where flights land."""

    def __init__(
        self,
        settings: CacheSettings,
        *,
        exact: ExactTier,
        recalling: Recalling,
        ledger: Ledger,
        tills: Mapping[str, Till],
        counting: Counting,
        tasks: Tasks,
        timed: bool,
        now: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._exact = exact
        self._recalling = recalling
        self._ledger = ledger
        self._tills = tills
        self._counting = counting
        self._tasks = tasks
        self._timed = timed
        self._now = now

    def age_s(self, entry: Entry) -> float:
        """How long ago *entry* was kept."""
        return max(0.0, self._now() - entry.created)

    async def land(self, visit: Visit, flight: Flight, landing: Landing) -> None:
        """A fetch for *visit* is over: read what came, keep it if it is worth keeping, and account for it."""
        candidate, gathering = visit.candidate, visit.gathering
        found = await self._examine(visit, landing)
        if found.usage is None and landing.usage is not None:
            found = replace(found, usage=landing.usage)
        if gathering is None or gathering.bytes_in is None:
            found = self._to_be_counted(visit, landing, found)
        flight.examined(found)
        unkept = self._unkept(candidate.plan, landing, found)
        kept = False
        if unkept is None and candidate.plan.write:
            unkept = await self._keep(visit, landing, found)
            kept = unkept is None
        gated = candidate.plan.reason is Reason.TEMPERATURE and unkept is None
        model, asker = candidate.model, visit.call.asker

        def cost(usage: Usage | None) -> Cost | None:
            till = self._tills[candidate.route.name]
            return till.cost(found.model or model, found.service_tier, usage, self._now())

        billed, bytes_in = found.usage, landing.bytes_in
        if gathering is not None and gathering.bytes_in is not None:
            billed, bytes_in = gathering.own(found).usage, gathering.bytes_in
            spared = gathering.spared if unkept is None else None
            if spared is not None:
                self._ledger.spared(model, spared, cost(spared), client=asker.name, team=asker.team, tier=ITEMS)
        self._ledger.fetched(
            FetchReceipt(
                model=model,
                status=landing.head.status if landing.head is not None else None,
                bytes_in=bytes_in,
                total_s=landing.total_s,
                usage=billed,
                cost=cost(billed),
                kept=kept,
                unkept=unkept if candidate.plan.write else None,
                repeatable_key=candidate.identity if gated else None,
                client=asker.name,
                team=asker.team,
                overhead=Overhead.REFRESH if candidate.unasked else None,
            )
        )
        if found.late is not None:
            found.late.when_known(
                lambda usage: self._ledger.counted_fetch(model, usage, cost(usage), client=asker.name, team=asker.team)
            )

    def _to_be_counted(self, visit: Visit, landing: Landing, found: Finding) -> Finding:
        """*found*; where it is a good answer that names no usage, with the promise of a count."""
        head, body = landing.head, landing.body
        if found.usage is not None or found.unkept not in BILLED or head is None or head.status != 200 or body is None:
            return found
        late = self._counting.late(
            Uncounted(
                dialect=visit.dialect,
                request=visit.call.body if isinstance(visit.call.body, bytes) else b"",
                body=body,
                encoding=_encoding(head.fields),
                form=visit.candidate.form,
                model=found.model,
            )
        )
        return replace(found, late=late)

    async def _amend(self, entry: Entry, usage: Usage) -> None:
        await self._exact.amend(entry, usage)

    async def _examine(self, visit: Visit, landing: Landing) -> Finding:
        head, body, form, gathering = landing.head, landing.body, visit.candidate.form, visit.gathering
        if landing.error is not None or head is None:
            abandoned = isinstance(landing.error, Abandoned)
            return Finding(unkept=Unkept.ABANDONED if abandoned else Unkept.BROKE_OFF)
        if body is None:
            return Finding(unkept=Unkept.TOO_LARGE)
        if head.status != 200:
            return Finding(unkept=Unkept.STATUS)
        if policy.content_kind(head.fields) not in ("stream" if form.stream else "json", "unsaid"):
            return Finding(unkept=Unkept.UNREADABLE)
        encoding = _encoding(head.fields)
        if gathering is not None and (apart := await gathering.examine(body, encoding)) is not None:
            return apart
        if len(body) > self._settings.max_entry_bytes:
            return Finding(unkept=Unkept.TOO_LARGE)
        if len(body) > (OFF_LOOP_CODED_BYTES if encoding else OFF_LOOP_BYTES):
            return await asyncio.to_thread(_read_answer, visit.dialect, body, encoding, form)
        return _read_answer(visit.dialect, body, encoding, form)

    def _unkept(self, plan: Plan, landing: Landing, found: Finding) -> Unkept | None:
        if landing.head is None or landing.error is not None:
            return found.unkept
        return policy.keepable(landing.head.status, found, landing.head.fields, self._settings)

    async def _keep(self, visit: Visit, landing: Landing, found: Finding) -> Unkept | None:
        """Put the answer away; why it could not be, or None."""
        candidate, dialect, gathering = visit.candidate, visit.dialect, visit.gathering
        head, body, identity = landing.head, landing.body, candidate.identity
        if head is None or body is None or identity is None:
            return Unkept.INCOMPLETE
        names = fingerprint.vary_names(head.fields.all(b"vary"))
        if names is None or not self._exact.learn_vary(dialect.name, names):
            return Unkept.VARIES
        asked_s = candidate.asked.ttl_s
        ttl_s = asked_s if asked_s is not None else freshness.ttl_s(candidate.model, self._settings)
        if ttl_s <= 0:
            return Unkept.FORBIDDEN
        created = self._now()
        entry = Entry(
            # A Vary that this answer was the first to name narrows the key under which it is found from now on.
            key=self._exact.narrow(identity, dialect.name, visit.call.fields),
            dialect=dialect.name,
            status=head.status,
            phrase=head.phrase,
            head=headers.block(head.fields, without=NEVER_KEPT),
            body=body,
            encoding=_encoding(head.fields),
            chunked=b"content-length" not in head.fields or b"transfer-encoding" in head.fields,
            form=candidate.form,
            model=found.model or candidate.model,
            service_tier=found.service_tier,
            usage=found.usage,
            created=created,
            expires=created + ttl_s,
            grace_s=freshness.grace_s(self._settings),
            fetch_s=landing.total_s,
            marks=_relative(landing.marks) if self._timed and candidate.form.stream else (),
            tenant=candidate.tenant,
            tag=candidate.asked.tag,
            namespace=candidate.asked.namespace.decode("latin-1"),
        )
        entry = self._recalling.marked(entry, visit.sought)
        for one in await gathering.entries(entry) if gathering is not None else (entry,):
            if not await self._exact.keep(one):
                return Unkept.CACHE_FAULT
        self._recalling.kept(entry, visit.sought)
        if found.late is not None:
            found.late.when_known(lambda usage: self._put_to(entry, usage))
        return None

    def _put_to(self, entry: Entry, usage: Usage) -> None:
        """Hits of *entry* are worth what was counted for it."""
        self._tasks.start(self._amend(entry, usage), name="amend")


def _read_answer(dialect: Dialect, body: bytes, encoding: str, form: Form) -> Finding:
    try:
        plain = codings.decode(body, encoding, limit=MAX_DECODED_BYTES)
    except Undecodable:
        return Finding(unkept=Unkept.UNREADABLE)
    return dialect.examine(plain, form)


def _encoding(fields: Fields) -> str:
    return b",".join(fields.tokens(b"content-encoding")).decode("latin-1")


def _relative(marks: tuple[tuple[int, float], ...]) -> tuple[tuple[int, float], ...]:
    start = marks[0][1] if marks else 0.0
    return tuple((octets, at - start) for octets, at in marks)
