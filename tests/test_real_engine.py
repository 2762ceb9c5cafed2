"""The main job on real input: an unchanged SDK app in front of a real engine asks twice and pays once."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import openai
import pytest

from demo.children import fetch_json
from tests.engine import MODEL, Mark, Stage, fresh_stage, needs_engine, settle
from tests.proxy_process import ProxyProcess

pytestmark = [needs_engine, pytest.mark.timeout(60)]

MAX_TOKENS = 200
TIMEOUT_S = 20.0
KEY = "sk-test-of-the-engine"

# What somebody's application looks like; it has never heard of a proxy.
APPLICATION = """
import sys
from openai import OpenAI

answer = OpenAI().chat.completions.create(
    model="tiny-random", temperature=0, max_tokens=200, messages=[{"role": "user", "content": sys.argv[1]}]
)
print(answer.id, answer.usage.total_tokens, answer.choices[0].message.content)
"""


@dataclass(frozen=True, slots=True)
class Heard:
    """What came over the wire to an application, and what the proxy said about it."""

    body: bytes
    outcome: str | None
    reason: str | None
    tokens: int


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One engine and one proxy for the tests that ask each something of their own."""
    with fresh_stage(tmp_path_factory.mktemp("engine")) as running:
        yield running


@pytest.fixture(autouse=True)
def _told_by_the_environment_alone(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", stage.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def whole(question: str, *, temperature: float = 0) -> Heard:
    """Ask with the plain client."""
    with openai.OpenAI(max_retries=0, timeout=TIMEOUT_S) as client:
        raw = client.chat.completions.with_raw_response.create(
            model=MODEL,
            temperature=temperature,
            max_tokens=MAX_TOKENS,
            messages=[{"role": "user", "content": question}],
        )
        usage = raw.parse().usage
        assert usage is not None
        return _heard(raw.content, raw.headers, usage.completion_tokens)


def streamed(question: str) -> Heard:
    """Ask for a stream with the plain client."""
    with (
        openai.OpenAI(max_retries=0, timeout=TIMEOUT_S) as client,
        client.chat.completions.with_streaming_response.create(
            model=MODEL,
            temperature=0,
            max_tokens=MAX_TOKENS,
            messages=[{"role": "user", "content": question}],
            stream=True,
            stream_options={"include_usage": True},
        ) as raw,
    ):
        body = b"".join(raw.iter_bytes())
        return _heard(body, raw.headers, body.count(b'"delta":{"content":"'))


def whole_async(question: str) -> Heard:
    """Ask with the asynchronous client."""

    async def ask() -> Heard:
        async with openai.AsyncOpenAI(max_retries=0, timeout=TIMEOUT_S) as client:
            raw = await client.chat.completions.with_raw_response.create(
                model=MODEL, temperature=0, max_tokens=MAX_TOKENS, messages=[{"role": "user", "content": question}]
            )
            usage = raw.parse().usage
            assert usage is not None
            return _heard(raw.content, raw.headers, usage.completion_tokens)

    return asyncio.run(ask())


def streamed_async(question: str) -> Heard:
    """Ask for a stream with the asynchronous client."""

    async def ask() -> Heard:
        async with (
            openai.AsyncOpenAI(max_retries=0, timeout=TIMEOUT_S) as client,
            client.chat.completions.with_streaming_response.create(
                model=MODEL,
                temperature=0,
                max_tokens=MAX_TOKENS,
                messages=[{"role": "user", "content": question}],
                stream=True,
                stream_options={"include_usage": True},
            ) as raw,
        ):
            body = b"".join([piece async for piece in raw.iter_bytes()])
            return _heard(body, raw.headers, body.count(b'"delta":{"content":"'))

    return asyncio.run(ask())


FORMS: dict[str, Callable[[str], Heard]] = {
    "whole": whole,
    "streamed": streamed,
    "whole-async": whole_async,
    "streamed-async": streamed_async,
}
forms = pytest.mark.parametrize("form", FORMS)


@forms
def test_an_app_that_asks_twice_pays_once(stage: Stage, form: str) -> None:
    ask, question = FORMS[form], f"What is asked twice, {form}?"
    before = stage.mark()
    first = ask(question)
    stage.settle()
    second = ask(question)
    after = stage.mark()
    assert (first.outcome, second.outcome) == ("MISS", "HIT")
    assert second.body == first.body
    assert first.tokens > 20
    assert after.requests == before.requests + 1
    # The end-of-text token is on the bill, but no event of the stream shows it.
    assert after.generated_tokens - before.generated_tokens in (first.tokens, first.tokens + 1)


def test_an_application_as_a_program_of_its_own_pays_once(stage: Stage, tmp_path: Path) -> None:
    program = tmp_path / "application.py"
    program.write_text(APPLICATION)
    environment = {**os.environ, "OPENAI_BASE_URL": stage.base_url, "OPENAI_API_KEY": KEY}

    def run() -> str:
        command = [sys.executable, str(program), "Who runs this twice?"]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=True
        ).stdout

    before = stage.mark()
    first, second = run(), run()
    assert first == second
    assert first.startswith("chatcmpl-")
    assert stage.mark().requests == before.requests + 1


