"""Why was this prompt not read from the provider's cache? Compared with one like it that was sent before. Pure."""

import json
from collections.abc import Callable, Iterable, Sequence

from proxy.prefix.prompt import Part, Prompt, Segment
from proxy.prefix.rules import Rule, Semantics
from proxy.prefix.samples import Sample
from proxy.prefix.spans import Code, change, common_prefix, same_text
from proxy.values import value

LEAST_LOST = 128
"""Fewer tokens are not worth a word."""

TOLERANCE = 256
"""Octets are turned into tokens by their share, so that a forecast may be wrong by about a block."""

LONG_ENOUGH = 16
"""Octets of a segment that is no coincidence when it comes again."""


@value
class Case:
    """One prompt whose answer told what was read from the cache."""

    prompt: Prompt
    at_s: float
    tokens: int
    read: int
    rule: Rule
    rpm: float = 0.0
    """Requests a minute with this system prompt."""
    alive: int | None = None
    """Tokens of the prefix that was sent within the provider's time; None: not known."""


@value
class Diagnosis:
    """Why tokens were not read, and how many."""

    code: Code
    path: str = ""
    offset: int = 0
    """Tokens into the value at *path*."""
    shape: str = ""
    lost: int = 0
    """Tokens that would have been read."""


def diagnose(case: Case, samples: Sequence[Sample]) -> Diagnosis | None:
    """What kept *case* from being read, told by the one of *samples* that it shares most with; None: nothing did."""
    sample = _nearest(case.prompt, samples)
    if sample is None:
        return Diagnosis(code=Code.COLD)
    new, old = case.prompt, sample.prompt
    per_octet = case.tokens / max(1, new.octets)

    def lost(octets: int) -> int:
        # What would have been read if it were mended, less what was.
        whole = int(octets * per_octet)
        return max(0, whole - case.read) if whole >= case.rule.min_tokens else 0

    shared = _shared(new, old)
    found = _changed(new, old, per_octet)
    if found is None:
        return _same(case, sample, shared, lost)
    readable, diagnosis = found
    missed = min(lost(readable), int((readable - shared) * per_octet))
    if missed < LEAST_LOST + _step(case):
        # Such as another number in the question at the end: nothing behind it is lost.
        return _same(case, sample, shared, lost)
    return Diagnosis(
        code=diagnosis.code, path=diagnosis.path, offset=diagnosis.offset, shape=diagnosis.shape, lost=missed
    )


def _step(case: Case) -> int:
    return case.rule.step_tokens if case.rule.step_tokens > 1 else 0


def _nearest(prompt: Prompt, samples: Iterable[Sample]) -> Sample | None:
    """The sample that *prompt* shares most with; the same model and settings count first, then the latest."""
    best, most = None, (-1, -1, -1.0)
    for sample in samples:
        other = sample.prompt
        alike = (other.model == prompt.model) + (other.settings == prompt.settings) + (other.key == prompt.key)
        rank = (alike, _likeness(prompt, other), sample.at_s)
        if rank > most:
            best, most = sample, rank
    return best


def _likeness(new: Prompt, old: Prompt) -> int:
    """How many octets the segments have that stand in both, wherever they stand."""
    there = {segment.octets for segment in old.segments}
    return _octets(segment for segment in new.segments if segment.octets in there)


def _changed(new: Prompt, old: Prompt, per_octet: float) -> tuple[int, Diagnosis] | None:
    """What parts *new* from *old* though it should not, and how many octets could be read without it."""
    tools = _tools(new, old, per_octet)
    if tools is not None:
        return tools
    for number, (mine, theirs) in enumerate(zip(_of(new, Part.FORMAT), _of(old, Part.FORMAT), strict=False)):
        if mine.octets != theirs.octets:
            code = Code.JSON_KEY_ORDER if _by_value(mine) == _by_value(theirs) else Code.SETTINGS_CHANGED
            return _agreed(new, old), Diagnosis(code=code, path=_of(new, Part.FORMAT)[number].path)
    if len(_of(new, Part.FORMAT)) != len(_of(old, Part.FORMAT)):
        return _agreed(new, old), Diagnosis(code=Code.SETTINGS_CHANGED, path="response_format")
    if new.model != old.model:
        return _agreed(new, old), Diagnosis(code=Code.MODEL_CHANGED, path="model")
    if new.settings != old.settings:
        names = sorted({name for name, _ in set(new.settings) ^ set(old.settings)})
        return _agreed(new, old), Diagnosis(code=Code.SETTINGS_CHANGED, path=", ".join(names))
    return _texts(new, old, per_octet)


