"""What came of the prompts that were watched: what their provider read, what was foretold, and why it was not more."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace

from proxy.accounts import money
from proxy.accounts.till import Till
from proxy.accounts.usage import Method, Usage
from proxy.model import Finding, Unkept
from proxy.prefix.account import Account
from proxy.prefix.advice import Advice
from proxy.prefix.chain import BLOCK_OCTETS
from proxy.prefix.diagnosis import LEAST_LOST, Case, Diagnosis, diagnose
from proxy.prefix.rules import UNKNOWN, Semantics
from proxy.prefix.samples import Sample, Samples, kept
from proxy.tasks import Tasks
from proxy.tiers.watching import Watch

OFF_LOOP_OCTETS = 32 * 1024
"""A prompt above this is compared in a thread."""

MAX_MODELS = 256
"""Models of which is remembered whether their provider tells what it read from its cache."""

DIAGNOSES_PER_S = 2.0
MAX_DIAGNOSES_AT_ONCE = 64
"""Telling why takes a millisecond or two: so often at most, and the others are taken to be like those."""

WORTH_ASKING = 4 * LEAST_LOST
"""Tokens not read, below which nobody asks why."""

TOKENS_PER_OCTET = 0.25
"""Before the first usage of a model."""

BILLED = (None, Unkept.LENGTH, Unkept.CONTENT_FILTER)


class Hindsight:
    """The sums of what was read, and the advice that comes of it. Long prompts are compared in a thread."""

    def __init__(self, *, tills: Mapping[str, Till], tasks: Tasks, diagnoses: bool, now: Callable[[], float]) -> None:
        self._tills = tills
        self._tasks = tasks
        self._diagnoses = diagnoses
        self._now = now
        self._ratios: dict[tuple[str, str], float] = {}
        self._samples = Samples()
        self.account = Account()
        self.advice = Advice(since=now())
        self._telling: set[tuple[str, str]] = set()
        self._rations = float(MAX_DIAGNOSES_AT_ONCE)
        self._rationed_at = now()
        self._unasked = 0

    def __repr__(self) -> str:
        return f"<Hindsight, {self.account.observed.requests + self.account.acted.requests} answers>"

    def tokens_per_octet(self, watch: Watch) -> float:
        """How many tokens an octet of a prompt like that of *watch* comes to, by those before it."""
        return self._ratios.get((watch.route, watch.model), TOKENS_PER_OCTET)

    def looked_at(self, watch: Watch) -> None:
        """What can be known of the request of *watch* is known; its answer may have been in before that."""
        if watch.finding is not None:
            self._tell(watch, watch.finding)

    def landed(self, watch: Watch, finding: Finding) -> None:
        """The answer is in; *finding* tells what it cost."""
        if not watch.sent or finding.unkept not in BILLED:
            return
        usage = finding.usage
        if usage is None or usage.method is not Method.MEASURED:
            self.account.without_usage += 1
            return
        cost = self._cost(watch, finding, usage)
        (self.account.acted if watch.acted else self.account.observed).add(usage, cost)
        if watch.held:
            self.account.held_out.add(usage, cost)
        if watch.done:
            self._tell(watch, finding)
        else:
            watch.finding = finding

    def _cost(self, watch: Watch, finding: Finding, usage: Usage) -> money.Cost | None:
        return self._tills[watch.route].cost(finding.model or watch.model, finding.service_tier, usage, self._now())

    def _tell(self, watch: Watch, finding: Finding) -> None:
        """Hold what was foretold against what came, and ask why where too little did."""
        prompt, chain, known, usage, rule = watch.prompt, watch.chain, watch.known, finding.usage, watch.rule
        if prompt is None or chain is None or known is None or usage is None:
            return
        tokens, read = usage.input_tokens, usage.cached_tokens
        per_octet = tokens / chain.octets
        self._learn_ratio(watch, per_octet)
        head = watch.head
        if head is not None:
            head.tokens = int(head.octets * per_octet)
            head.read += read
        if not self._tells(watch, read):
            return
        step = max(1, rule.step_tokens)
        foretold = int(chain.upto(known.cached) * per_octet) // step * step
        # The last token is always computed, so that there is something to go on from.
        foretold = min(foretold, max(0, tokens - 1)) if foretold >= rule.min_tokens else 0
        if rule is not UNKNOWN:
            self.account.forecasts.add(foretold, read, block=max(step, int(BLOCK_OCTETS * per_octet)))
        if self._diagnoses and tokens - read >= WORTH_ASKING and tokens >= rule.min_tokens:
            alive = int(chain.upto(known.alive) * per_octet)
            self._ask_why(
                watch,
                Case(
                    prompt=prompt,
                    at_s=watch.at_s,
                    tokens=tokens,
                    read=read,
                    rule=rule,
                    rpm=head.pulse.per_minute(watch.at_s) if head is not None else 0.0,
                    alive=alive,
                ),
                finding,
            )

    def _learn_ratio(self, watch: Watch, per_octet: float) -> None:
        at = (watch.route, watch.model)
        before = self._ratios.get(at)
        if before is not None or len(self._ratios) < MAX_MODELS:
            self._ratios[at] = per_octet if before is None else before + (per_octet - before) / 8

    def _tells(self, watch: Watch, read: int) -> bool:
        """Whether the provider says what it reads: a self-hosted engine may keep that to itself."""
        if watch.rule.semantics not in (Semantics.SLOT, Semantics.UNKNOWN):
            return True
        at = (watch.route, watch.model)
        if read and len(self._telling) < MAX_MODELS:
            self._telling.add(at)
        return at in self._telling

    def _ask_why(self, watch: Watch, case: Case, finding: Finding) -> None:
        self._unasked += 1
        now = self._now()
        self._rations = min(MAX_DIAGNOSES_AT_ONCE, self._rations + (now - self._rationed_at) * DIAGNOSES_PER_S)
        self._rationed_at = now
        if self._rations < 1.0:
            return
        self._rations -= 1.0
        weight, self._unasked = self._unasked, 0
        if case.prompt.octets > OFF_LOOP_OCTETS:
            self._tasks.start(self._find_out(watch, case, finding, weight), name="prefix diagnosis")
            return
        family = self._samples.family(watch.tenant, case.prompt)
        self._note(watch, family.name, diagnose(case, family.samples), finding, weight)
        family.keep(Sample(prompt=kept(case.prompt), at_s=case.at_s, tokens=case.tokens))

    async def _find_out(self, watch: Watch, case: Case, finding: Finding, weight: int) -> None:
        family = self._samples.family(watch.tenant, case.prompt)
        samples = tuple(family.samples)
        family.keep(Sample(prompt=kept(case.prompt), at_s=case.at_s, tokens=case.tokens))
        self._note(watch, family.name, await asyncio.to_thread(diagnose, case, samples), finding, weight)

    def _note(self, watch: Watch, family: str, found: Diagnosis | None, finding: Finding, weight: int) -> None:
        if found is None:
            return
        usd = self._lost(watch, finding, found.lost) if found.lost else None
        self.advice.add(family, watch.model, found, weight=weight, usd=usd, now=watch.at_s)

    def _lost(self, watch: Watch, finding: Finding, tokens: int) -> int | None:
        """What reading *tokens* more would have saved, in parts of a dollar."""
        usage = finding.usage
        if usage is None:
            return None
        more = min(tokens, usage.input_tokens - usage.cached_tokens)
        rest = usage.input_tokens - usage.cached_tokens - more
        better = replace(
            usage,
            cached_tokens=usage.cached_tokens + more,
            cache_write_tokens=min(usage.cache_write_tokens, rest),
            cache_write_1h_tokens=min(usage.cache_write_1h_tokens, rest),
        )
        paid, instead = self._cost(watch, finding, usage), self._cost(watch, finding, better)
        return None if paid is None or instead is None else paid.usd - instead.usd
