"""What a provider says: HTTP answers spelled byte for byte, and well-formed bodies to put into them."""

import base64
import hashlib
import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, TypeAlias

Fields: TypeAlias = Sequence[tuple[str | bytes, str | bytes]]

LAST_CHUNK = b"0\r\n\r\n"
JSON: Fields = (("Content-Type", "application/json"),)
EVENTS: Fields = (("Content-Type", "text/event-stream; charset=utf-8"),)
DONE = b"data: [DONE]\n\n"


def head(status: int = 200, fields: Fields = (), *, reason: str | None = None, version: str = "HTTP/1.1") -> bytes:
    """The status line and the header lines, with the empty line that ends them."""
    phrase = _phrase(status) if reason is None else reason
    lines = [f"{version} {status} {phrase}".encode("latin-1")]
    lines += [_octets(name) + b": " + _octets(value) for name, value in fields]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def whole(body: bytes, fields: Fields = JSON, *, status: int = 200, reason: str | None = None) -> bytes:
    """An answer framed by Content-Length."""
    return head(status, (*fields, ("Content-Length", str(len(body)))), reason=reason) + body


def chunk(data: bytes, extension: bytes = b"") -> bytes:
    """One chunk of a chunked body."""
    return b"%x%s\r\n%s\r\n" % (len(data), extension, data)


def chunks(body: bytes, size: int) -> bytes:
    """The whole chunked body, cut every *size* bytes, last chunk included."""
    pieces = (chunk(body[start : start + size]) for start in range(0, len(body), size))
    return b"".join(pieces) + LAST_CHUNK


def chunked_head(fields: Fields = JSON, *, status: int = 200) -> bytes:
    """The head of an answer whose body follows in chunks."""
    return head(status, (*fields, ("Transfer-Encoding", "chunked")))


def chunked(body: bytes, fields: Fields = JSON, *, status: int = 200, size: int = 4096) -> bytes:
    """An answer framed by chunks of *size* bytes."""
    return chunked_head(fields, status=status) + chunks(body, size)


def until_close(body: bytes, fields: Fields = JSON, *, status: int = 200) -> bytes:
    """An answer whose body ends where the connection ends; the script has to close after it."""
    return head(status, fields) + body


def event(data: object, name: str | None = None) -> bytes:
    """One server-sent event with JSON *data*."""
    label = b"" if name is None else b"event: %s\n" % name.encode()
    return b"%sdata: %s\n\n" % (label, compact(data))


