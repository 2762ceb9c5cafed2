"""The replies that a call may get: a recorded answer, what is being fetched, a refusal."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from proxy import headers, labels
from proxy.accounts import money
from proxy.accounts.money import Cost
from proxy.accounts.receipts import Receipt
from proxy.accounts.till import Till
from proxy.accounts.usage import Method
from proxy.accounts.warmth import Warmth
from proxy.call import Repeat, Reply
from proxy.errors import Broke
from proxy.flights import Head, Seat
from proxy.keys.allowance import Refusal
from proxy.model import Apart, CutOff, Entry, Outcome, Reason
from proxy.pace import Paced
from proxy.ports import Body
from proxy.providers.provider import Answer
from proxy.replay import OFF_LOOP_BYTES, OFF_LOOP_CODED_BYTES, Replayed, replay
from proxy.semantic.recall import Recalled
from proxy.settings import Config
from proxy.tiers.exact import NAME as EXACT
from proxy.tiers.exact import Found
from proxy.tiers.prefix import PrefixTier
from proxy.tiers.semantic import NAME as SEMANTIC
from proxy.visit import Visit

NEVER_S = 1e12
"""A time to live beyond this is none."""


class Replies:
    """Makes replies, and notes in the visit's meter what they come to."""

    def __init__(
        self,
        config: Config,
        *,
        tills: Mapping[str, Till],
        prefix: PrefixTier,
        peer_matters: bool,
        now: Callable[[], float],
    ) -> None:
        self._label_level = config.headers
        self._settings = config.replay
        self._timed = config.replay.pace == "recorded"
        self._once = peer_matters or config.replay.fresh_ids
        """No reply may be given again to the same octets."""
        self._tills = tills
        self._prefix = prefix
        self._warmth = Warmth()
        self._now = now

    def __repr__(self) -> str:
        return f"<Replies, labelled {self._label_level}>"

    async def replay(self, visit: Visit, entry: Entry) -> Replayed | Reason:
        """*entry* as the call wants it, or why it cannot be given so."""
        form = visit.candidate.form
        again = partial(
            replay,
            entry,
            form=form,
            accept_encoding=visit.call.fields.tokens(b"accept-encoding"),
            dialect=visit.dialect,
            settings=self._settings,
        )
        long = len(entry.body) > (OFF_LOOP_CODED_BYTES if entry.encoding else OFF_LOOP_BYTES)
        if long and (form != entry.form or entry.encoding or self._settings.fresh_ids):
            return await asyncio.to_thread(again)
        return again()

    def hit(
        self,
        visit: Visit,
        found: Found,
        again: Replayed,
        *,
        generation: int | None = None,
        recalled: Recalled | None = None,
    ) -> Reply:
        """A recorded answer. With a *generation*, what was known of keys then, it may be given again unasked."""
        entry, meter, candidate = found.entry, visit.meter, visit.candidate
        tier = EXACT if recalled is None else SEMANTIC
        meter.outcome, meter.reason, meter.tier, meter.saved = Outcome.HIT, again.reason, tier, entry
        meter.flight = meter.bill = None
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
            if generation is not None and candidate.asked.max_age_s is None and not self._once:
                receipt = meter.receipt(visit.call, total_s=0.0, cut=CutOff.DELIVERED)

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

    async def similar(self, visit: Visit, found: Recalled) -> Reply:
        """The answer to another question."""
        again = await self.replay(visit, found.entry)
        if isinstance(again, Reason):
            # It could be given a moment ago, to the one who leads.
            raise Broke("a recorded answer can no longer be given")
        similar = replace(again, reason=Reason.SIMILAR)
        return self.hit(visit, Found(found.entry, found.age_s), similar, recalled=found)

    async def expired(self, visit: Visit, entry: Entry, reason: Reason) -> Reply | None:
        """An answer that has expired, marked as such; None where it cannot be given in the form asked for."""
        again = await self.replay(visit, entry)
        if isinstance(again, Reason):
            return None
        found = Found(entry, max(0.0, self._now() - entry.created))
        return self.hit(visit, found, replace(again, reason=reason))

    def passed_on(self, visit: Visit, seat: Seat, head: Head, apart: Apart | None = None) -> Reply:
        """What is being fetched, as it comes; *apart*: why no other question's answer would do."""
        fields, meter = head.fields, visit.meter
        said = labels.labels(self._label_level, meter.outcome, meter.reason, key=visit.key, apart=apart)
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

    def refused(self, refused: Refusal) -> Reply:
        """What a client may not do."""
        return self.error(refused.reason, refused.message, status=refused.status, more=refused.more)

    def error(self, reason: Reason, message: str, *, status: int, more: bytes = b"") -> Reply:
        """An error of the proxy's own; *more* are field lines."""
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


def unread(answer: Answer) -> Reply:
    """The provider's answer on a path that is not cached."""
    return Reply(
        status=answer.status,
        phrase=answer.phrase,
        head=headers.block(answer.fields),
        body=answer,
        sized=b"content-length" in answer.fields and b"transfer-encoding" not in answer.fields,
    )
