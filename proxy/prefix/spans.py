"""Where two texts part, what the part that changes looks like, and its shape with every letter and digit masked."""

import re
from enum import StrEnum

from proxy.values import value

MARGIN = 64
"""Octets around a change that are looked at to tell what it is."""

LEAST_COMMON = 0.5
"""Texts that have less of the shorter in common, before and after the change, are two texts, not one that changes."""


class Code(StrEnum):
    """Why a prompt was not read from the provider's cache, or not all of it."""

    BELOW_MIN = "BELOW_MIN"
    """The prompt is shorter than what the provider caches."""
    COLD = "COLD"
    """Nothing like it was sent before."""
    TTL_GAP = "TTL_GAP"
    """The same prefix was last sent longer ago than the provider keeps it."""
    VOLATILE_ISO_TIMESTAMP = "VOLATILE_ISO_TIMESTAMP"
    """A date with a time of day changes."""
    VOLATILE_DATE = "VOLATILE_DATE"
    """A date changes."""
    VOLATILE_CLOCK_TIME = "VOLATILE_CLOCK_TIME"
    """A time of day changes."""
    VOLATILE_EPOCH = "VOLATILE_EPOCH"
    """A number of seconds or milliseconds since 1970 changes."""
    VOLATILE_UUID = "VOLATILE_UUID"
    """A UUID changes."""
    VOLATILE_HEX_BASE64_ID = "VOLATILE_HEX_BASE64_ID"
    """An identifier in hexadecimal or base64 changes."""
    VOLATILE_NUMBER = "VOLATILE_NUMBER"
    """A number changes."""
    VOLATILE_TEXT = "VOLATILE_TEXT"
    """A few words change in the midst of a text that stays."""
    WHITESPACE = "WHITESPACE"
    """Nothing changes but white space."""
    TOOL_ORDER = "TOOL_ORDER"
    """The same tools come in another order."""
    TOOL_SET = "TOOL_SET"
    """Tools come, go or change."""
    JSON_KEY_ORDER = "JSON_KEY_ORDER"
    """The same JSON is spelled with its members in another order."""
    SETTINGS_CHANGED = "SETTINGS_CHANGED"
    """A setting changed that the provider keeps prompts apart by."""
    MODEL_CHANGED = "MODEL_CHANGED"
    """The same prompt went to another model before."""
    HISTORY_REWRITTEN = "HISTORY_REWRITTEN"
    """An earlier turn of the conversation was changed or left out."""
    LOOKBACK_20 = "LOOKBACK_20"
    """The last breakpoint is too far behind the one before."""
    NO_BREAKPOINT = "NO_BREAKPOINT"
    """The provider reads only what ends at a breakpoint, and none is set where the prompts agree."""
    OVER_15_RPM = "OVER_15_RPM"
    """The same prefix is asked for more often than one of the provider's machines takes: the rest goes elsewhere."""
    KEY_CHANGED = "KEY_CHANGED"
    """The same prefix was sent under another prompt cache key."""
    UPSTREAM_EVICTED = "UPSTREAM_EVICTED"
    """Everything was as it should be; the provider no longer had it."""


@value
class Change:
    """Where two texts part."""

    start: int
    """In octets of the new text."""
    end: int
    code: Code
    shape: str
    """What stands there, every letter and digit masked."""


def _whole(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![0-9A-Za-z])(?:{pattern})(?![0-9A-Za-z])")


_MONTH = (
    r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?|Oct(?:ober)?"
    r"|Nov(?:ember)?|Dec(?:ember)?)\.?"
)
_WEEKDAY = r"(?:Mon|Tues?|Wed(?:nes)?|Thu(?:rs)?|Fri|Sat(?:ur)?|Sun)(?:day)?"
_DAY = r"\d{1,2}(?:st|nd|rd|th)?\.?"
_TIME = r"\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?(?: ?[aApP]\.?[mM]\.?)?(?: ?(?:Z|UTC|GMT|[+-]\d{2}:?\d{2}))?"

