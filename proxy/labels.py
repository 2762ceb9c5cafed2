"""What the proxy says about its answers: ``x-cache`` and RFC 9211 ``cache-status`` fields, and errors of its own."""

import json

from proxy.accounts.usage import Method
from proxy.model import Apart, Key, Outcome, Reason
from proxy.semantic.recall import Recalled

SHORT_KEY = 16
"""Digits of the key that ``x-cache-key`` shows: enough to name an entry, useless to find its text."""

_FORWARDED = {
    Reason.NO_CACHE: "request",
    Reason.TOO_OLD: "stale",
    Reason.PARTLY_FOUND: "partial",
    Reason.OTHER_FORM: "vary-miss",
    Reason.OTHER_ENCODING: "vary-miss",
}

PHRASES = {
    200: b"OK",
    400: b"Bad Request",
    401: b"Unauthorized",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    413: b"Content Too Large",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    502: b"Bad Gateway",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
}


def labels(
    level: str,
    outcome: Outcome,
    reason: Reason,
    *,
    key: Key | None = None,
    tier: str = "",
    age_s: int | None = None,
    ttl_s: int | None = None,
    saved_tokens: int | None = None,
    saved_method: Method = Method.MEASURED,
    saved_usd: str | None = None,
    recalled: Recalled | None = None,
    apart: Apart | None = None,
) -> bytes:
    """The field lines for one answer. *level* is the setting ``headers``: ``full``, ``minimal`` or ``none``.

    Whatever the level, an answer to another question says that it is one.
    """
    if level == "none":
        return f"x-cache-tier: {tier}\r\n".encode("ascii") if recalled is not None else b""
    if level == "minimal":
        return f"x-cache: {outcome}\r\nx-cache-reason: {reason}\r\n".encode("ascii")
    lines = [f"x-cache: {outcome}", f"x-cache-reason: {reason}"]
    if tier:
        lines.append(f"x-cache-tier: {tier}")
    if recalled is not None:
        lines.append(f"x-cache-similarity: {recalled.similarity:.4f}")
        lines.append(f"x-cache-score: {recalled.score:.4f}")
        lines.append(f"x-cache-request-id: {recalled.id}")
    if key is not None:
        lines.append(f"x-cache-key: {key[:SHORT_KEY]}")
    if saved_tokens is not None:
        lines.append(f"x-cache-saved-tokens: {saved_tokens}")
        if saved_method is not Method.MEASURED:
            lines.append(f"x-cache-saved-method: {saved_method}")
    if saved_usd is not None:
        lines.append(f"x-cache-saved-usd: {saved_usd}")
    if age_s is not None:
        lines.append(f"age: {age_s}")
    lines.append(f"cache-status: {_cache_status(outcome, reason, key, ttl_s, apart)}")
    return ("\r\n".join(lines) + "\r\n").encode("ascii")


def _cache_status(outcome: Outcome, reason: Reason, key: Key | None, ttl_s: int | None, apart: Apart | None) -> str:
    """One member of ``Cache-Status`` (RFC 9211 section 2)."""
    said = ["askonce"]
    match outcome:
        case Outcome.HIT:
            said.append("hit")
            if ttl_s is not None:
                said.append(f"ttl={ttl_s}")
        case Outcome.JOINED:
            said += ["fwd=miss", "collapsed"]
        case Outcome.MISS:
            said.append(f"fwd={_FORWARDED.get(reason, 'uri-miss')}")
        case Outcome.BYPASS:
            said.append("fwd=bypass")
        case Outcome.ERROR:
            pass
    if key is not None:
        said.append(f'key="{key[:SHORT_KEY]}"')
    said.append(f"detail={reason}")
    if apart is not None:
        said.append(f"semantic={apart}")
    return "; ".join(said)


def error_body(message: str, code: str) -> bytes:
    """An error of the proxy's own in the shape that OpenAI's clients read."""
    error = {"message": message, "type": "askonce_error", "param": None, "code": code}
    return json.dumps({"error": error}, separators=(",", ":")).encode()
