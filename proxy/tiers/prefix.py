"""L3: watches what the provider's prompt cache does, foretells it, and says why it did not hit. Answers nothing itself.

What is watched is looked at after the request has gone out, and once more when its answer is in. Only where something
may be set in a request (``prefix.mode: act``) it is looked at before.
"""

import asyncio
import json
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from hashlib import blake2b
from urllib.parse import urlsplit

from proxy import headers
from proxy.accounts import money
from proxy.accounts.till import Till
from proxy.accounts.usage import Method, Usage
from proxy.call import Call, Candidate
from proxy.errors import Broke
from proxy.headers import Fields
from proxy.model import Finding, Json, Unkept
from proxy.ports import Dialect, Upload
from proxy.prefix.account import Account
from proxy.prefix.acting import Action, shaped
from proxy.prefix.advice import Advice
from proxy.prefix.chain import BLOCK_OCTETS, Chain, chain_of, salt_for
from proxy.prefix.diagnosis import LEAST_LOST, Case, Diagnosis, diagnose
from proxy.prefix.heads import Head, Heads
from proxy.prefix.learner import Known, Learner
from proxy.prefix.places import awaited, level_at
from proxy.prefix.prompt import DIALECTS, Prompt, prompt_of, steers_itself
from proxy.prefix.reach import reach
from proxy.prefix.rules import UNKNOWN, Rule, Rules, Semantics
from proxy.prefix.samples import Sample, Samples, kept
from proxy.providers.provider import Incoming
from proxy.settings import PREFIX_MODES, PrefixSettings
from proxy.tasks import Tasks
from proxy.tiers.steering import Steering, fits

log = logging.getLogger(__name__)

OFF_LOOP_OCTETS = 32 * 1024
"""A request above this is read in a thread: it takes a fraction of a millisecond, and others are waiting."""

MAX_WAITING = 256
"""Requests that wait to be looked at; what finds no place is not, and is counted."""

LEAST_OCTETS_PER_TOKEN = 2
"""A shorter request than this for every token that its provider caches at least holds no prompt that is cached."""

LEAST_OCTETS = 2048
"""The same where nothing is known of the provider."""

MAX_MODELS = 256
"""Models of which is remembered whether their provider tells what it read from its cache."""

DIAGNOSES_PER_S = 2.0
MAX_DIAGNOSES_AT_ONCE = 64
"""Telling why takes a millisecond or two: so often at most, and the others are taken to be like those."""

WORTH_ASKING = 4 * LEAST_LOST
"""Tokens not read, below which nobody asks why."""

TOKENS_PER_OCTET = 0.25
"""Before the first usage of a model."""

SIGNED = frozenset({b"content-md5", b"digest", b"content-digest", b"repr-digest", b"signature"})
"""Fields that vouch for the octets of a body: nothing may be put into it."""

REFUSED = (400, 422)

MAX_REFUSAL_OCTETS = 64 * 1024
"""How much of a refusal is read to see what was refused."""

Send = Callable[[Fields, bytes | Upload | None], Awaitable[Incoming]]
"""Sends the request to the provider, with these fields and this body."""

BILLED = (None, Unkept.LENGTH, Unkept.CONTENT_FILTER)


