"""Weighing what was seen of an answer: is it whole, good, and worth keeping?"""

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from proxy.accounts.usage import Usage, read_usage
from proxy.dialects.tools import of_family
from proxy.model import Finding, Form, Unkept

# The words in which providers say why they stopped. A word that is in no list is taken for a good end: there are too
# many spellings of "stop" to name them all, and an answer that was broken says so in one of these.
CUT_SHORT = frozenset({"length", "max_tokens", "max_output_tokens", "model_length", "model_context_window_exceeded"})
FILTERED = frozenset({"content_filter", "content-filter", "safety", "sensitive"})
BROKEN = frozenset({"error", "network_error"})
UNFINISHED = frozenset({"abort", "aborted", "cancelled", "canceled", "insufficient_system_resource", "pause_turn"})

LONGEST_TIER = 64
"""No provider's word for a service tier is longer."""

# A definite fault hides what a setting may allow, so that a setting never lets a definite fault in.
_WORST_FIRST = (Unkept.ERROR_INSIDE, Unkept.UNREADABLE, Unkept.INCOMPLETE, Unkept.SIDE_EFFECT)

# Members that are there whether or not anything was said.
_MUTE = frozenset({"role", "type", "id", "index", "format", "status", "object"})


@dataclass(slots=True)
class Evidence:
    """What has been seen of one answer so far."""

    allowed: AbstractSet[str] = frozenset()
    """Families of the provider's tools whose answers may be kept all the same."""
    faults: set[Unkept] = field(default_factory=set)
    said: bool = False
    """Anything at all was answered: text, a tool call, a refusal, reasoning, sound."""
    usage: Usage | None = None
    model: str | None = None
    service_tier: str = ""

    def acted(self, *kinds: str) -> None:
        """Note what tools of the provider left, by its type: a fault, unless all of it is allowed."""
        if not all(of_family(kind, self.allowed) for kind in kinds):
            self.faults.add(Unkept.SIDE_EFFECT)

    def stopped(self, reason: object) -> None:
        """Note a finish or stop reason; None means that there was none."""
        word = reason.lower() if isinstance(reason, str) else ""
        if word in CUT_SHORT:
            self.faults.add(Unkept.LENGTH)
        elif word in FILTERED:
            self.faults.add(Unkept.CONTENT_FILTER)
        elif word in BROKEN:
            self.faults.add(Unkept.ERROR_INSIDE)
        elif not word or word in UNFINISHED:
            self.faults.add(Unkept.INCOMPLETE)

    def billed(self, usage: object) -> None:
        """Note a usage object; the last one counts."""
        if isinstance(usage, dict):
            self.usage = read_usage(usage) or self.usage
            self.served(usage.get("service_tier"))

    def served(self, tier: object) -> None:
        """Note the service tier that the answer names; the last one counts."""
        if isinstance(tier, str) and tier:
            self.service_tier = tier[:LONGEST_TIER]

    def named(self, model: object) -> None:
        """Note the model that the answer names; the first one counts."""
        if isinstance(model, str) and model:
            self.model = self.model or model

    def finding(self) -> Finding:
        """The verdict."""
        return Finding(unkept=self._unkept(), usage=self.usage, model=self.model, service_tier=self.service_tier)

    def _unkept(self) -> Unkept | None:
        if not self.faults:
            return None if self.said else Unkept.EMPTY
        for fault in _WORST_FIRST:
            if fault in self.faults:
                return fault
        if not self.said:
            return Unkept.EMPTY
        match sorted(self.faults):
            case [only]:
                return only
            case _:
                # One choice cut short, another filtered: whichever of the two a setting allows, the other is a fault.
                return Unkept.INCOMPLETE


def weigh(
    body: bytes,
    form: Form,
    *,
    stream: Callable[[bytes, Evidence], None],
    whole: Callable[[bytes, Evidence], None],
    allowed: AbstractSet[str] = frozenset(),
) -> Finding:
    """Examine *body* by the reader for its form; what a reader cannot parse it may raise as a ValueError."""
    evidence = Evidence(allowed)
    if not body.strip():
        return Finding(unkept=Unkept.EMPTY)
    try:
        (stream if form.stream else whole)(body, evidence)
    except (ValueError, RecursionError):
        evidence.faults.add(Unkept.UNREADABLE)
    return evidence.finding()


def is_error(value: dict[str, object], event: str = "") -> bool:
    """Whether *value*, sent as *event*, reports an error in one of the shapes that providers use."""
    return bool(value.get("error")) or "error" in (value.get("type"), value.get("object"), event)


def says(value: object) -> bool:
    """Whether a non-empty string is anywhere in *value*, labels aside."""
    match value:
        case str():
            return value != ""
        case dict():
            return any(says(member) for name, member in value.items() if name not in _MUTE)
        case list():
            return any(map(says, value))
        case _:
            return False
