"""The semantic tier's part in the pass: when it is asked, what it is told, and what is kept for it."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from proxy.accounts.counting import Counting
from proxy.call import Call, Candidate
from proxy.model import Apart, Entry, Key, Neighbour
from proxy.providers.ahead import Ahead
from proxy.semantic.question import Question
from proxy.semantic.recall import Recalled
from proxy.semantic.standing import Standing
from proxy.tiers.exact import ExactTier
from proxy.tiers.semantic import Inquiry, SemanticTier
from proxy.values import value

log = logging.getLogger(__name__)


@value
class Sought:
    """A question that the tier has a part in: it may be answered by another's, and its own answer may serve others."""

    call: Call
    question: Question
    scope: str
    """Narrowed by what answers are known to vary by."""
    maker: str
    inquiry: Inquiry | None
    """None where it takes no answer of another question."""

    def takes(self, found: Recalled) -> bool:
        """Whether *found*, which was given to somebody who asked the same, may be given here, too."""
        return self.inquiry is not None and self.inquiry.takes(found)


class Recalling:
    """Asks the tier, where there is one.

    *maker* tells who sends a call; None where nobody shares answers. Where they do, only those with whom they may be
    *discussed* are told what came of comparing: that something is near, whatever it is, tells what others asked.
    """

    def __init__(
        self,
        tier: SemanticTier | None,
        *,
        exact: ExactTier,
        counting: Counting,
        maker: Callable[[Call], str] | None,
        parallel: bool,
        refused_by: Sequence[str] = (),
        discussed: Callable[[Call], bool] = lambda _: False,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._tier = tier
        self._exact = exact
        self._counting = counting
        self._maker = maker
        self._parallel = parallel
        self._refused_by = frozenset(refused_by)
        self._discussed = discussed
        self._now = now
        self.standing = Standing()

    def __repr__(self) -> str:
        return f"<Recalling by {self._tier!r}>"

    def seek(self, call: Call, candidate: Candidate, key: Key | None) -> Sought | None:
        """What the tier is asked about *call*, whose exact key is *key*; None where it has no part in it."""
        question = candidate.question
        if self._tier is None or key is None or not candidate.plan.write:
            return None
        if not isinstance(question, Question):
            self._tier.aside(question)
            return None
        maker = self._maker(call) if self._maker is not None else ""
        scope = self._scope(question, call)
        refused = call.asker.name in self._refused_by
        inquiry = None if refused else self._tier.inquiry(key, candidate, question, scope=scope, maker=maker)
        if refused:
            self._tier.aside(Apart.REFUSED)
        return Sought(call=call, question=question, scope=scope, maker=maker, inquiry=inquiry)

    def _scope(self, question: Question, call: Call) -> str:
        """The scope of *question*, told apart by the fields that answers are known to vary by now."""
        narrowed = self._exact.narrow(Key(question.scope), call.dialect.name if call.dialect else "", call.fields)
        # A narrowed scope is a bare digest; its class stays in front.
        return question.scope[:1] + narrowed.removeprefix(question.scope[:1])

    async def neighbours(self, sought: Sought) -> Sequence[Neighbour]:
        """The known questions nearest to what is sought, for people to look at."""
        if self._tier is None or sought.inquiry is None:
            return ()
        return await self._tier.neighbours(sought.inquiry)

    def seen(self, call: Call, candidate: Candidate, entry: Entry) -> None:
        """*call* was asked before, word for word."""
        if self._tier is not None and self._maker is not None and entry.scope:
            self._tier.seen(entry.key, self._maker(call))

    def recall(
        self, sought: Sought | None, ahead: Ahead, fits: Callable[[Entry], Awaitable[bool]]
    ) -> Callable[[], Awaitable[Recalled | None]] | None:
        """What a flight does before it asks the provider; *fits* says whether an entry can be given as is wanted."""
        if self._tier is None or sought is None or sought.inquiry is None:
            return None
        tier, inquiry, client = self._tier, sought.inquiry, sought.call.asker.name

        async def recall() -> Recalled | None:
            if self._parallel and tier.may_know(inquiry):
                ahead.set_off()
            try:
                found = await tier.recall(inquiry)
                if found is not None and not await fits(found.entry):
                    tier.unfit(inquiry)
                    found = None
            except asyncio.CancelledError:
                ahead.call_off()
                raise
            self._note(client, None if found is not None else inquiry.apart)
            if found is not None:
                ahead.call_off()
                tier.served(found)
                return self._priced(found, inquiry)
            return None

        return recall

    def _note(self, client: str, apart: Apart | None) -> None:
        """A question of *client*, where clients have names, was answered by another's answer, or why it was not."""
        odd = self.standing.note(client, apart, self._now()) if client else None
        if odd is not None:
            log.warning(
                "client %s stands out: of its %d questions near to another's %d could be answered by it, of all"
                " others' %.0f %%; it may feel for what others ask (see semantic.standing in /stats)",
                odd.client, odd.near, odd.answered, 100 * odd.others,
            )  # fmt: skip

    async def find(self, sought: Sought | None) -> Recalled | None:
        """What may be given for *sought* without asking the provider, if anything."""
        if self._tier is None or sought is None or sought.inquiry is None:
            return None
        found = await self._tier.recall(sought.inquiry)
        if found is not None:
            self._tier.served(found)
        return found

    def _priced(self, found: Recalled, inquiry: Inquiry) -> Recalled:
        """*found* with what asking anew would have cost: this question's prompt, the recorded answer."""
        entry = found.entry
        if entry.usage is None:
            return found
        usage = self._counting.asked_instead(
            entry.usage, entry.model, asked=inquiry.question.text, recorded=entry.question
        )
        return replace(found, entry=replace(entry, usage=usage))

    def why(self, sought: Sought | None) -> Apart | None:
        """Why no other question's answer was given, where that may be told and is worth telling the client."""
        inquiry = sought.inquiry if sought is not None else None
        if sought is None or inquiry is None or inquiry.apart in UNSAID:
            return None
        return inquiry.apart if self._maker is None or self._discussed(sought.call) else None

    def marked(self, entry: Entry, sought: Sought | None) -> Entry:
        """*entry* with what it answers, where others may be given it."""
        if self._tier is None or sought is None or self._tier.missing:
            return entry
        # This answer may have been the first to say what it varies by: then it is for fewer than asked with it.
        scope = self._scope(sought.question, sought.call)
        return self._tier.marked(entry, sought.question, sought.inquiry, scope=scope, maker=sought.maker)

    def kept(self, entry: Entry, sought: Sought | None) -> None:
        """*entry*, the answer to what was sought, is kept."""
        if self._tier is not None and sought is not None:
            self._tier.kept(entry, sought.inquiry)


def by_itself(sought: Sought | None) -> Sought | None:
    """What is sought, which from now on takes no answer of another question."""
    return replace(sought, inquiry=None) if sought is not None else None


UNSAID = frozenset({Apart.ALONE, Apart.OFF, Apart.LOADING})
"""What a miss says nothing of: there was nothing to compare with."""
