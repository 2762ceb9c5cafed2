"""Counts the tokens of answers that named no usage: afterwards, in a thread, one at a time, with a bounded queue."""

import asyncio
import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from proxy import codings, sse
from proxy.accounts.usage import LateUsage, Method, Usage
from proxy.codings import Undecodable
from proxy.dialects.choices import DONE
from proxy.model import WHOLE, Form, Json
from proxy.ports import Dialect
from proxy.tasks import Tasks
from proxy.tokens.counter import TokenCounter, shared
from proxy.tokens.estimate import estimate_text

MAX_WAITING = 64
"""Answers that wait to be counted. One that finds no place is not counted, and shown as an answer without usage."""

MAX_BYTES = 1024 * 1024
"""Request and answer that are longer together are not counted: it would take too long and hold their memory."""

PATHS: Mapping[str, str] = MappingProxyType(
    {
        "chat": "/v1/chat/completions",
        "completions": "/v1/completions",
        "responses": "/v1/responses",
        "embeddings": "/v1/embeddings",
    }
)
"""Endpoints whose rendering rules are known, by the name of their dialect."""

_USAGE_EVENT = b'data: {"choices":[],"usage":{}}\n\n'
"""Stands in for the usage when a stream is folded to be counted; nobody is ever given it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncounted:
    """An answer as it came, and the request that it answers."""

    dialect: Dialect
    request: bytes
    body: bytes
    encoding: str
    form: Form
    model: str | None
    """The model that the answer names."""


class Counting:
    """Where answers wait to be counted."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks
        self._waiting: deque[tuple[Uncounted, LateUsage]] = deque()
        self._work: asyncio.Task[None] | None = None
        self._loading: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Counting, {len(self._waiting)} answers wait>"

    def late(self, answer: Uncounted) -> LateUsage | None:
        """The usage of *answer*, to be known later; None where it will not be counted."""
        if (
            answer.dialect.name not in PATHS
            or len(answer.body) + len(answer.request) > MAX_BYTES
            or len(self._waiting) >= MAX_WAITING
        ):
            return None
        late = LateUsage()
        self._waiting.append((answer, late))
        if self._work is None or self._work.done():
            self._work = self._tasks.start(self._count_all(), name="counting")
        return late

    def asked_instead(self, usage: Usage, model: str, *, asked: str, recorded: str) -> Usage:
        """What *usage* had been with the text *asked* in the place of the *recorded* one in the same prompt.

        Estimated until the tokenizer is at hand, which this sees to.
        """
        counter = shared()
        if counter.loaded(model):
            one, other = counter.count_text(asked, model), counter.count_text(recorded, model)
            tokens, method = one.tokens - other.tokens, one.method
        else:
            tokens, method = estimate_text(asked) - estimate_text(recorded), Method.ESTIMATED
            if self._loading is None or self._loading.done():
                self._loading = self._tasks.start(self._load(counter, model), name="load ranks")
        input_tokens = max(1, usage.input_tokens + tokens)
        # What the provider's prompt cache had done for the other prompt is not known of this one.
        return Usage(
            input_tokens=input_tokens,
            output_tokens=usage.output_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            audio_output_tokens=usage.audio_output_tokens,
            method=Method.ESTIMATED if Method.ESTIMATED in (method, usage.method) else Method.COUNTED,
            lower_bound=usage.lower_bound,
        )

    async def _load(self, counter: TokenCounter, model: str) -> None:
        await asyncio.to_thread(counter.load, model)

    async def _count_all(self) -> None:
        while self._waiting:
            answer, late = self._waiting.popleft()
            usage = await asyncio.to_thread(self._count, answer)
            if usage is not None:
                late.known(usage)

    def _count(self, answer: Uncounted) -> Usage | None:
        return count(answer, shared())


def count(answer: Uncounted, counter: TokenCounter) -> Usage | None:
    """The usage of *answer* by formula, None where its request cannot be read.

    What cannot be read of the answer is left out, which makes a lower bound.
    """
    path = PATHS[answer.dialect.name]
    request = _object(answer.request)
    if request is None:
        return None
    prompt = counter.count_prompt(path, request, model=answer.model)
    whole = _whole(answer)
    if whole is None:
        return Usage(input_tokens=prompt.tokens, method=prompt.method, lower_bound=True)
    completion = counter.count_completion(path, whole, model=answer.model or request.get("model"))
    counted = prompt.method is completion.method is Method.COUNTED
    return Usage(
        input_tokens=prompt.tokens,
        output_tokens=completion.tokens,
        method=Method.COUNTED if counted else Method.ESTIMATED,
        lower_bound=prompt.lower_bound or completion.lower_bound,
    )


def _whole(answer: Uncounted) -> Json | None:
    """The whole form of *answer*, or None where its stream cannot be told as a whole answer."""
    try:
        body = codings.decode(answer.body, answer.encoding, limit=8 * MAX_BYTES)
    except Undecodable:
        return None
    told: bytes | None = body
    if answer.form.stream:
        if answer.dialect.name in ("chat", "completions"):
            body = _ended(body)
        told = answer.dialect.render(body, replace(answer.form, other_options=""), WHOLE)
    return _object(told) if told is not None else None


def _ended(body: bytes) -> bytes:
    """The stream in *body* with a usage, and with the end that one lacks whose readers all left."""
    frames, _ = sse.read(body)
    datas = [frame.data for frame in frames if frame.data is not None]
    if datas and datas[-1].strip() == DONE:
        last = body.rfind(b"data:")
        return body[:last] + _USAGE_EVENT + body[last:]
    open_choices: dict[int, dict[str, object]] = {}
    for data in datas:
        chunk = _object(data)
        choices = chunk.get("choices") if chunk is not None else None
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict) and type(choice.get("index")) is int:
                piece: dict[str, object] = {"delta": {}} if "delta" in choice else {"text": ""}
                end = choice.get("finish_reason") or "stop"
                open_choices[choice["index"]] = {"index": choice["index"], **piece, "finish_reason": end}
    ends = json.dumps({"choices": list(open_choices.values()), "usage": {}}).encode()
    return b"".join(frame.raw for frame in frames) + sse.event(ends) + sse.event(DONE)


def _object(text: bytes) -> Json | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