def _tools(new: Prompt, old: Prompt, per_octet: float) -> tuple[int, Diagnosis] | None:
    mine, theirs = _of(new, Part.TOOLS), _of(old, Part.TOOLS)
    first = next((n for n, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a.octets != b.octets), None)
    if first is None and len(mine) == len(theirs):
        return None
    at = min(len(mine), len(theirs)) if first is None else first
    offset = int(_octets(mine[:at]) * per_octet)
    path = mine[at].path if at < len(mine) else "tools"
    if sorted(segment.octets for segment in mine) == sorted(segment.octets for segment in theirs):
        code = Code.TOOL_ORDER
    else:
        ours, others = sorted(map(_by_value, mine)), sorted(map(_by_value, theirs))
        code = Code.JSON_KEY_ORDER if ours == others else Code.TOOL_SET
    return _agreed(new, old), Diagnosis(code=code, path=path, offset=offset)


def _texts(new: Prompt, old: Prompt, per_octet: float) -> tuple[int, Diagnosis] | None:
    mine = [segment for segment in new.segments if segment.part in (Part.SYSTEM, Part.TURN)]
    theirs = [segment for segment in old.segments if segment.part in (Part.SYSTEM, Part.TURN)]
    at = next((n for n, (a, b) in enumerate(zip(mine, theirs, strict=False)) if not _equal(a, b)), None)
    if at is None:
        return None
    a, b = mine[at], theirs[at]
    history = a.part is Part.TURN and _goes_on(mine[at:], theirs[at:])
    if not a.said and not b.said and a.role == b.role and _by_value(a) == _by_value(b):
        return _agreed(new, old), Diagnosis(code=Code.JSON_KEY_ORDER, path=a.path)
    if a.role == b.role and a.part is b.part and same_text(b.octets, a.octets):
        found = change(b.octets, a.octets)
        if found is not None and not (history and found.code is Code.VOLATILE_TEXT):
            before = _fixed(new) + _octets(mine[:at]) + found.start
            after = len(a.octets) - found.start
            if found.code is not Code.WHITESPACE:
                after = _after(b.octets, a.octets, found.start, found.end)
            after += _common(mine[at + 1 :], theirs[at + 1 :])
            offset = int(found.start * per_octet)
            return before + after, Diagnosis(code=found.code, path=a.path, offset=offset, shape=found.shape)
    if history:
        there = {segment.octets for segment in theirs}
        kept = [segment for segment in mine if segment.part is Part.SYSTEM or segment.octets in there]
        return _fixed(new) + _octets(kept), Diagnosis(code=Code.HISTORY_REWRITTEN, path=a.path)
    return None


def _goes_on(mine: Sequence[Segment], theirs: Sequence[Segment]) -> bool:
    """Whether *mine*, where it parts from *theirs*, still goes on the same conversation: later turns stand in both."""
    there = {segment.octets for segment in theirs[1:] if len(segment.octets) >= LONG_ENOUGH}
    return any(segment.octets in there for segment in mine)


