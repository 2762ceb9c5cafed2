"""The examples, each with its real client: the same directly, through a miss and through a hit.

Python clients run in the interpreter of the tests where they are installed there, or in ``.cache/clients/frameworks``,
Node's in ``.cache/clients/node``; ``make clients`` puts them there. What is not there is skipped.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import answers
from tests.conftest import StartProxy
from tests.observation import assert_adds_up, settled
from tests.scripted_provider import Exchange, Script

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
CLIENTS = ROOT / ".cache" / "clients"
FRAMEWORKS = CLIENTS / "frameworks" / "bin" / "python"
NODE_MODULES = CLIENTS / "node" / "node_modules"
WITHIN_S = 100.0

pytestmark = [pytest.mark.proxy_only, pytest.mark.nightly, pytest.mark.timeout(400)]

TEXT = "A store of answers – 漢字 🙂."
USAGE = {"prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 16}


# A provider that says the same each time, in every dialect.


def chat(asked: Mapping[str, Any]) -> bytes:
    """A chat answer, whole or streamed; with a call of the tool where there is one."""
    frame = {"id": "chatcmpl-fixed", "created": 1_760_000_000, "model": asked["model"], "system_fingerprint": "fp"}
    said: dict[str, Any] = {"role": "assistant", "content": TEXT, "refusal": None}
    finish = "stop"
    if asked.get("tools"):
        function = {"name": asked["tools"][0]["function"]["name"], "arguments": json.dumps({"text": TEXT})}
        said |= {"content": None, "tool_calls": [{"id": "call_1", "type": "function", "function": function}]}
        finish = "tool_calls"
    if not asked.get("stream"):
        choice = {"index": 0, "message": said, "logprobs": None, "finish_reason": finish}
        return answers.whole(
            answers.compact({**frame, "object": "chat.completion", "choices": [choice], "usage": USAGE})
        )
    frame["object"] = "chat.completion.chunk"
    deltas: list[dict[str, Any]] = [
        {"role": "assistant", "content": ""},
        *({"content": word} for word in re.findall(r"\S+\s*", TEXT)),
    ]
    chunks = [{**frame, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    chunks.append({**frame, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    if (asked.get("stream_options") or {}).get("include_usage"):
        chunks.append({**frame, "choices": [], "usage": USAGE})
    return streamed(*map(answers.event, chunks), answers.DONE)


def responses(asked: Mapping[str, Any]) -> bytes:
    """A response, told as a stream."""
    part = {"type": "output_text", "text": TEXT, "annotations": [], "logprobs": []}
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    usage = {
        "input_tokens": 9,
        "output_tokens": 7,
        "total_tokens": 16,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }
    whole = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1_760_000_000,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "model": asked["model"],
        "output": [item],
        "parallel_tool_calls": True,
        "temperature": 0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1,
        "usage": usage,
        "metadata": {},
    }
    begun = {**whole, "status": "in_progress", "output": [], "usage": None}
    at = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    told: list[tuple[str, dict[str, Any]]] = [
        ("response.created", {"response": begun}),
        ("response.in_progress", {"response": begun}),
        ("response.output_item.added", {"output_index": 0, "item": {**item, "status": "in_progress", "content": []}}),
        ("response.content_part.added", {**at, "part": {**part, "text": ""}}),
        *(("response.output_text.delta", {**at, "delta": word, "logprobs": []}) for word in (TEXT[:5], TEXT[5:])),
        ("response.output_text.done", {**at, "text": TEXT, "logprobs": []}),
        ("response.content_part.done", {**at, "part": part}),
        ("response.output_item.done", {"output_index": 0, "item": item}),
        ("response.completed", {"response": whole}),
    ]
    return streamed(
        *(answers.event({"type": kind, "sequence_number": at, **data}, kind) for at, (kind, data) in enumerate(told))
    )


def embeddings(asked: Mapping[str, Any]) -> bytes:
    """Vectors, in whichever coding is asked for."""
    return answers.whole(answers.friendly(1, "POST", "/v1/embeddings", answers.compact(asked)).whole_body or b"")


def messages(asked: Mapping[str, Any]) -> bytes:
    """An Anthropic message, whole or streamed."""
    whole = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": asked["model"],
        "content": [{"type": "text", "text": TEXT}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 9, "output_tokens": 7},
    }
    if not asked.get("stream"):
        return answers.whole(answers.compact(whole))
    begun = {**whole, "content": [], "stop_reason": None, "usage": {"input_tokens": 9, "output_tokens": 1}}
    told: list[tuple[str, dict[str, Any]]] = [
        ("message_start", {"message": begun}),
        ("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}}),
        ("ping", {}),
        *(
            ("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": piece}})
            for piece in (TEXT[:7], TEXT[7:])
        ),
        ("content_block_stop", {"index": 0}),
        ("message_delta", {"delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": 7}}),
        ("message_stop", {}),
    ]
    return streamed(*(answers.event({"type": kind, **data}, kind) for kind, data in told))


def streamed(*events: bytes) -> bytes:
    """An event stream."""
    return answers.chunked_head(answers.EVENTS) + b"".join(map(answers.chunk, events)) + answers.LAST_CHUNK


SPEAKS = {
    b"/v1/chat/completions": chat,
    b"/v1/responses": responses,
    b"/v1/embeddings": embeddings,
    b"/v1/messages": messages,
}


async def _play(exchange: Exchange) -> None:
    asked = json.loads(await exchange.body())
    await exchange.send(SPEAKS[exchange.request.target](asked))


PROVIDER = Script(play=_play)


# The clients.


@dataclass(frozen=True, slots=True)
class Example:
    """One file, and what runs it."""

    name: str
    runs: str
    """``python`` where the tests run, ``frameworks`` or ``node``."""

    def command(self, folder: Path) -> list[str]:
        """How it is started, with *folder* to work in; skips where what it needs is not here."""
        file = str(EXAMPLES / self.name)
        match self.runs:
            case "python":
                return [sys.executable, file]
            case "frameworks":
                if not FRAMEWORKS.exists():
                    pytest.skip("the frameworks are not installed (make clients)")
                return [str(FRAMEWORKS), file]
            case _:
                node = shutil.which("node")
                if node is None or not NODE_MODULES.is_dir():
                    pytest.skip("node or its packages are not installed (make clients)")
                # Node looks for packages beside the file that it runs.
                (folder / "node_modules").symlink_to(NODE_MODULES, target_is_directory=True)
                return [node, shutil.copy(file, str(folder))]


ALL = (
    *(
        Example(name, "python")
        for name in (
            "openai_chat.py",
            "openai_stream.py",
            "openai_responses.py",
            "openai_embeddings.py",
            "anthropic_messages.py",
            "anthropic_stream.py",
        )
    ),
    *(
        Example(name, "frameworks")
        for name in (
            # Another major version of the SDKs than that of the tests.
            "openai_chat.py",
            "openai_stream.py",
            "openai_responses.py",
            "openai_embeddings.py",
            "anthropic_messages.py",
            "anthropic_stream.py",
            "langchain_chat.py",
            "llamaindex_chat.py",
            "litellm_sdk.py",
            "instructor_extract.py",
            "pydantic_ai_agent.py",
        )
    ),
    *(Example(name, "node") for name in ("openai_node.mjs", "anthropic_node.mjs", "vercel_ai.mjs")),
)


def test_every_example_is_tried_here() -> None:
    tried = {example.name for example in ALL} | {"library.py"}
    assert tried == {file.name for file in EXAMPLES.iterdir() if file.suffix in (".py", ".mjs")}


def said(command: list[str], origin: str, home: Path) -> str:
    """What an example prints with the provider, or the proxy, at *origin*."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "OPENAI_BASE_URL": f"{origin}/v1",
        "OPENAI_API_KEY": "sk-matrix",
        "ANTHROPIC_BASE_URL": origin,
        "ANTHROPIC_API_KEY": "sk-matrix",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "NO_PROXY": "*",
    }
    ended = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=WITHIN_S)
    assert ended.returncode == 0, ended.stderr[-2000:]
    return ended.stdout


