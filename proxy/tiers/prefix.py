"""L3: watches what goes to the provider's prompt cache, foretells what it reads, may help it. Answers nothing itself.

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
from proxy.accounts.till import Till
from proxy.call import Call, Candidate
from proxy.errors import Broke
from proxy.headers import Fields
from proxy.model import Finding, Json
from proxy.ports import Dialect, Upload
from proxy.prefix.acting import Action, shaped
from proxy.prefix.chain import chain_of, salt_for
from proxy.prefix.heads import Heads
from proxy.prefix.learner import Learner
from proxy.prefix.places import awaited, level_at
from proxy.prefix.prompt import DIALECTS, prompt_of, steers_itself
from proxy.prefix.reach import reach
from proxy.prefix.rules import UNKNOWN, Rule, Rules
from proxy.providers.provider import Incoming
from proxy.settings import PREFIX_MODES, PrefixSettings
from proxy.tasks import Tasks
from proxy.tiers.hindsight import Hindsight
from proxy.tiers.steering import Steering, fits
from proxy.tiers.watching import Watch

log = logging.getLogger(__name__)

OFF_LOOP_OCTETS = 32 * 1024
"""A request above this is read in a thread: it takes a fraction of a millisecond, and others are waiting."""

MAX_WAITING = 256
"""Requests that wait to be looked at; what finds no place is not, and is counted."""

LEAST_OCTETS_PER_TOKEN = 2
"""A shorter request than this for every token that its provider caches at least holds no prompt that is cached."""

LEAST_OCTETS = 2048
"""The same where nothing is known of the provider."""

SIGNED = frozenset({b"content-md5", b"digest", b"content-digest", b"repr-digest", b"signature"})
"""Fields that vouch for the octets of a body: nothing may be put into it."""

REFUSED = (400, 422)

MAX_REFUSAL_OCTETS = 64 * 1024
"""How much of a refusal is read to see what was refused."""

Send = Callable[[Fields, bytes | Upload | None], Awaitable[Incoming]]
"""Sends the request to the provider, with these fields and this body."""


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
        self._secret = blake2b(b"prefix", key=secret[:64], digest_size=32).digest()
        self._tasks = tasks
        self._now = now
        self._learner = Learner(max_nodes=settings.max_prefixes)
        self._heads = Heads()
        self.steering = Steering(self._learner, secret=self._secret, hold_out=settings.hold_out, now=now)
        self.hindsight = Hindsight(tills=tills, tasks=tasks, diagnoses=settings.diagnose, now=now)
        self._waiting: deque[Watch] = deque()
        self._looking: asyncio.Task[None] | None = None
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
        self.hindsight.looked_at(watch)

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
        per_octet = self.hindsight.tokens_per_octet(watch)
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
        asyncio.get_running_loop().call_soon(self.hindsight.landed, watch, finding)

    def shown(self) -> dict[str, object]:
        """As JSON, without a word of any prompt."""
        now = self._now()
        return {
            "mode": self._settings.mode,
            "rules_as_of": self._rules.as_of.isoformat(),
            "prefixes": len(self._learner),
            "max_prefixes": self._settings.max_prefixes,
            "skipped": self.skipped,
            **self.hindsight.account.shown(),
            "actions": self.steering.counts.shown(),
            "diagnoses": {str(code): count for code, count in self.hindsight.advice.counts.items()},
            "advice": self.hindsight.advice.top(now),
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