class Watch:
    """One request on its way to the provider, and what is known of its prompt."""

    __slots__ = (
        "acted",
        "acts",
        "at_s",
        "body",
        "chain",
        "dialect",
        "done",
        "finding",
        "head",
        "held",
        "known",
        "mode",
        "model",
        "prompt",
        "route",
        "rule",
        "sent",
        "steered",
        "tenant",
    )

    def __init__(self, body: bytes, dialect: str, candidate: Candidate, rule: Rule, mode: str, at_s: float) -> None:
        self.body = body
        self.dialect = dialect
        self.route = candidate.route.name
        self.model = candidate.model
        self.tenant = candidate.tenant
        self.rule = rule
        self.mode = mode
        self.at_s = at_s
        self.prompt: Prompt | None = None
        self.chain: Chain | None = None
        self.known: Known | None = None
        self.head: Head | None = None
        self.finding: Finding | None = None
        self.done = False
        """It was looked at, or will not be."""
        self.acts = False
        """It may be given something before it goes out."""
        self.sent = False
        """It went to the provider; another tier may have answered first."""
        self.acted = False
        self.held = False
        """It was left alone, to compare with."""
        self.steered = True
        """The client looks after the prompt cache itself."""

    @property
    def wide(self) -> bytes:
        """All requests of its kind that may be learned from."""
        return f"{self.route}\0{self.tenant}\0{self.model}".encode("utf-8", "surrogatepass")

    def __repr__(self) -> str:
        return f"<Watch of a {self.dialect} request, {self.known}>"