@pytest.mark.parametrize(("form", "other"), [("whole", "streamed"), ("streamed", "whole")])
def test_a_kept_answer_is_free_in_its_other_form_too(stage: Stage, form: str, other: str) -> None:
    question = f"What is kept {form} and given {other}?"
    before = stage.mark()
    first = FORMS[form](question)
    stage.settle()
    second = FORMS[other](question)
    assert (first.outcome, second.outcome) == ("MISS", "HIT")
    assert stage.mark().requests == before.requests + 1
    assert _text(second.body) == _text(first.body)
    assert len(_text(first.body)) > 100


def test_the_proxy_says_what_the_engine_says(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    through = whole("Is it the same without a proxy?")
    monkeypatch.setenv("OPENAI_BASE_URL", stage.direct_url)
    straight = whole("Is it the same without a proxy?")
    assert straight.outcome is None
    assert _text(through.body) == _text(straight.body)


def test_a_crowd_that_asks_at_once_pays_once(stage: Stage) -> None:
    async def crowd() -> list[Heard]:
        async with openai.AsyncOpenAI(max_retries=0, timeout=TIMEOUT_S) as client:

            async def one() -> Heard:
                raw = await client.chat.completions.with_raw_response.create(
                    model=MODEL,
                    temperature=0,
                    max_tokens=MAX_TOKENS,
                    messages=[{"role": "user", "content": "What does a crowd ask?"}],
                )
                return _heard(raw.content, raw.headers, 0)

            return await asyncio.gather(*(one() for _ in range(20)))

    before = stage.mark()
    answers = asyncio.run(crowd())
    assert stage.mark().requests == before.requests + 1
    assert len({answer.body for answer in answers}) == 1
    assert [answer.outcome for answer in answers].count("MISS") == 1


def test_a_sampled_answer_is_asked_for_each_time(stage: Stage) -> None:
    before = stage.mark()
    answers = [whole("What does chance say?", temperature=1) for _ in range(2)]
    assert [(answer.outcome, answer.reason) for answer in answers] == [("BYPASS", "temperature")] * 2
    assert stage.mark().requests == before.requests + 2


def test_an_answer_cut_off_at_the_token_limit_is_asked_for_again(stage: Stage) -> None:
    def ask() -> httpx.Response:
        return httpx.post(
            f"{stage.base_url}/chat/completions",
            json={"messages": [{"role": "user", "content": "How long?"}], "temperature": 0, "max_tokens": 5},
            timeout=TIMEOUT_S,
        )

    answers = [ask(), ask()]
    assert [answer.json()["choices"][0]["finish_reason"] for answer in answers] == ["length"] * 2
    assert [answer.headers["x-cache"] for answer in answers] == ["MISS"] * 2


def test_the_books_agree_with_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with fresh_stage(tmp_path) as stage:
        monkeypatch.setenv("OPENAI_BASE_URL", stage.base_url)
        for question in ("one", "one", "two", "one"):
            whole(f"Count to {question}.")
            stage.settle()
        streamed("Count to two.")
        counted = stage.mark()
        books = fetch_json(f"http://127.0.0.1:{stage.proxy.address[1]}/stats")
    assert (books["requests"], books["misses"], books["hits"]) == (5, 2, 3)
    tokens = books["tokens"]
    assert isinstance(tokens, dict)
    assert counted == Mark(requests=2, generated_tokens=tokens["spent"]["output"])


def test_a_stream_whose_usage_we_ask_for_has_the_members_that_the_engine_gives_to_all(
    stage: Stage, tmp_path: Path
) -> None:
    def shape(origin: str) -> list[list[str]]:
        asked = {"messages": [{"role": "user", "content": "Which way?"}], "temperature": 0, "max_tokens": 4}
        answer = httpx.post(f"{origin}/v1/chat/completions", json={**asked, "stream": True}, timeout=TIMEOUT_S)
        events = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: {")]
        return [list(json.loads(event)) for event in events]

    settings = {"accounting.request_stream_usage": "true"}
    with ProxyProcess(stage.engine.url, tmp_path / "proxy.log", settings=settings) as proxy:
        through = shape(f"http://127.0.0.1:{proxy.address[1]}")
        settle(proxy.address)
        tokens = fetch_json(f"http://127.0.0.1:{proxy.address[1]}/stats")["tokens"]
    assert isinstance(tokens, dict)
    assert through == shape(stage.engine.url)
    assert through[-1][-1] == "timings"
    assert (tokens["spent"]["output"], tokens["spent"]["without_usage"]) == (4, 0)


SYSTEM = "You are a patient clerk who answers every question about the harbour in one sentence. " * 6


def _conversation(*turns: str) -> list[dict[str, str]]:
    roles = ("user", "assistant")
    spoken = [{"role": roles[number % 2], "content": turn} for number, turn in enumerate(turns)]
    return [{"role": "system", "content": SYSTEM}, *spoken]


# A new topic, a repeat, two turns more, a branch, a stranger, and back: each leaves and finds another prefix.
CALLS = (
    _conversation("When does the ferry leave?"),
    _conversation("When does the ferry leave?"),
    _conversation("When does the ferry leave?", "At noon.", "And on Sundays?"),
    _conversation("When does the ferry leave?", "At noon.", "And on Sundays?", "At ten.", "Thank you."),
    _conversation("When does the ferry leave?", "At noon.", "And on Mondays?"),
    [{"role": "user", "content": "Something else altogether, with no such introduction."}],
    _conversation("Where do the pilots live?"),
    [{"role": "user", "content": "Something else altogether, with no such introduction."}],
    _conversation("When does the ferry leave?", "At noon.", "And on Sundays?"),
)


def _cached_tokens(base_url: str) -> tuple[list[int], list[str | None]]:
    counts, outcomes = [], []
    with httpx.Client(timeout=TIMEOUT_S, trust_env=False) as client:
        for messages in CALLS:
            # Sampled, so that our cache stays out of it and every call reaches the engine.
            asked = {"model": MODEL, "messages": messages, "temperature": 0.7, "seed": 1, "max_tokens": 8}
            answer = client.post(f"{base_url}/chat/completions", json=asked)
            counts.append(answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"])
            outcomes.append(answer.headers.get("x-cache"))
    return counts, outcomes


def test_m22_the_engine_keeps_its_prefix_cache_behind_the_proxy(tmp_path: Path) -> None:
    with fresh_stage(tmp_path / "straight") as stage:
        straight, _ = _cached_tokens(stage.direct_url)
    with fresh_stage(tmp_path / "through") as stage:
        through, outcomes = _cached_tokens(stage.base_url)
        assert stage.mark().requests == len(CALLS)
    assert outcomes == ["BYPASS"] * len(CALLS)
    assert through == straight
    assert straight[0] == 0
    assert all(count > 0 for count in straight[1:5])


def _heard(body: bytes, headers: Mapping[str, str], tokens: int) -> Heard:
    return Heard(body, headers.get("x-cache"), headers.get("x-cache-reason"), tokens)


def _text(body: bytes) -> str:
    """The words of an answer in either form."""
    if not body.startswith(b"data:"):
        return openai.types.chat.ChatCompletion.model_validate_json(body).choices[0].message.content or ""
    chunk_type = openai.types.chat.ChatCompletionChunk
    events = [line.removeprefix(b"data:").strip() for line in body.splitlines() if line.startswith(b"data:")]
    chunks = [chunk_type.model_validate_json(event) for event in events if event != b"[DONE]"]
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