@pytest.mark.parametrize("example", ALL, ids=lambda example: f"{example.runs}-{example.name}")
def test_an_example_says_the_same_directly_through_a_miss_and_through_a_hit(
    example: Example, start_proxy: StartProxy, tmp_path: Path
) -> None:
    command = example.command(tmp_path)
    ways = start_proxy()
    ways.provider.on("cache", PROVIDER)
    straight = said(command, ways.provider.origin, tmp_path)
    asked = len(ways.provider.requests("cache"))
    assert asked > 0
    assert straight.strip()
    proxied = f"http://{ways.proxy[0]}:{ways.proxy[1]}"
    missed = said(command, proxied, tmp_path)
    # One that asks the same whole and streamed is answered from one recording.
    fetched = len(ways.provider.requests("cache")) - asked
    assert 0 < fetched <= asked
    settled(ways.proxy, requests=0, fetches=0)
    hit = said(command, proxied, tmp_path)
    assert len(ways.provider.requests("cache")) == asked + fetched
    assert missed == straight
    assert hit == straight
    shown = settled(ways.proxy, requests=2 * asked, fetches=fetched)
    assert_adds_up(shown)
    assert (shown["misses"], shown["bypassed"], shown["errors"]) == (fetched, 0, 0)
    assert shown["hits"] == 2 * asked - fetched


def test_the_library_says_what_the_provider_says(start_proxy: StartProxy, tmp_path: Path) -> None:
    ways = start_proxy()
    ways.provider.on("cache", PROVIDER)
    command = [sys.executable, str(EXAMPLES / "library.py")]
    environment = {"PATH": os.environ["PATH"], "OPENAI_BASE_URL": f"{ways.provider.origin}/v1", "OPENAI_API_KEY": "x"}
    environment |= {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=WITHIN_S)
    assert ended.stdout.strip() == TEXT, ended.stderr
