"""What one answer cost in tokens, in one shape for every dialect, and how we came to know it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from proxy.values import value

# Counts beyond this are a provider's defect, not a request; adding such numbers would spoil every sum after them.
MAX_TOKENS = 10**12


class Method(StrEnum):
    """How a number of tokens is known. Figures of different methods are shown apart, never as one sum."""

    MEASURED = "measured"
    """The provider's own usage: what was billed."""

    COUNTED = "counted"
    """The real tokenizer and the rendering rules of the model's family."""

    ESTIMATED = "estimated"
    """Something had to be guessed: no rank data, an unknown model, an image behind a URL, an audio clip."""


@value
class Usage:
    """The tokens of one answer. `input_tokens` and `output_tokens` are totals; every other count is a part of one.

    Cached, cache-write and audio input lie within `input_tokens` (also for providers that report them beside it);
    reasoning and audio output lie within `output_tokens`.
    """

    input_tokens: int
    output_tokens: int = 0
    cached_tokens: int = 0
    """Input read from the provider's prompt cache."""
    cache_write_tokens: int = 0
    """Input written to the provider's prompt cache, long-lived writes included."""
    cache_write_1h_tokens: int = 0
    """The part of `cache_write_tokens` that is kept for an hour, which some providers bill higher."""
    reasoning_tokens: int = 0
    audio_input_tokens: int = 0
    cached_audio_tokens: int = 0
    """The part of `audio_input_tokens` that was also read from the cache."""
    audio_output_tokens: int = 0
    method: Method = Method.MEASURED
    lower_bound: bool = False
    """The true figure may be higher: a reasoning model's answer was counted from its visible text."""

    @property
    def total_tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens


@dataclass(slots=True)
class LateUsage:
    """A usage that is still being counted."""

    usage: Usage | None = None
    _awaiting: list[Callable[[Usage], None]] = field(default_factory=list)

    def when_known(self, tell: Callable[[Usage], None]) -> None:
        """Call *tell* with the usage: now where it is known, else when it is, if it ever is."""
        if self.usage is not None:
            tell(self.usage)
        else:
            self._awaiting.append(tell)

    def known(self, usage: Usage) -> None:
        """It was counted."""
        self.usage = usage
        for tell in self._awaiting:
            tell(usage)
        self._awaiting.clear()


def read_usage(usage: Mapping[str, object]) -> Usage | None:
    """Return what a provider's `usage` object says, or None when it names no total that we know.

    One reader serves all dialects because their field names do not collide: chat, legacy completions and embeddings
    (`prompt_tokens`), Responses (`input_tokens` with `input_tokens_details`), Anthropic Messages (`input_tokens`
    *without* what the cache read or wrote), DeepSeek (`prompt_cache_hit_tokens`). Any JSON value in any place is
    survived: what is not a whole non-negative number counts as absent. A part larger than its whole is cut to it, so
    that prices cannot turn negative.
    """
    of_input = _details(usage, "prompt_tokens_details", "input_tokens_details", "input_token_details")
    of_output = _details(usage, "completion_tokens_details", "output_tokens_details", "output_token_details")
    read_beside = _whole(usage.get("cache_read_input_tokens"))
    write_beside = _whole(usage.get("cache_creation_input_tokens"))
    reasoning = _first(of_output, "reasoning_tokens", "thinking_tokens") or 0

    hit, missed = _whole(usage.get("prompt_cache_hit_tokens")), _whole(usage.get("prompt_cache_miss_tokens"))
    prompt = _whole(usage.get("prompt_tokens"))
    given = prompt if prompt is not None else _whole(usage.get("input_tokens"))
    output = _first(usage, "completion_tokens", "output_tokens")
    total = _whole(usage.get("total_tokens"))
    if given is None and hit is not None and missed is not None:
        given = hit + missed
    if given is None:
        if total is None:
            return None
        # Some embedding endpoints report nothing but the total.
        given = max(0, total - (output or 0))
    elif prompt is None and not of_input and (read_beside is not None or write_beside is not None):
        # Anthropic Messages: the three input figures are disjoint and add up to what was sent. Gateways that translate
        # Messages to chat repeat the two names beside a `prompt_tokens` that already includes them.
        given += (read_beside or 0) + (write_beside or 0)
    if output is None:
        output = 0
    elif reasoning and total == given + output + reasoning:
        # xAI bills reasoning beside the completion; the total gives it away.
        output += reasoning

    cached = _first(of_input, "cached_tokens", "cache_read_tokens")
    if cached is None:
        cached = next((n for n in (read_beside, hit, _whole(usage.get("cached_tokens"))) if n is not None), 0)
    written = _first(of_input, "cache_write_tokens", "cache_creation_tokens")
    if written is None:
        written = write_beside or 0
    cached = min(cached, given)
    written = min(written, given - cached)
    audio = min(_whole(of_input.get("audio_tokens")) or 0, given)
    return Usage(
        input_tokens=given,
        output_tokens=output,
        cached_tokens=cached,
        cache_write_tokens=written,
        cache_write_1h_tokens=written
        and min(_whole(_details(usage, "cache_creation").get("ephemeral_1h_input_tokens")) or 0, written),
        reasoning_tokens=min(reasoning, output),
        audio_input_tokens=audio,
        cached_audio_tokens=audio
        and min(_whole(_details(of_input, "cached_tokens_details").get("audio_tokens")) or 0, audio, cached),
        audio_output_tokens=min(_whole(of_output.get("audio_tokens")) or 0, output),
    )


def _details(usage: Mapping[str, object], *names: str) -> Mapping[str, object]:
    for name in names:
        part = usage.get(name)
        if isinstance(part, dict):
            return part
    return {}


def _first(fields: Mapping[str, object], *names: str) -> int | None:
    """The first whole number under *names*."""
    for name in names:
        number = _whole(fields.get(name))
        if number is not None:
            return number
    return None


def _whole(value: object) -> int | None:
    """*value* where it is a whole number of a credible size; ``True`` is none."""
    if value is None:
        return None
    if type(value) is int:
        return value if 0 <= value <= MAX_TOKENS else None
    # Some gateways keep their counters as doubles; NaN and infinities fail the comparison.
    if type(value) is float and 0 <= value <= MAX_TOKENS and value.is_integer():
        return int(value)
    return None
