"""What would make the provider's prompt cache hit for one request: decided, held out now and then, and taken back.

Nothing is set where the client set anything about the prompt cache itself, where the provider is not known to accept
it, or where it was refused within a day.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b

from proxy.prefix.acting import ACTS, Action
from proxy.prefix.chain import Chain
from proxy.prefix.keys import Keys
from proxy.prefix.learner import Learner
from proxy.prefix.marks import NONE, Marks, choose
from proxy.prefix.places import awaited, level_at, places_of
from proxy.prefix.prompt import Prompt
from proxy.prefix.rules import Rule

log = logging.getLogger(__name__)

OFF_S = 86400.0
"""How long nothing is set for a model whose provider refused it."""

MAX_OFF = 256

HOUR_S = 3600.0

GOES_ON = 0.3
"""The chance that there is another request with the same first turn, or that this conversation goes on."""


@dataclass(slots=True)
class Counts:
    """What was done, or in ``advise`` what would have been."""

    keys: int = 0
    marks: int = 0
    held_out: int = 0
    refused: int = 0
    """Requests that the provider refused with what we had set, and that were sent again as they came."""

    def shown(self) -> dict[str, int]:
        """As JSON."""
        return {"keys": self.keys, "marks": self.marks, "held_out": self.held_out, "refused": self.refused}


class Steering:
    """Decides what to set. Not safe to use from several threads."""

    def __init__(self, learner: Learner, *, secret: bytes, hold_out: float, now: Callable[[], float]) -> None:
        self._learner = learner
        self._keys = Keys(secret)
        self._secret = secret
        self._hold_out = hold_out
        self._now = now
        self._off: dict[tuple[str, str], float] = {}
        self.counts = Counts()

    def __repr__(self) -> str:
        return f"<Steering, {self.counts}, off for {len(self._off)} models>"

    def action(self, route: str, prompt: Prompt, chain: Chain, rule: Rule, *, wide: bytes, per_octet: float) -> Action:
        """What *prompt* should get, before it is observed."""
        now = self._now()
        if self._off.get((route, prompt.model), 0.0) > now:
            return Action()
        key = self._key(prompt, chain, rule, wide=wide, now=now)
        marks: Marks = NONE
        if rule.mark:
            places = places_of(self._learner, prompt, chain, rule, wide=wide, now=now)
            ends = level_at(self._learner, prompt, chain, len(prompt.segments) - 1, wide=wide)
            marks = choose(prompt, places, rule, per_octet=per_octet, verdicts=ends.verdicts)
        return Action(key=key, marks=marks, mark=rule.mark)

    def _key(self, prompt: Prompt, chain: Chain, rule: Rule, *, wide: bytes, now: float) -> str:
        if not rule.steers:
            return ""
        # Providers tell machines apart by the first few hundred tokens, which a block is.
        group = chain.digests[0]
        length = chain.bounds[prompt.head - 1] if prompt.head else 1
        share = self._keys.share(
            group,
            tuple([chain.digests[blocks - 1] for blocks in chain.bounds[prompt.head :] if blocks > length]),
            limit_rpm=rule.key_rpm,
            goes_on=any(
                level_at(self._learner, prompt, chain, number, wide=wide).chance > GOES_ON
                for number in awaited(prompt)
                if number >= prompt.head and chain.bounds[number]
            ),
            now=now,
        )
        return self._keys.key(group, share) if share else ""

    def held_out(self, chain: Chain) -> bool:
        """Whether this family is left alone in this hour, to compare with."""
        hour = int(self._now() // HOUR_S).to_bytes(8, "big")
        told = blake2b(chain.digests[0] + hour, key=self._secret[:64], digest_size=8).digest()
        held = int.from_bytes(told) < self._hold_out * 2**64
        self.counts.held_out += held
        return held

    def done(self, action: Action) -> None:
        """*action* was taken, or would have been."""
        self.counts.keys += bool(action.key)
        self.counts.marks += bool(action.marks)

    def refused(self, route: str, model: str, *, named: bool) -> None:
        """The provider refused a request with what we had set; *named*: and took it without, or said that was why."""
        self.counts.refused += 1
        if named:
            if len(self._off) >= MAX_OFF:
                self._off.pop(next(iter(self._off)))
            self._off[(route, model)] = self._now() + OFF_S
            log.warning("the provider refuses what prefix.mode: act sets for %s: off for a day", model[:64])


def fits(dialect: str) -> bool:
    """Whether anything may be set in requests of *dialect*."""
    return dialect in ACTS
