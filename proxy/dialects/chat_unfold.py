"""A whole chat answer told as a stream: who speaks, what it thought, what it says, how it ended."""

from collections.abc import Iterator

from proxy.dialects import chunks, jsontext
from proxy.dialects.pieces import Unfaithful, index_of
from proxy.model import Form

_CHUNK = "chat.completion.chunk"

# What every chunk repeats of the answer around it. The first chunk tells the rest, but for what is told at the end.
_ON_EVERY_CHUNK = ("id", "object", "created", "model", "service_tier", "system_fingerprint", "provider")
_AT_THE_END = ("timings",)
_ELSEWHERE = ("choices", "usage", "prompt_filter_results")

# A delta per kind of thing said, because many clients look for one kind in each.
_THOUGHT = ("reasoning", "reasoning_content", "reasoning_details")
_SAID = ("content", "refusal")
_CALLED = ("tool_calls", "function_call")


def unfold(body: bytes, want: Form) -> bytes:
    """The chat answer in *body* as a stream in form *want*."""
    answer = jsontext.read(body, unique=True)
    if not isinstance(answer, dict):
        raise Unfaithful("the answer is not an object")
    if want.include_usage and not isinstance(answer.get("usage"), dict):
        raise Unfaithful("the usage was not recorded")
    return chunks.framed(_chunks(answer, include_usage=want.include_usage))


def _chunks(answer: dict[str, object], *, include_usage: bool) -> Iterator[dict[str, object]]:
    base = {name: _CHUNK if name == "object" else answer[name] for name in answer if name in _ON_EVERY_CHUNK}
    base.setdefault("object", _CHUNK)
    told = {*_ON_EVERY_CHUNK, *_AT_THE_END, *_ELSEWHERE}
    opening = {name: value for name, value in answer.items() if name not in told}
    ending = {name: answer[name] for name in _AT_THE_END if name in answer}
    blank: dict[str, object] = {"usage": None} if include_usage else {}
    if "prompt_filter_results" in answer:
        # Azure speaks of the prompt before it speaks of any choice.
        yield {**base, "choices": [], "prompt_filter_results": answer["prompt_filter_results"], **blank}
    pieces = list(_pieces(answer.get("choices")))
    for at, piece in enumerate(pieces):
        chunk = {**base, "choices": [piece], **blank}
        if at == 0:
            chunk |= opening
        if at == len(pieces) - 1 and not include_usage:
            chunk |= ending
        yield chunk
    if include_usage:
        yield {**base, "choices": [], "usage": answer["usage"], **ending}


def _pieces(choices: object) -> Iterator[dict[str, object]]:
    if not isinstance(choices, list) or not choices:
        raise Unfaithful("there is no choice")
    for choice in choices:
        index = index_of(choice)
        message = choice.get("message")
        if not isinstance(message, dict) or choice.get("finish_reason") is None or "delta" in choice:
            raise Unfaithful("a choice has no message, no end, or pieces beside its message")
        logged = {"logprobs": None} if "logprobs" in choice else {}
        deltas = list(_deltas(message))
        # Log probabilities go with the text they are of, or with the last delta where there is none.
        of_text = next((at for at, delta in enumerate(deltas) if at and set(delta) & set(_SAID)), len(deltas) - 1)
        for at, delta in enumerate(deltas):
            here = {"logprobs": choice["logprobs"]} if logged and at == of_text else logged
            yield {"index": index, "delta": delta, **here, "finish_reason": None}
        rest = {name: value for name, value in choice.items() if name not in ("index", "message", "logprobs")}
        yield {"index": index, "delta": {}, **logged, **rest}


def _deltas(message: dict[str, object]) -> Iterator[dict[str, object]]:
    content = message.get("content")
    if not isinstance(content, str | None):
        raise Unfaithful("content in parts has no documented stream")
    # The first delta has the role, an empty text where one follows, and what is null or empty in the whole answer.
    opening = {"role": message.get("role", "assistant")}
    for name, value in message.items():
        if name == "content" and content is not None:
            opening[name] = ""
        elif value is None or value == []:
            opening[name] = value
    yield opening
    told = {name: value for name, value in message.items() if name != "role" and value is not None and value != []}
    for name in (*_THOUGHT, *_SAID):
        if name in told:
            value = told.pop(name)
            if value != "" or name not in opening:
                yield {name: value}
    for name in _CALLED:
        if name in told:
            value = told.pop(name)
            yield {name: _numbered(value) if name == "tool_calls" else value}
    if told:
        yield told


def _numbered(calls: object) -> list[object]:
    if not isinstance(calls, list):
        raise Unfaithful("the tool calls are no list")
    numbered: list[object] = []
    for at, call in enumerate(calls):
        if not isinstance(call, dict) or call.get("index", at) != at:
            raise Unfaithful("a tool call has another index than its place")
        numbered.append({"index": at, **call})
    return numbered