def compact(value: object) -> bytes:
    """The JSON of *value* without a blank."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def chat_body(content: str, *, number: int = 1, finish: str = "stop", **more: object) -> bytes:
    """A whole chat completion with one choice."""
    message: dict[str, object] = {"role": "assistant", "content": content, "refusal": None, "annotations": []}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    return _pretty({**_chat_frame(number, "chat.completion"), "choices": [choice], "usage": _usage(9, 5), **more})


def chat_events(words: Sequence[str], *, number: int = 1, finish: str | None = "stop") -> list[bytes]:
    """A chat stream without its [DONE]: the role, one event a word, the finish."""
    frame = _chat_frame(number, "chat.completion.chunk")
    deltas: list[tuple[dict[str, object], str | None]] = [({"role": "assistant", "content": ""}, None)]
    deltas += [({"content": word}, None) for word in words]
    if finish is not None:
        deltas.append(({}, finish))
    return [
        event({**frame, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]})
        for delta, reason in deltas
    ]


def friendly(number: int, method: str, target: str, body: bytes) -> "Friendly":
    """The answer of a provider in good health; *number* makes it unlike any other it ever gave."""
    path = target.partition("?")[0].rstrip("/")
    asked = _parsed(body)
    if method == "GET" and path.endswith("/models"):
        models = [{"id": "gpt-4o-mini", "object": "model", "created": 1715367049, "owned_by": "system"}]
        return Friendly(number, whole_body=_pretty({"object": "list", "data": models, "answer": number}))
    for ending, speak in _DIALECTS.items():
        if method == "POST" and path.endswith(ending):
            return speak(number, asked)
    return Friendly(number, whole_body=_pretty({"object": "answer", "id": f"answer_{number}"}))


class Friendly:
    """One well-formed answer: a JSON body, or the events of a stream."""

    def __init__(self, number: int, *, whole_body: bytes | None = None, events: Sequence[bytes] = ()) -> None:
        self.whole_body = whole_body
        self.events = tuple(events)
        self.fields: Fields = (
            ("Date", "Tue, 04 Nov 2025 10:20:30 GMT"),
            ("Content-Type", "text/event-stream; charset=utf-8" if whole_body is None else "application/json"),
            ("Server", "cloudflare"),
            ("x-request-id", f"req_{number:08d}"),
            ("openai-organization", "org-scripted"),
            ("openai-processing-ms", str(100 + number % 50)),
            ("openai-version", "2020-10-01"),
            ("x-ratelimit-remaining-requests", str(9999 - number % 1000)),
            ("CF-RAY", f"9a0b{number:08x}-AMS"),
        )


def _speak_chat(number: int, asked: Mapping[str, Any]) -> Friendly:
    text = f"Answer {number}: you said {_last_text(asked)!r}."
    if not asked.get("stream"):
        count = asked["n"] if isinstance(asked.get("n"), int) else 1
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "logprobs": {"content": [_logprob(text)]} if asked.get("logprobs") else None,
                "finish_reason": "stop",
            }
            for index in range(count)
        ]
        frame = _chat_frame(number, "chat.completion", asked.get("model"))
        return Friendly(number, whole_body=_pretty({**frame, "choices": choices, "usage": _usage_of(asked, text)}))
    frame = _chat_frame(number, "chat.completion.chunk", asked.get("model"))
    events = [event({**frame, "choices": [_delta({"role": "assistant", "content": ""}, None)]})]
    events += [event({**frame, "choices": [_delta({"content": word}, None)]}) for word in _words(text)]
    events.append(event({**frame, "choices": [_delta({}, "stop")]}))
    options = asked.get("stream_options")
    if isinstance(options, dict) and options.get("include_usage"):
        events.append(event({**frame, "choices": [], "usage": _usage_of(asked, text)}))
    return Friendly(number, events=[*events, DONE])


def _speak_completions(number: int, asked: Mapping[str, Any]) -> Friendly:
    text = f"Completion {number}."
    frame = {
        "id": f"cmpl-{number:08d}",
        "object": "text_completion",
        "created": 1_760_000_000,
        "model": asked.get("model"),
    }
    if not asked.get("stream"):
        choice = {"text": text, "index": 0, "logprobs": None, "finish_reason": "stop"}
        return Friendly(number, whole_body=_pretty({**frame, "choices": [choice], "usage": _usage(5, 3)}))
    choices = [{"text": word, "index": 0, "logprobs": None, "finish_reason": None} for word in _words(text)]
    choices.append({"text": "", "index": 0, "logprobs": None, "finish_reason": "stop"})
    return Friendly(number, events=[*(event({**frame, "choices": [choice]}) for choice in choices), DONE])


def _speak_responses(number: int, asked: Mapping[str, Any]) -> Friendly:
    text = f"Response {number}."
    part = {"type": "output_text", "text": text, "annotations": []}
    item = {"type": "message", "id": f"msg_{number:08d}", "status": "completed", "role": "assistant", "content": [part]}
    usage = {"input_tokens": 9, "output_tokens": 5, "total_tokens": 14}
    frame = {"id": f"resp_{number:08d}", "object": "response", "created_at": 1_760_000_000, "model": asked.get("model")}
    done = {**frame, "status": "completed", "error": None, "output": [item], "usage": usage}
    if not asked.get("stream"):
        return Friendly(number, whole_body=_pretty(done))
    told: list[tuple[str, dict[str, object]]] = [
        ("response.created", {"response": {**frame, "status": "in_progress", "output": []}}),
        ("response.output_item.added", {"output_index": 0, "item": {**item, "status": "in_progress", "content": []}}),
        *(("response.output_text.delta", {"output_index": 0, "content_index": 0, "delta": w}) for w in _words(text)),
        ("response.output_item.done", {"output_index": 0, "item": item}),
        ("response.completed", {"response": done}),
    ]
    events = [event({"type": kind, "sequence_number": place, **data}, kind) for place, (kind, data) in enumerate(told)]
    return Friendly(number, events=events)


def _speak_messages(number: int, asked: Mapping[str, Any]) -> Friendly:
    text = f"Message {number}."
    frame = {"id": f"msg_{number:08d}", "type": "message", "role": "assistant", "model": asked.get("model")}
    usage = {"input_tokens": 9, "output_tokens": 5}
    if not asked.get("stream"):
        content = [{"type": "text", "text": text}]
        body = {**frame, "content": content, "stop_reason": "end_turn", "stop_sequence": None, "usage": usage}
        return Friendly(number, whole_body=_pretty(body))
    told: list[tuple[str, dict[str, object]]] = [
        ("message_start", {"message": {**frame, "content": [], "stop_reason": None, "usage": usage}}),
        ("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}}),
        *(("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": w}}) for w in _words(text)),
        ("content_block_stop", {"index": 0}),
        ("message_delta", {"delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": 5}}),
        ("message_stop", {}),
    ]
    return Friendly(number, events=[event({"type": kind, **data}, kind) for kind, data in told])


def _speak_embeddings(number: int, asked: Mapping[str, Any]) -> Friendly:
    wanted = asked.get("input", "")
    items = wanted if isinstance(wanted, list) and not all(isinstance(item, int) for item in wanted) else [wanted]
    packed = asked.get("encoding_format") == "base64"
    data = [
        {"object": "embedding", "index": index, "embedding": _vector(json.dumps(item), packed=packed)}
        for index, item in enumerate(items)
    ]
    usage = {"prompt_tokens": 4 * len(items), "total_tokens": 4 * len(items)}
    return Friendly(
        number, whole_body=_pretty({"object": "list", "data": data, "model": asked.get("model"), "usage": usage})
    )


_DIALECTS = {
    "/chat/completions": _speak_chat,
    "/completions": _speak_completions,
    "/responses": _speak_responses,
    "/messages": _speak_messages,
    "/embeddings": _speak_embeddings,
}


def _chat_frame(number: int, kind: str, model: object = "gpt-4o-mini") -> dict[str, object]:
    return {
        "id": f"chatcmpl-{number:08d}",
        "object": kind,
        "created": 1_760_000_000 + number,
        "model": model,
        "service_tier": "default",
        "system_fingerprint": "fp_scripted",
    }


def _delta(delta: dict[str, object], finish: str | None) -> dict[str, object]:
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}


def _usage(prompt: int, completion: int) -> dict[str, object]:
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0},
    }


def _usage_of(asked: Mapping[str, Any], text: str) -> dict[str, object]:
    return _usage(max(1, len(json.dumps(asked.get("messages", ""))) // 4), max(1, len(text) // 4))


def _logprob(token: str) -> dict[str, object]:
    return {"token": token, "logprob": -0.25, "bytes": list(token.encode()), "top_logprobs": []}


def _last_text(asked: Mapping[str, Any]) -> str:
    messages = asked.get("messages")
    if not isinstance(messages, list) or not messages or not isinstance(messages[-1], dict):
        return ""
    content = messages[-1].get("content")
    return content[:200] if isinstance(content, str) else "something"


def _vector(text: str, *, packed: bool) -> list[float] | str:
    numbers = [(byte - 128) / 128 for byte in hashlib.sha256(text.encode()).digest()[:8]]
    return base64.b64encode(struct.pack("<8f", *numbers)).decode() if packed else numbers


def _words(text: str) -> Iterator[str]:
    return (word + " " for word in text.split(" "))


def _pretty(value: object) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False).encode()


def _parsed(body: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unassigned"


def _octets(text: str | bytes) -> bytes:
    return text.encode("latin-1") if isinstance(text, str) else text
