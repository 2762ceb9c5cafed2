"""The simplest dialect there can be, for tests of what is not about dialects."""

import json
from dataclasses import dataclass

from proxy.model import Finding, Form, Json, Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainDialect:
    """Leaves ``stream`` and ``user`` out, refuses what says ``store``, re-frames nothing but by wrapping."""

    name: str = "plain"
    left_out: frozenset[str] = frozenset({"stream", "user"})
    deterministic: bool = False
    renders: bool = True

    def form(self, request: Json) -> Form:
        """Streamed where it says so."""
        return Form(stream=request.get("stream") is True)

    def refuses(self, request: Json) -> Reason | None:
        """Stored answers are a side effect."""
        return Reason.SIDE_EFFECT if request.get("store") is True else None

    def examine(self, body: bytes, form: Form) -> Finding:
        """Everything is good."""
        return Finding(model=str(json.loads(body).get("model")) if not form.stream else None)

    def render(self, body: bytes, have: Form, want: Form) -> bytes | None:
        """A stream is the whole between two marks, where this dialect renders at all."""
        if not self.renders:
            return None
        return b"data: " + body + b"\n\n" if want.stream else body.removeprefix(b"data: ").rstrip()
