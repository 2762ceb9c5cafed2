"""Legacy completions: ``POST /completions``."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

from proxy.dialects import choices, chunks, jsontext
from proxy.dialects.asked import asked_form
from proxy.dialects.change import changed
from proxy.dialects.pieces import Unfaithful, by_index, first, index_of, joined, last, lone, members, same, text
from proxy.dialects.verdict import Evidence, says, weigh
from proxy.model import Finding, Form, Json, Reason

LEFT_OUT = frozenset(
    {
        # Say how the answer is framed, not what it is: the form of the call (`Form`), which separates on its own.
        "stream",
        "stream_options",
        # Steer and pay for the provider's prompt cache, which returns the same tokens faster.
        "prompt_cache_key",
        "prompt_cache_retention",
        "prompt_cache_options",
        # Buys speed.
        "service_tier",
        # Tell the provider who asks. No completion echoes them.
        "user",
        "safety_identifier",
        "metadata",
    }
)

_LOGPROBS = members(
    {
        "tokens": joined,
        "token_logprobs": joined,
        "top_logprobs": joined,
        "text_offset": joined,
        # llama.cpp writes them as chat does.
        "content": joined,
    },
    rest=lone,
)
_CHOICE = members(
    {
        "index": same,
        "text": text,
        "logprobs": _LOGPROBS,
        "finish_reason": same,
        "stop_reason": same,
        "token_ids": joined,
        "content_filter_results": members({}, rest=same),
    },
    rest=lone,
)
_ANSWER = members(
    {
        "created": first,
        "choices": by_index(_CHOICE, keep_index=True),
        "usage": last,
        "timings": last,
        "obfuscation": last,
    },
    rest=same,
)

# What every chunk repeats of the answer around it; the first chunk tells the rest, the last one the timings.
_ON_EVERY_CHUNK = ("id", "object", "created", "model", "system_fingerprint", "provider")


@dataclass(frozen=True, slots=True)
class Completions:
    """The legacy completions dialect."""

    name: str = "completions"
    left_out: frozenset[str] = field(default=LEFT_OUT)
    deterministic: bool = False

    def form(self, request: Json) -> Form:
        """The form that *request* asks for."""
        return asked_form(request, include_usage=True, include_obfuscation=True)

    def refuses(self, request: Json) -> Reason | None:
        """None: nothing that this endpoint documents acts or remembers."""
        return None

    def examine(self, body: bytes, form: Form) -> Finding:
        """Judge a finished answer recorded in *form*."""
        return weigh(
            body,
            form,
            stream=partial(choices.read_stream, in_choice=_look, around=_look_around),
            whole=partial(choices.read_whole, in_choice=_look, around=_look_around),
        )

    def render(self, body: bytes, have: Form, want: Form) -> bytes | None:
        """*body* in form *want*, or None where that would not be faithful."""
        return changed(body, have, want, trim=chunks.trim, fold=_fold, unfold=_unfold)


def _look(choice: dict[str, object], evidence: Evidence) -> None:
    evidence.said = evidence.said or says(choice.get("text"))


def _look_around(value: dict[str, object], evidence: Evidence) -> None:
    pass


def _fold(body: bytes) -> bytes:
    answer = _ANSWER(chunks.objects(body))
    if not isinstance(answer, dict) or not isinstance(answer.get("usage"), dict):
        raise Unfaithful("the usage was not recorded, and every whole answer has one")
    answer.pop("obfuscation", None)
    _finished(answer.get("choices"))
    return jsontext.write(answer)


def _finished(found: object) -> list[dict[str, object]]:
    finished = [
        choice
        for choice in (found if isinstance(found, list) else [])
        if isinstance(choice, dict) and choice.get("finish_reason") is not None
    ]
    if not finished or not isinstance(found, list) or len(finished) != len(found):
        raise Unfaithful("there is no choice, or one without an end")
    return finished


def _unfold(body: bytes, want: Form) -> bytes:
    answer = jsontext.read(body, unique=True)
    if not isinstance(answer, dict):
        raise Unfaithful("the answer is not an object")
    if want.include_usage and not isinstance(answer.get("usage"), dict):
        raise Unfaithful("the usage was not recorded")
    return chunks.framed(_chunks(answer, _finished(answer.get("choices")), include_usage=want.include_usage))


def _chunks(
    answer: dict[str, object], found: list[dict[str, object]], *, include_usage: bool
) -> Iterator[dict[str, object]]:
    base = {name: answer[name] for name in answer if name in _ON_EVERY_CHUNK}
    opening = {
        name: value
        for name, value in answer.items()
        if name not in _ON_EVERY_CHUNK and name not in ("choices", "usage", "timings")
    }
    ending = {name: answer[name] for name in ("timings",) if name in answer}
    blank: dict[str, object] = {"usage": None} if include_usage else {}
    for at, choice in enumerate(found):
        index_of(choice)
        # A chunk of a stream differs from a whole completion only in how much it says, so one chunk may say it all.
        chunk = {**base, "choices": [choice], **blank}
        if at == 0:
            chunk |= opening
        if at == len(found) - 1 and not include_usage:
            chunk |= ending
        yield chunk
    if include_usage:
        yield {**base, "choices": [], "usage": answer["usage"], **ending}
