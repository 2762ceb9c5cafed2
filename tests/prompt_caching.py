"""Providers' prompt caches for tests, written from their pages alone and without a line of the proxy's own rooms.

A token is four octets. `PromptCache` answers with the usage that a provider would report; `caching` is a script for the
scripted provider that does the same over HTTP.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from tests import answers
from tests.scripted_provider import Exchange, Script

OCTETS_PER_TOKEN = 4
MARKS = ("cache_control", "prompt_cache_breakpoint")


@dataclass(frozen=True, slots=True)
class Place:
    """The end of a block of content."""

    end: int
    marked: bool
    ends_turn: bool
    developer: bool


@dataclass(slots=True)
class Rendered:
    """A prompt as the model reads it."""

    octets: bytes = b""
    places: list[Place] = field(default_factory=list)

    def add(self, piece: object, *, role: str, ends_turn: bool = True) -> None:
        """One more block."""
        marked = isinstance(piece, dict) and any(name in piece for name in MARKS)
        if isinstance(piece, dict):
            piece = {name: value for name, value in piece.items() if name not in MARKS}
        if isinstance(piece, dict) and set(piece) == {"type", "text"}:
            piece = piece["text"]
        text = piece if isinstance(piece, str) else json.dumps(piece)
        self.octets += text.encode()
        self.places.append(Place(len(self.octets), marked, ends_turn, role in ("system", "developer", "tools")))

    @property
    def tokens(self) -> int:
        """How long it is."""
        return len(self.octets) // OCTETS_PER_TOKEN


def render(request: Mapping[str, Any]) -> Rendered:
    """The prompt of *request*, chat or Messages."""
    prompt = Rendered()
    for tool in request.get("tools") or []:
        prompt.add(tool, role="tools")
    if "response_format" in request:
        prompt.add(request["response_format"], role="tools")
    turns = list(request["messages"])
    if "system" in request:
        turns.insert(0, {"role": "system", "content": request["system"]})
    for turn in turns:
        content = turn["content"] if isinstance(turn["content"], list) else [turn["content"]]
        for number, piece in enumerate(content):
            prompt.add(piece, role=turn["role"], ends_turn=number == len(content) - 1)
    if isinstance(request.get("cache_control"), dict):
        last = prompt.places[-1]
        prompt.places[-1] = Place(last.end, True, last.ends_turn, last.developer)
    return prompt


@dataclass(slots=True)
class PromptCache:
    """One provider's cache. ``semantics``: block, breakpoint, implicit (OpenAI's breakpoints) or unit."""

    semantics: str
    min_tokens: int = 1024
    step: int = 128
    ttl_s: float = 300.0
    lookback: int = 20
    max_marks: int = 4
    read_price: float = 0.1
    write_price: float = 1.0
    entries: dict[bytes, float] = field(default_factory=dict)
    once: dict[bytes, float] = field(default_factory=dict)

    def ask(self, request: Mapping[str, Any], now: float) -> tuple[int, int, int]:
        """Tokens of the prompt, those read, those written."""
        prompt = render(request)
        settings = json.dumps({n: request.get(n) for n in ("model", "reasoning_effort", "parallel_tool_calls")})
        key = request.get("prompt_cache_key") if self.semantics == "implicit" else None
        salt = f"{settings}{key}".encode()
        lookups, writes = self._positions(request, prompt)
        read = max([end for end in lookups if self._alive(salt, prompt.octets[:end], now)], default=0)
        if read // OCTETS_PER_TOKEN < self.min_tokens:
            read = 0
        for end in {*writes, read}:
            if end // OCTETS_PER_TOKEN >= self.min_tokens or self.semantics == "unit":
                self.entries[_name(salt, prompt.octets[:end])] = now
        deepest = max([end for end in writes if end // OCTETS_PER_TOKEN >= self.min_tokens], default=0)
        billed = max(0, deepest - read) if self.write_price != 1.0 else 0
        return prompt.tokens, read // OCTETS_PER_TOKEN, billed // OCTETS_PER_TOKEN

    def cost(self, usage: tuple[int, int, int]) -> float:
        """What those tokens cost, a plain one being 1."""
        tokens, read, written = usage
        return tokens - read - written + read * self.read_price + written * self.write_price

    def _alive(self, salt: bytes, prefix: bytes, now: float) -> bool:
        return now - self.entries.get(_name(salt, prefix), float("-inf")) <= self.ttl_s

    def _positions(self, request: Mapping[str, Any], prompt: Rendered) -> tuple[list[int], list[int]]:
        """Where an entry is looked for, and where one is written; in octets."""
        places = prompt.places
        marked = [number for number, place in enumerate(places) if place.marked]
        assert len(marked) <= self.max_marks, "400: too many breakpoints"
        match self.semantics:
            case "block":
                steps = range(self.step * OCTETS_PER_TOKEN, len(prompt.octets) + 1, self.step * OCTETS_PER_TOKEN)
                return list(steps), list(steps)
            case "breakpoint":
                looked = {n - back for n in marked for back in range(self.lookback + 1) if n >= back}
                return [places[n].end for n in looked], [places[n].end for n in marked]
            case "implicit":
                mode = (request.get("prompt_cache_options") or {}).get("mode", "implicit")
                given = [places[n].end for n in marked]
                if mode == "explicit":
                    return given, given
                developer = [place.end for place in places if place.developer][-1:]
                ends = [place.end for place in places if place.ends_turn and not place.developer]
                return [*given, *developer, *ends[-21:]], [*given, *developer, *ends[-1:]]
            case _:
                whole = len(prompt.octets)
                known = [n for n in range(1024, whole, 1024) if self._seen_twice(prompt.octets[:n])]
                return [*known, whole], [*known, whole]

    def _seen_twice(self, prefix: bytes) -> bool:
        """A prefix that several requests had in common is an entry from the third on."""
        name = _name(b"", prefix)
        self.once[name] = self.once.get(name, 0) + 1
        return self.once[name] >= 2


def _name(salt: bytes, prefix: bytes) -> bytes:
    return sha256(salt + b"\0" + prefix).digest()


def chat_usage(usage: tuple[int, int, int]) -> dict[str, object]:
    """As chat completions report it."""
    tokens, read, written = usage
    details = {"cached_tokens": read, **({"cache_write_tokens": written} if written else {})}
    return {
        "prompt_tokens": tokens,
        "completion_tokens": 5,
        "total_tokens": tokens + 5,
        "prompt_tokens_details": details,
    }


def messages_usage(usage: tuple[int, int, int]) -> dict[str, object]:
    """As Messages reports it."""
    tokens, read, written = usage
    return {
        "input_tokens": tokens - read - written,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": written,
        "output_tokens": 5,
    }


def caching(cache: PromptCache) -> Script:
    """A script that answers every request with what *cache* makes of it; its clock stands still."""

    async def play(exchange: Exchange) -> None:
        request = json.loads(await exchange.body())
        usage = cache.ask(request, 0.0)
        if exchange.request.target.endswith(b"/messages"):
            answer = {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "model": request["model"],
                "content": [{"type": "text", "text": "Yes."}],
                "stop_reason": "end_turn",
                "usage": messages_usage(usage),
            }
        else:
            answer = {**json.loads(answers.chat_body("Yes.", model=request["model"])), "usage": chat_usage(usage)}
        await exchange.send(answers.whole(answers.compact(answer)))

    return Script(play=play)
