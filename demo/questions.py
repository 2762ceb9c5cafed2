"""Asks like any application does: the unchanged `openai` SDK, pointed by OPENAI_BASE_URL alone."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import openai
from openai.types import CompletionUsage

MAX_TOKENS = 200
TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """An answer as the application got it: its text, its bill, and what the proxy said about it."""

    text: str
    finish: str
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    outcome: str
    tier: str
    reason: str

    @property
    def tokens(self) -> int:
        """All tokens on the bill of this answer."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def free(self) -> bool:
        """Whether nobody was asked for it: it came from the cache, or along with another call."""
        return self.outcome in ("HIT", "JOINED")


class Asker:
    """An application with one client; which server it speaks to, only its environment knows."""

    def __init__(self) -> None:
        self._client = openai.OpenAI(max_retries=0, timeout=TIMEOUT_S)
        # Not on a cached path: this one is passed through. It also wakes the SDK up, which is slow the first time.
        self.model = next(iter(self._client.models.list())).id
        self._completions = self._client.chat.completions.with_raw_response

    def close(self) -> None:
        """Let the connections go."""
        self._client.close()

    def ask(self, question: str, *, temperature: float = 0, seed: int | None = None) -> Given:
        """Ask and wait for the whole answer."""
        started = time.perf_counter()
        raw = self._completions.create(
            model=self.model,
            messages=[{"role": "user", "content": question}],
            temperature=temperature,
            max_tokens=MAX_TOKENS,
            extra_body=None if seed is None else {"seed": seed},
        )
        answer = raw.parse()
        heard = _Heard()
        for choice in answer.choices:
            heard.add(choice.message.content, choice.finish_reason)
        return heard.given(answer.usage, raw.headers, time.perf_counter() - started)

    def ask_streamed(self, question: str) -> Given:
        """Ask and read the answer as it comes."""
        started = time.perf_counter()
        raw = self._completions.create(
            model=self.model,
            messages=[{"role": "user", "content": question}],
            temperature=0,
            max_tokens=MAX_TOKENS,
            stream=True,
            stream_options={"include_usage": True},
        )
        heard = _Heard()
        usage = None
        for part in raw.parse():
            for choice in part.choices:
                heard.add(choice.delta.content, choice.finish_reason)
            usage = part.usage or usage
        return heard.given(usage, raw.headers, time.perf_counter() - started)

    def ask_at_once(self, question: str, times: int) -> list[Given]:
        """Ask the same *times* times at the same moment, with the asynchronous client."""

        async def one(client: openai.AsyncOpenAI) -> Given:
            started = time.perf_counter()
            raw = await client.chat.completions.with_raw_response.create(
                model=self.model,
                messages=[{"role": "user", "content": question}],
                temperature=0,
                max_tokens=MAX_TOKENS,
            )
            answer = raw.parse()
            heard = _Heard()
            for choice in answer.choices:
                heard.add(choice.message.content, choice.finish_reason)
            return heard.given(answer.usage, raw.headers, time.perf_counter() - started)

        async def all_of_them() -> list[Given]:
            async with openai.AsyncOpenAI(max_retries=0, timeout=TIMEOUT_S) as client:
                return await asyncio.gather(*(one(client) for _ in range(times)))

        return asyncio.run(all_of_them())


@dataclass(slots=True)
class _Heard:
    pieces: list[str] = field(default_factory=list)
    finish: str = ""

    def add(self, content: str | None, finish: str | None) -> None:
        self.pieces.append(content or "")
        self.finish = finish or self.finish

    def given(self, usage: CompletionUsage | None, headers: Mapping[str, str], seconds: float) -> Given:
        return Given(
            text="".join(self.pieces),
            finish=self.finish,
            prompt_tokens=usage.prompt_tokens if usage else 0,
            completion_tokens=usage.completion_tokens if usage else 0,
            seconds=seconds,
            outcome=headers.get("x-cache", "?"),
            tier=headers.get("x-cache-tier", ""),
            reason=headers.get("x-cache-reason", ""),
        )