class PrefixTier:
    """What is known of the prompts that went to the providers. Lives on the loop; reads long prompts in a thread."""

    def __init__(
        self,
        settings: PrefixSettings,
        *,
        rules: Rules,
        urls: Mapping[str, str],
        providers: Mapping[str, str],
        tills: Mapping[str, Till],
        secret: bytes,
        tasks: Tasks,
        now: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._rules = rules
        self._hosts = {name: urlsplit(url).hostname or "" for name, url in urls.items()}
        self._urls = {name: url.encode() for name, url in urls.items()}
        self._providers = providers
        self._tills = tills
        self._secret = blake2b(b"prefix", key=secret[:64], digest_size=32).digest()
        self._tasks = tasks
        self._now = now
        self._learner = Learner(max_nodes=settings.max_prefixes)
        self._heads = Heads()
        self.steering = Steering(self._learner, secret=self._secret, hold_out=settings.hold_out, now=now)
        self._ratios: dict[tuple[str, str], float] = {}
        self._samples = Samples()
        self.account = Account()
        self.advice = Advice(since=now())
        self._waiting: deque[Watch] = deque()
        self._looking: asyncio.Task[None] | None = None
        self._telling: set[tuple[str, str]] = set()
        self._rations = float(MAX_DIAGNOSES_AT_ONCE)
        self._rationed_at = now()
        self._unasked = 0
        self.skipped = 0
        self._stumbled = False

    def __repr__(self) -> str:
        return f"<PrefixTier {self._settings.mode}, {self._learner!r}, {len(self._waiting)} waiting>"

    def watch(self, call: Call, dialect: Dialect, candidate: Candidate) -> Watch | None:
        """*call* is about to go to the provider; None where there is nothing to watch."""
        if dialect.name not in DIALECTS or not isinstance(call.body, bytes):
            return None
        mode = self._mode(call, candidate)
        if mode == "off":
            return None
        rule = self.rule(candidate.route.name, candidate.model)
        watch = Watch(call.body, dialect.name, candidate, rule, mode, self._now())
        least = LEAST_OCTETS if rule is UNKNOWN else rule.min_tokens * LEAST_OCTETS_PER_TOKEN
        # A body that could not be compared by value is not worth a second look.
        watch.done = len(call.body) < least or candidate.identity is None
        watch.acts = mode == "act" and not watch.done and fits(dialect.name) and not call.fields.has_any(SIGNED)
        return watch

    async def ask(self, send: Send, fields: Fields, body: bytes | Upload | None, watch: Watch) -> Incoming:
        """Send the request of *watch*, where that pays with what makes the provider's cache hit. Raises like *send*.

        What the provider refuses is sent again as it came.
        """
        first, watch.sent = not watch.sent, True
        if not first or not watch.acts or not isinstance(body, bytes):
            if first:
                self._look_later(watch)
            return await send(fields, body)
        try:
            action, changed = await self._shaped(watch, body)
        except Exception:
            # Whatever goes wrong here, the client's request is as good as it was.
            if not self._stumbled:
                log.exception("a request could not be shaped; it and its like go as they came")
            self._stumbled = True
            action, changed = Action(), None
        if changed is None:
            return await send(fields, body)
        watch.acted = True
        answer = await send(headers.resized(fields, len(changed)), changed)
        if answer.status not in REFUSED:
            return answer
        watch.acted = False
        said = await _said(answer)
        again = await send(fields, body)
        named = any(field.encode() in said for field in action.fields)
        self.steering.refused(watch.route, watch.model, named=named or again.status < 400)
        return again

    async def _shaped(self, watch: Watch, body: bytes) -> tuple[Action, bytes | None]:
        """What is set in the request of *watch*, and *body* with it; None where nothing is."""
        long = len(watch.body) > OFF_LOOP_OCTETS
        if long:
            await asyncio.to_thread(self._read, watch)
        else:
            self._read(watch)
        action, changed = self._planned(watch), None
        if action and watch.prompt is not None:
            if long:
                changed = await asyncio.to_thread(shaped, body, watch.prompt, action)
            else:
                changed = shaped(body, watch.prompt, action)
        self._meet(watch, action if changed is not None else Action())
        watch.done = True
        watch.body = b""
        return action, changed

    def _mode(self, call: Call, candidate: Candidate) -> str:
        settings = self._settings
        mode = settings.mode_by_upstream.get(candidate.route.name or "default", settings.mode)
        for pattern, said in settings.mode_by_model.items():
            if fnmatchcase(candidate.model, pattern):
                mode = said
                break
        if call.client is not None:
            mode = settings.mode_by_client.get(call.client.name, mode)
        asked = candidate.asked.prefix
        # A request may ask for less, never for more.
        return asked if asked and PREFIX_MODES.index(asked) < PREFIX_MODES.index(mode) else mode

    def rule(self, route: str, model: str) -> Rule:
        """What holds for *model* at the provider behind *route*."""
        found = self._rules.find(self._hosts[route], model)
        for name in (self._providers.get(route, ""), self._settings.provider):
            if found is UNKNOWN and name:
                found = self._rules.find(name, model)
        return found

    def _look_later(self, watch: Watch) -> None:
        """The request of *watch* is about to go: there is time to look at it when it has gone."""
        if watch.done:
            return
        if len(self._waiting) >= MAX_WAITING:
            watch.done = True
            self.skipped += 1
            return
        self._waiting.append(watch)
        if self._looking is not None and not self._looking.done():
            return
        if len(watch.body) <= OFF_LOOP_OCTETS:
            # By then this step of the flight has written the request.
            asyncio.get_running_loop().call_soon(self._look_at_short)
        else:
            self._looking = self._tasks.start(self._look_at_all(), name="prefix")

    def _look_at_short(self) -> None:
        """In the order in which they were sent, up to one that wants a thread."""
        if self._looking is not None and not self._looking.done():
            return
        while self._waiting and len(self._waiting[0].body) <= OFF_LOOP_OCTETS:
            self._look(self._waiting.popleft())
        if self._waiting:
            self._looking = self._tasks.start(self._look_at_all(), name="prefix")

    async def _look_at_all(self) -> None:
        while self._waiting:
            watch = self._waiting.popleft()
            if len(watch.body) > OFF_LOOP_OCTETS:
                await asyncio.to_thread(self._read, watch)
            self._look(watch)

    def _look(self, watch: Watch) -> None:
        if watch.chain is None:
            self._read(watch)
        self._planned(watch)
        self._meet(watch, Action())
        watch.done = True
        watch.body = b""
        if watch.finding is not None:
            self._tell(watch, watch.finding)

    def _read(self, watch: Watch) -> None:
        """What can be told without knowing anything else; fit for a thread."""
        request = _object(watch.body)
        watch.prompt = prompt_of(watch.dialect, request) if request is not None else None
        if request is not None and watch.prompt is not None:
            salt = salt_for(self._secret, watch.prompt, tenant=watch.tenant, upstream=self._urls[watch.route])
            watch.chain = chain_of(watch.prompt, salt=salt)
            watch.steered = watch.mode in ("off", "observe") or steers_itself(request)

    def _planned(self, watch: Watch) -> Action:
        """What the request gets, or in ``advise`` would get; it is counted as that."""
        prompt, chain = watch.prompt, watch.chain
        if prompt is None or chain is None or not chain.digests:
            return Action()
        length = chain.bounds[prompt.head - 1] if prompt.head else 0
        if length:
            watch.head = self._heads.use(
                chain.digests[length - 1], model=watch.model, octets=chain.upto(length), now=watch.at_s
            )
        if watch.steered or not fits(watch.dialect):
            return Action()
        per_octet = self._ratios.get((watch.route, watch.model), TOKENS_PER_OCTET)
        action = self.steering.action(watch.route, prompt, chain, watch.rule, wide=watch.wide, per_octet=per_octet)
        if not action:
            return action
        if watch.mode == "act" and self.steering.held_out(chain):
            watch.held = True
            return Action()
        self.steering.done(action)
        return action if watch.mode == "act" else Action()

    def _meet(self, watch: Watch, action: Action) -> None:
        """Compare with what was seen, and remember it."""
        prompt, chain, rule = watch.prompt, watch.chain, watch.rule
        if prompt is None or chain is None or not chain.digests:
            return
        if action.marks.explicit:
            prompt = replace(prompt, explicit=True)
        now, ttl_s = watch.at_s, rule.ttl_s
        said = reach(prompt, chain, rule, frozenset(action.marks.numbers))
        known = self._learner.known(chain, now=now, ttl_s=ttl_s, reach=said)
        levels = [
            (chain.digests[chain.bounds[number] - 1], level_at(self._learner, prompt, chain, number, wide=watch.wide))
            for number in awaited(prompt)
            if chain.bounds[number]
        ]
        self._learner.observe(chain, now=now, ttl_s=ttl_s, written=said.written, read=known.cached)
        for digest, level in levels:
            self._learner.await_again(digest, level, until=now + ttl_s)
        watch.known = known

    def landed(self, watch: Watch, finding: Finding) -> None:
        """The answer is in; *finding* tells what it cost. Looked at when it has been put away."""
        asyncio.get_running_loop().call_soon(self._landed, watch, finding)

    def _landed(self, watch: Watch, finding: Finding) -> None:
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
        if self._settings.diagnose and tokens - read >= WORTH_ASKING and tokens >= rule.min_tokens:
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

    def shown(self) -> dict[str, object]:
        """As JSON, without a word of any prompt."""
        now = self._now()
        return {
            "mode": self._settings.mode,
            "rules_as_of": self._rules.as_of.isoformat(),
            "prefixes": len(self._learner),
            "max_prefixes": self._settings.max_prefixes,
            "skipped": self.skipped,
            **self.account.shown(),
            "actions": self.steering.counts.shown(),
            "diagnoses": {str(code): count for code, count in self.advice.counts.items()},
            "advice": self.advice.top(now),
            "system_prompts": [
                {
                    "prompt": digest.hex(),
                    "model": head.model,
                    "uses": head.uses,
                    "tokens": head.tokens,
                    "read": head.read,
                    "first_seen_s": round(now - head.first_s, 3),
                    "last_seen_s": round(now - head.last_s, 3),
                }
                for digest, head in self._heads.most_used()
            ],
        }


async def _said(answer: Incoming) -> bytes:
    """The beginning of what *answer* says; the rest is let go."""
    pieces: list[bytes] = []

    def take(octets: bytes) -> bool:
        pieces.append(octets)
        return sum(map(len, pieces)) < MAX_REFUSAL_OCTETS

    async with answer:
        try:
            await answer.flow(take)
        except Broke:
            log.debug("a refusal broke off")
    return b"".join(pieces)


def _object(body: bytes) -> Json | None:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
