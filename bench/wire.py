"""The octets that travel in the benches: requests as an SDK writes them, answers as a provider gives them."""

import json
from dataclasses import dataclass

NONCE = b"@" * 16
"""Where a request template takes a number of sixteen hexadecimal digits, other for each request."""

CHAT = "/v1/chat/completions"
UNCACHED = "/v1/moderations"

ANSWER_BYTES = 1024
REQUEST_BYTES = 500
SHORT_STREAM_EVENTS = 12
LONG_STREAM_EVENTS = 200
GAP_S = 0.002

STREAM_END = b"0\r\n\r\n"

_SDK_FIELDS = (
    "Accept: application/json",
    "Content-Type: application/json",
    "User-Agent: OpenAI/Python 1.99.1",
    "X-Stainless-Lang: python",
    "X-Stainless-Package-Version: 1.99.1",
    "X-Stainless-OS: Linux",
    "X-Stainless-Arch: x64",
    "X-Stainless-Runtime: CPython",
    "X-Stainless-Runtime-Version: 3.11.7",
    "X-Stainless-Async: false",
    "x-stainless-retry-count: 0",
    "x-stainless-read-timeout: 600",
    "Authorization: Bearer sk-bench-0123456789abcdefghijklmnopqrstuvwxyz",
    "Accept-Encoding: gzip, deflate",
    "Connection: keep-alive",
)

_ANSWER_FIELDS = (
    "Date: Mon, 23 Nov 2026 12:00:00 GMT",
    "Connection: keep-alive",
    "access-control-expose-headers: X-Request-ID",
    "openai-organization: org-bench",
    "openai-processing-ms: 412",
    "openai-project: proj_bench0123456789",
    "openai-version: 2020-10-01",
    "x-envoy-upstream-service-time: 431",
    "x-ratelimit-limit-requests: 10000",
    "x-ratelimit-limit-tokens: 10000000",
    "x-ratelimit-remaining-requests: 9999",
    "x-ratelimit-remaining-tokens: 9999876",
    "x-ratelimit-reset-requests: 6ms",
    "x-ratelimit-reset-tokens: 0s",
    "x-request-id: req_0123456789abcdef0123456789abcdef",
    "cf-cache-status: DYNAMIC",
    "Set-Cookie: __cf_bm=0123456789abcdef.0123456789; path=/; HttpOnly; Secure; SameSite=None",
    "Strict-Transport-Security: max-age=31536000; includeSubDomains; preload",
    "X-Content-Type-Options: nosniff",
    "Server: cloudflare",
    "CF-RAY: 0123456789abcdef-FRA",
    'alt-svc: h3=":443"; ma=86400',
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A kind of request."""

    path: str = CHAT
    answer: str = "whole"
    """What the origin gives: ``whole``, ``stream`` (in one write) or ``paced`` (event by event)."""
    tag: str = ""
    """Keeps the entries of one bench apart from those of another."""
    unique_body: bool = False
    unique_trace: bool = False
    """A ``traceparent`` that changes with each request, as any traced application sends it."""

    def template(self) -> bytes:
        """The request as octets, with NONCE where it changes."""
        question = f"{self.tag}{NONCE.decode() if self.unique_body else ''} Write one sentence about the sea. "
        request: dict[str, object] = {
            "messages": [
                {"role": "system", "content": "You are terse. Answer in English, without a preamble."},
                {"role": "user", "content": question},
            ],
            "model": "gpt-4o-mini",
            "temperature": 0,
            "max_tokens": 200,
        }
        if self.answer != "whole":
            request["stream"] = True
        missing = REQUEST_BYTES - len(json.dumps(request))
        request["messages"][1]["content"] = question + ("water and salt " * 40)[:missing]  # type: ignore[index]
        body = json.dumps(request).encode()
        fields = [*_SDK_FIELDS, f"x-bench-answer: {self.answer}", f"Content-Length: {len(body)}"]
        if self.unique_trace:
            fields.insert(-1, f"traceparent: 00-4bf92f3577b34da6{NONCE.decode()}-00f067aa0ba902b7-01")
        head = "\r\n".join([f"POST {self.path} HTTP/1.1", "Host: 127.0.0.1", *fields])
        return head.encode() + b"\r\n\r\n" + body


def whole_answer() -> bytes:
    """An answer of one kilobyte with its head."""
    answer = {
        "id": "chatcmpl-Bench0123456789abcdefghijkl",
        "object": "chat.completion",
        "created": 1790000000,
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "", "refusal": None, "annotations": []},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 120,
            "completion_tokens": 80,
            "total_tokens": 200,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        },
        "service_tier": "default",
        "system_fingerprint": "fp_0123456789",
    }
    missing = ANSWER_BYTES - len(json.dumps(answer))
    answer["choices"][0]["message"]["content"] = ("The sea is wide and old. " * 50)[:missing]  # type: ignore[index]
    body = json.dumps(answer).encode()
    return _head("application/json", f"Content-Length: {len(body)}") + body


def stream_head() -> bytes:
    """The head of a streamed answer."""
    return _head("text/event-stream; charset=utf-8", "Transfer-Encoding: chunked")


def event(sent_ns: int) -> bytes:
    """One event with a word of the answer, as one chunk; it tells when it was sent."""
    return _chunk(
        b'data: {"id":"chatcmpl-Bench0123456789abcdefghijkl","object":"chat.completion.chunk","created":1790000000,'
        b'"model":"gpt-4o-mini-2024-07-18","service_tier":"default","system_fingerprint":"fp_%016x",'
        b'"choices":[{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":null}]}\n\n' % sent_ns
    )


def stream_tail() -> bytes:
    """The last events of a streamed answer, and the end of its body."""
    finish = (
        b'data: {"id":"chatcmpl-Bench0123456789abcdefghijkl","object":"chat.completion.chunk","created":1790000000,'
        b'"model":"gpt-4o-mini-2024-07-18","service_tier":"default","system_fingerprint":"fp_0123456789",'
        b'"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}\n\n'
    )
    return _chunk(finish) + _chunk(b"data: [DONE]\n\n") + STREAM_END


def short_stream() -> bytes:
    """A streamed answer that comes in one write."""
    return stream_head() + b"".join([event(0) for _ in range(SHORT_STREAM_EVENTS)]) + stream_tail()


def _head(content_type: str, framing: str) -> bytes:
    lines = ["HTTP/1.1 200 OK", f"Content-Type: {content_type}", framing, *_ANSWER_FIELDS]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def _chunk(octets: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(octets), octets)