_KINDS: tuple[tuple[Code, re.Pattern[str]], ...] = (
    (Code.VOLATILE_ISO_TIMESTAMP, _whole(rf"\d{{4}}-\d{{2}}-\d{{2}}[T ,]+{_TIME}|\d{{8}}T\d{{6}}Z?")),
    (Code.VOLATILE_UUID, _whole(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")),
    (
        Code.VOLATILE_DATE,
        _whole(
            r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}"
            rf"|(?:{_WEEKDAY},? )?(?:{_DAY} (?:of )?{_MONTH}|{_MONTH} {_DAY}|{_MONTH})(?:,? \d{{4}})?|{_WEEKDAY}"
        ),
    ),
    (Code.VOLATILE_CLOCK_TIME, _whole(_TIME)),
    (Code.VOLATILE_EPOCH, _whole(r"1\d{9}(?:\d{3}|\d{6}|\d{9})?(?:\.\d+)?")),
    # Words are made of letters, too: an identifier has digits among them, or is long and mixes cases.
    (
        Code.VOLATILE_HEX_BASE64_ID,
        _whole(
            r"(?=[A-Za-z_+/-]*\d)(?=[\d_+/-]*[A-Za-z])[A-Za-z0-9_+/-]{8,}={0,2}"
            r"|(?=[a-z]*[A-Z])(?=[A-Z]*[a-z])[A-Za-z]{16,}={0,2}"
        ),
    ),
    (Code.VOLATILE_NUMBER, _whole(r"[-+]?\d[\d.,_]*(?:(?<=\d)|(?<=[.,]))")),
)


def change(old: bytes, new: bytes) -> Change | None:
    """Where *new* parts from *old*, of which it may be a later version; None where they are equal."""
    if old == new:
        return None
    before = common_prefix(old, new)
    tail = common_prefix(old[before:][::-1], new[before:][::-1])
    start, end, old_end = before, len(new) - tail, len(old) - tail
    was = old[start:old_end].decode("utf-8", "replace")
    if _squeezed(old) == _squeezed(new):
        return Change(start=start, end=end, code=Code.WHITESPACE, shape="white space")
    found = _kind(old, new, start, end)
    if found is not None:
        return found
    while start > 0 and _WORD.match(new, start - 1) and before - start < MARGIN:
        start -= 1
    while end < len(new) and _WORD.match(new, end) and end - len(new) + tail < MARGIN:
        end += 1
    now = new[start:end].decode("utf-8", "replace") or was
    return Change(start=start, end=end, code=Code.VOLATILE_TEXT, shape=shape(now))


def same_text(old: bytes, new: bytes) -> bool:
    """Whether *new* is *old* with something small changed, rather than another text."""
    if old == new:
        return True
    if not old or not new:
        return False
    before = common_prefix(old, new)
    rest = min(len(old), len(new)) - before
    tail = min(rest, common_prefix(old[before:][::-1], new[before:][::-1]))
    shorter = min(len(old), len(new))
    if before + tail >= shorter * LEAST_COMMON:
        return True
    return _squeezed(old) == _squeezed(new) or _much_in_common(old, new)


def shape(text: str) -> str:
    """*text* with letters and digits masked: ``9999-99-99T99:99`` for a timestamp. Never the text itself."""
    masked = "".join(
        "9"
        if each.isdigit()
        else ("A" if each.isupper() else "a")
        if each.isalpha()
        else each
        if each.isascii()
        else "?"
        for each in re.sub(r"\s+", " ", text[:64])
    )
    return re.sub(r"([Aa])\1{7,}", r"\1\1\1...", masked) + ("..." if len(text) > 64 else "")


def common_prefix(a: bytes, b: bytes) -> int:
    """How many octets *a* and *b* begin with in common."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[:middle] == b[:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _kind(old: bytes, new: bytes, start: int, end: int) -> Change | None:
    """The kind of value that changes, looked for around the change: a minute changes, the time of day is meant."""
    low = max(0, start - MARGIN)
    around = new[low : end + MARGIN].decode("latin-1")
    before = old[low : start + MARGIN].decode("latin-1")
    first, last = start - low, end - low
    for whole in (True, False):
        # A value that holds all of the change; else several change, and the first of them names the whole.
        for code, pattern in _KINDS:
            found = _covering(pattern, around, first)
            if found is None or (whole and found.end() < last):
                continue
            if _covering(pattern, before, first) is not None:
                return Change(start=low + found.start(), end=low + found.end(), code=code, shape=shape(found.group()))
    return None


def _covering(pattern: re.Pattern[str], text: str, at: int) -> re.Match[str] | None:
    """The match of *pattern* in *text* that *at* lies in, or right behind."""
    return next((match for match in pattern.finditer(text) if match.start() <= at <= match.end() > match.start()), None)


_WORD = re.compile(rb"[0-9A-Za-z_\x80-\xff]")


def _squeezed(text: bytes) -> bytes:
    return b"".join(text.split())


def _much_in_common(old: bytes, new: bytes) -> bool:
    """Several small changes leave most lines or sentences as they were."""
    mine, theirs = _pieces(new), _pieces(old)
    if not mine or not theirs:
        return False
    shared = sum([len(piece) for piece in mine & theirs])
    return shared >= LEAST_COMMON * min(sum(map(len, mine)), sum(map(len, theirs)))


def _pieces(text: bytes) -> set[bytes]:
    return set(re.split(rb"[\n.!?;]+", text[:65536])) - {b""}
