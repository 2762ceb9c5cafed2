"""What was diagnosed, added up by application: how often, how many tokens and dollars a day, and what to do."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from proxy.accounts import money
from proxy.prefix.diagnosis import Diagnosis
from proxy.prefix.spans import Code

MAX_FINDINGS = 512
"""Causes that are remembered; the one met longest ago goes first."""

SHOWN = 20

LEAST_WINDOW_S = 3600.0
"""What was found in a shorter time is taken for all of an hour: nothing is blown up to a day from a minute."""

DAY_S = 86400.0

_MOVE = "Put it behind everything that stays the same: at the end of the prompt, in the last message."

FIXES: Mapping[Code, str] = MappingProxyType(
    {
        Code.BELOW_MIN: "Nothing: the provider caches no prompts this short.",
        Code.COLD: "Nothing: it was the first of its kind.",
        Code.TTL_GAP: "Ask for a longer lifetime where the provider offers one, or send requests closer together.",
        Code.VOLATILE_ISO_TIMESTAMP: f"A timestamp changes. {_MOVE} Or write the date alone.",
        Code.VOLATILE_DATE: f"A date changes. {_MOVE}",
        Code.VOLATILE_CLOCK_TIME: f"A time of day changes. {_MOVE} Or leave it out.",
        Code.VOLATILE_EPOCH: f"A Unix time changes. {_MOVE} Or leave it out.",
        Code.VOLATILE_UUID: f"A UUID changes. {_MOVE} Or send it as metadata.",
        Code.VOLATILE_HEX_BASE64_ID: f"An identifier changes. {_MOVE} Or send it as metadata.",
        Code.VOLATILE_NUMBER: f"A number changes. {_MOVE}",
        Code.VOLATILE_TEXT: f"A few words change in a text that stays. {_MOVE}",
        Code.WHITESPACE: "Build the prompt the same way each time: only its white space differs.",
        Code.TOOL_ORDER: "Send the tools in the same order each time; sort them by name.",
        Code.TOOL_SET: "Send all tools each time, and say in tool_choice which may be used.",
        Code.JSON_KEY_ORDER: "Write the members of JSON objects in the same order each time.",
        Code.SETTINGS_CHANGED: "Keep this setting the same for requests that share a prompt.",
        Code.MODEL_CHANGED: "Each model has a cache of its own: send requests that share a prompt to one model.",
        Code.HISTORY_REWRITTEN: "Only add to the conversation; shorten it seldom and by much rather than each time.",
        Code.LOOKBACK_20: "Set one more breakpoint, at most 20 positions behind the one before.",
        Code.NO_BREAKPOINT: "Set a breakpoint at the end of what stays the same, or let askonce: prefix.mode: act.",
        Code.OVER_15_RPM: "Spread the traffic over a few values of prompt_cache_key, or let askonce: prefix.mode: act.",
        Code.KEY_CHANGED: "Use the same prompt_cache_key for requests that share a prompt.",
        Code.UPSTREAM_EVICTED: "Nothing to change in the requests: the provider did not keep it.",
    }
)
"""What to do, by cause."""


@dataclass(slots=True)
class Finding:
    """One cause at one place of one application's prompts."""

    model: str
    first_s: float
    diagnosis: Diagnosis
    weight: float = 0.0
    """Requests that it stands for; not each one is looked at."""
    tokens: float = 0.0
    usd: float = 0.0
    unpriced: bool = False


class Advice:
    """Everything found so far."""

    def __init__(self, *, since: float) -> None:
        self._since = since
        self._findings: OrderedDict[tuple[str, Code, str], Finding] = OrderedDict()
        self.counts: dict[Code, int] = dict.fromkeys(Code, 0)
        """Diagnoses by cause."""

    def __repr__(self) -> str:
        return f"<Advice, {len(self._findings)} findings>"

    def add(self, family: str, model: str, found: Diagnosis, *, weight: float, usd: int | None, now: float) -> None:
        """*found* in a request of *family*, which stands for *weight* of them; *usd* parts were lost in it alone."""
        self.counts[found.code] += 1
        if not found.lost:
            return
        at = (family, found.code, found.path)
        finding = self._findings.get(at)
        if finding is None:
            finding = self._findings[at] = Finding(model, now, found)
            if len(self._findings) > MAX_FINDINGS:
                self._findings.popitem(last=False)
        self._findings.move_to_end(at)
        finding.diagnosis = found
        finding.weight += weight
        finding.tokens += found.lost * weight
        finding.usd += (usd or 0) * weight
        finding.unpriced = finding.unpriced or usd is None

    def top(self, now: float, count: int = SHOWN) -> list[dict[str, object]]:
        """The findings that cost most, as JSON, the costliest first."""
        ranked = sorted(self._findings.items(), key=lambda item: (-item[1].usd, -item[1].tokens))
        return [self._shown(family, finding, now) for (family, _, _), finding in ranked[:count]]

    def _shown(self, family: str, finding: Finding, now: float) -> dict[str, object]:
        found = finding.diagnosis
        a_day = DAY_S / max(now - self._since, LEAST_WINDOW_S)
        per_day = None if finding.unpriced else money.text(int(finding.usd * a_day))
        return {
            "code": str(found.code),
            "prompt": family,
            "model": finding.model,
            "where": place(found),
            "path": found.path,
            "token_offset": found.offset,
            "shape": found.shape,
            "requests": round(finding.weight),
            "tokens_lost": round(finding.tokens / finding.weight) if finding.weight else 0,
            "usd_per_day": per_day,
            "fix": FIXES[found.code],
        }


def place(found: Diagnosis) -> str:
    """Where and what, as a sentence would say it: ``99:99 at token 37 of messages[0].content``."""
    if not found.path:
        return found.shape
    if found.shape:
        return f"{found.shape} at token {found.offset} of {found.path}"
    return f"{found.path} at token {found.offset}" if found.offset else found.path
