"""After a fetch: read what came, keep it if it is worth keeping, and account for it."""

import asyncio
from collections.abc import Callable

from proxy import codings, fingerprint, headers, policy
from proxy.call import Call, Candidate
from proxy.codings import Undecodable
from proxy.config import CacheSettings
from proxy.flights import Abandoned, Flight, Landing
from proxy.headers import Fields
from proxy.ledger import Ledger
from proxy.model import Entry, Finding, Form, Reason, Unkept
from proxy.policy import Plan
from proxy.ports import Dialect
from proxy.receipts import FetchReceipt
from proxy.replay import MAX_DECODED_BYTES
from proxy.tiers.exact import ExactTier

OFF_LOOP_BYTES = 128 * 1024
"""A JSON text above this is read in a thread: it takes more than a millisecond, and others are waiting."""

OFF_LOOP_CODED_BYTES = 8 * 1024
"""The same for a body in a content coding, which may be many times as long when it is undone."""

NEVER_KEPT = headers.COOKIES | headers.CDN_LABELS | {b"age"}
"""Fields of an answer that belong to its first delivery alone."""


class Ground:
    """Where flights land."""

    def __init__(
        self, settings: CacheSettings, *, exact: ExactTier, ledger: Ledger, timed: bool, now: Callable[[], float]
    ) -> None:
        self._settings = settings
        self._exact = exact
        self._ledger = ledger
        self._timed = timed
        self._now = now

    async def land(self, call: Call, dialect: Dialect, candidate: Candidate, flight: Flight, landing: Landing) -> None:
        """A fetch is over: read what came, keep it if it is worth keeping, and account for it."""
        found = await self._examine(dialect, candidate, landing)
        flight.examined(found)
        unkept = self._unkept(candidate.plan, landing, found)
        kept = False
        if unkept is None and candidate.plan.write:
            unkept = await self._keep(call, dialect, candidate, landing, found)
            kept = unkept is None
        gated = candidate.plan.reason is Reason.TEMPERATURE and unkept is None
        self._ledger.fetched(
            FetchReceipt(
                model=candidate.model,
                status=landing.head.status if landing.head is not None else None,
                bytes_in=landing.bytes_in,
                total_s=landing.total_s,
                usage=found.usage,
                kept=kept,
                unkept=unkept if candidate.plan.write else None,
                repeatable_key=candidate.identity if gated else None,
            )
        )

    async def _examine(self, dialect: Dialect, candidate: Candidate, landing: Landing) -> Finding:
        head, body = landing.head, landing.body
        if landing.error is not None or head is None:
            abandoned = isinstance(landing.error, Abandoned)
            return Finding(unkept=Unkept.ABANDONED if abandoned else Unkept.BROKE_OFF)
        if body is None:
            return Finding(unkept=Unkept.TOO_LARGE)
        if head.status != 200:
            return Finding(unkept=Unkept.STATUS)
        if policy.content_kind(head.fields) not in ("stream" if candidate.form.stream else "json", "unsaid"):
            return Finding(unkept=Unkept.UNREADABLE)
        encoding = _encoding(head.fields)
        if len(body) > (OFF_LOOP_CODED_BYTES if encoding else OFF_LOOP_BYTES):
            return await asyncio.to_thread(_read_answer, dialect, body, encoding, candidate.form)
        return _read_answer(dialect, body, encoding, candidate.form)

    def _unkept(self, plan: Plan, landing: Landing, found: Finding) -> Unkept | None:
        if landing.head is None or landing.error is not None:
            return found.unkept
        return policy.keepable(landing.head.status, found, landing.head.fields, self._settings)

    async def _keep(
        self, call: Call, dialect: Dialect, candidate: Candidate, landing: Landing, found: Finding
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
        entry = Entry(
            # A Vary that this answer was the first to name narrows the key under which it is found from now on.
            key=self._exact.narrow(identity, dialect.name, call.fields),
            dialect=dialect.name,
            status=head.status,
            phrase=head.phrase,
            head=headers.block(head.fields, without=NEVER_KEPT),
            body=body,
            encoding=_encoding(head.fields),
            chunked=b"content-length" not in head.fields or b"transfer-encoding" in head.fields,
            form=candidate.form,
            model=found.model or candidate.model,
            usage=found.usage,
            created=created,
            expires=created + ttl_s,
            fetch_s=landing.total_s,
            marks=_relative(landing.marks) if self._timed and candidate.form.stream else (),
            tenant=candidate.tenant,
        )
        return None if await self._exact.keep(entry) else Unkept.CACHE_FAULT


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