def _same(case: Case, sample: Sample, shared: int, lost: Callable[[int], int]) -> Diagnosis | None:
    """The prompts agree as far as they should. Why was that not read?"""
    missed = lost(shared)
    rule, new, old = case.rule, case.prompt, sample.prompt
    if case.tokens < rule.min_tokens:
        return Diagnosis(code=Code.BELOW_MIN)
    if missed < LEAST_LOST + TOLERANCE + _step(case) or missed * 10 < case.tokens:
        return None
    if new.key != old.key:
        return Diagnosis(code=Code.KEY_CHANGED, path="prompt_cache_key", lost=missed)
    forgotten = case.alive is None or case.alive < case.read + missed - TOLERANCE
    if case.at_s - sample.at_s > rule.ttl_s and forgotten:
        return Diagnosis(code=Code.TTL_GAP, shape=f"{case.at_s - sample.at_s:.0f} s", lost=missed)
    if rule.semantics is Semantics.BREAKPOINT:
        marks = _marks(new)
        inside = [number for number in _marks(old) if _upto(new, number) <= shared]
        if not inside and any(_upto(new, number) <= shared for number in marks):
            # The first time that it is marked: written now, read the next time.
            return None
        if not marks or not inside:
            return Diagnosis(code=Code.NO_BREAKPOINT, path=_ends_within(new, shared), lost=missed)
        if not any(0 <= mark - before <= rule.lookback for mark in marks for before in inside):
            return Diagnosis(code=Code.LOOKBACK_20, path=new.segments[marks[-1]].path, lost=missed)
    if rule.key_rpm and case.rpm > rule.key_rpm:
        return Diagnosis(code=Code.OVER_15_RPM, shape=f"{case.rpm:.0f} requests a minute", lost=missed)
    return Diagnosis(code=Code.UPSTREAM_EVICTED, lost=missed)


def _marks(prompt: Prompt) -> list[int]:
    """The segments behind which the client set a breakpoint."""
    marks = [number for number, segment in enumerate(prompt.segments) if segment.marked]
    last = len(prompt.segments) - 1
    return [*marks, last] if prompt.auto and last not in marks else marks


def _of(prompt: Prompt, part: Part) -> list[Segment]:
    return [segment for segment in prompt.segments if segment.part is part]


def _equal(a: Segment, b: Segment) -> bool:
    return a.octets == b.octets and a.role == b.role and a.part is b.part


def _by_value(segment: Segment) -> str:
    try:
        return json.dumps(json.loads(segment.octets), sort_keys=True)
    except (ValueError, RecursionError):
        return segment.octets.decode("latin-1")


def _common(mine: Sequence[Segment], theirs: Sequence[Segment]) -> int:
    """Octets of the segments at the start that are equal, and of the first that is not, as far as it agrees."""
    octets = 0
    for a, b in zip(mine, theirs, strict=False):
        if not _equal(a, b):
            return octets + common_prefix(a.octets, b.octets)
        octets += len(a.octets)
    return octets


def _shared(new: Prompt, old: Prompt) -> int:
    """Octets from the start that are the same for the provider, too."""
    if new.model != old.model or new.settings != old.settings:
        return 0
    return _common(new.segments, old.segments)


def _agreed(new: Prompt, old: Prompt) -> int:
    """What could be read if tools, format and settings were as before: these, and the texts as far as they agree."""
    texts = [[s for s in prompt.segments if s.part in (Part.SYSTEM, Part.TURN)] for prompt in (new, old)]
    return _fixed(new) + _common(*texts)


def _fixed(prompt: Prompt) -> int:
    """Octets of what stands before all texts."""
    return _octets(segment for segment in prompt.segments if segment.part in (Part.TOOLS, Part.FORMAT))


def _octets(segments: Iterable[Segment]) -> int:
    return sum([len(segment.octets) for segment in segments])


def _after(old: bytes, new: bytes, start: int, end: int) -> int:
    """Octets behind a change that are in both: they could be read if what changes stood at the end."""
    tail = new[end:]
    common = common_prefix(tail[::-1], old[start:][::-1])
    if common >= len(tail) // 2:
        return common
    # A second change; what lies between the two agrees line by line.
    there = set(old[start:].split(b"\n"))
    return max(common, sum(len(line) + 1 for line in tail.split(b"\n") if line in there))


def _upto(prompt: Prompt, number: int) -> int:
    return _octets(prompt.segments[: number + 1])


def _ends_within(prompt: Prompt, octets: int) -> str:
    """Where the last segment stands that ends within *octets*; the first where none does."""
    at, done = 0, 0
    for number, segment in enumerate(prompt.segments):
        done += len(segment.octets)
        if done > octets:
            break
        at = number
    return prompt.segments[at].path if prompt.segments else ""
