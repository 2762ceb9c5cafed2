"""What an answer says, as one text: to be compared with another, never to be shown."""

from collections.abc import Iterator

from proxy import sse
from proxy.dialects import jsontext

MAX_TEXTS = 100_000
"""Pieces of one answer that are looked at."""

_TEXTS = frozenset({"text", "content", "refusal", "arguments", "partial_json", "name", "delta"})
"""Members of an answer that hold what it says; the rest are ids, counts and kinds."""

_TEXT_EVENTS = frozenset(
    {"response.output_text.delta", "response.refusal.delta", "response.function_call_arguments.delta"}
)
_TURNS = {"chat": "choices", "responses": "output", "messages": "content"}


def said(dialect: str, body: bytes, *, stream: bool) -> str | None:
    """The texts of the answer in *body*, its calls of tools included; None where it cannot be read."""
    try:
        values = _events(body) if stream else [jsontext.read(body)]
        pieces = []
        for value in values:
            for piece in _pieces(dialect, value):
                pieces.append(piece)
                if len(pieces) > MAX_TEXTS:
                    return None
        return "".join(pieces)
    except ValueError:
        return None


def _events(body: bytes) -> Iterator[object]:
    frames, _ = sse.read(body)
    for frame in frames:
        if frame.data is not None and frame.data.strip() != b"[DONE]":
            yield jsontext.read(frame.data)


def _pieces(dialect: str, value: object) -> Iterator[str]:
    if not isinstance(value, dict):
        return
    kind = value.get("type")
    if dialect == "responses" and isinstance(kind, str) and kind.startswith("response."):
        # What the pieces said, the last event says again.
        if kind in _TEXT_EVENTS:
            yield from _texts(value.get("delta"))
    elif dialect == "messages" and isinstance(kind, str) and kind != "message":
        yield from _texts(value.get("delta") if kind == "content_block_delta" else value.get("content_block"))
    else:
        yield from _texts(value.get(_TURNS.get(dialect, "choices")))


def _texts(value: object) -> Iterator[str]:
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, str):
            yield each
        elif isinstance(each, list):
            waiting.extend(reversed(each))
        elif isinstance(each, dict):
            below = [
                member
                for name, member in each.items()
                if name in _TEXTS or (isinstance(member, dict | list) and name != "logprobs")
            ]
            waiting.extend(reversed(below))
