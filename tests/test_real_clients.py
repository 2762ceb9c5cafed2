"""M21: the clients people use get the same from the proxy as from the provider, on a miss and on a hit."""

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionUserMessageParam

from tests import answers
from tests.comparison import Ways
from tests.engine import settle
from tests.scripted_provider import spaced, steps

ROOT = Path(__file__).resolve().parent.parent
NODE_FOLDER = ROOT / ".cache" / "node"
NODE_SDK = "openai@6.49.0"
INSTALL_WITHIN_S = 120
TIMEOUT_S = 15.0
KEY = "sk-test-of-clients"
MODEL = "gpt-4o-mini"

pytestmark = [pytest.mark.proxy_only, pytest.mark.timeout(60)]


@dataclass(frozen=True, slots=True)
class Seen:
    """What an application saw of one answer, as text that can be compared, and the label of the proxy."""

    result: str
    outcome: str | None


Client = Callable[[Sequence[str], str, bool], list[Seen]]
"""Asks the same of each base URL in turn, whole or as a stream."""


def by_httpx(base_urls: Sequence[str], question: str, stream: bool) -> list[Seen]:
    """What httpx gets: status, content type, the provider's own fields and every byte."""
    seen = []
    with httpx.Client(timeout=TIMEOUT_S, trust_env=False, headers={"Authorization": f"Bearer {KEY}"}) as client:
        for url in base_urls:
            answer = client.post(f"{url}/chat/completions", json=_asked(question, stream=stream))
            fields = sorted(pair for pair in answer.headers.items() if _is_the_providers(pair[0]))
            seen.append(Seen(f"{answer.status_code} {fields} {answer.content!r}", answer.headers.get("x-cache")))
    return seen


def by_curl(base_urls: Sequence[str], question: str, stream: bool) -> list[Seen]:
    """What curl prints: the same, from a program that shares no code with us."""
    body = json.dumps(_asked(question, stream=stream))
    seen = []
    for url in base_urls:
        command = ["curl", "--silent", "--show-error", "--no-buffer", "--include", "--max-time", str(TIMEOUT_S)]
        command += ["--noproxy", "*", "--header", "Content-Type: application/json"]
        command += ["--header", f"Authorization: Bearer {KEY}", "--data-binary", "@-", f"{url}/chat/completions"]
        printed = subprocess.run(
            command, input=body.encode(), capture_output=True, timeout=2 * TIMEOUT_S, check=True
        ).stdout
        head, _, content = printed.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        pairs = [(line.partition(":")[0].lower(), line.partition(":")[2].strip()) for line in lines]
        fields = sorted(pair for pair in pairs if _is_the_providers(pair[0]))
        seen.append(Seen(f"{status} {fields} {content!r}", dict(pairs).get("x-cache")))
    return seen


def by_openai(base_urls: Sequence[str], question: str, stream: bool) -> list[Seen]:
    """What the Python SDK makes of it: objects, or the exception with its headers."""
    seen = []
    for url in base_urls:
        with openai.OpenAI(base_url=url, api_key=KEY, max_retries=0, timeout=TIMEOUT_S) as client:
            completions = client.chat.completions.with_raw_response
            try:
                if stream:
                    events = completions.create(
                        model=MODEL, temperature=0, messages=_messages(question), stream=True, extra_body=STREAMED
                    )
                    shown = [part.model_dump_json() for part in events.parse()]
                    seen.append(Seen(str(shown), events.headers.get("x-cache")))
                else:
                    raw = completions.create(model=MODEL, temperature=0, messages=_messages(question))
                    shown = [raw.parse().model_dump_json(), str(raw.request_id)]
                    seen.append(Seen(str(shown), raw.headers.get("x-cache")))
            except openai.APIStatusError as error:
                seen.append(_refusal(error))
    return seen


def by_openai_async(base_urls: Sequence[str], question: str, stream: bool) -> list[Seen]:
    """The same by the asynchronous client."""

    async def ask(url: str) -> Seen:
        async with openai.AsyncOpenAI(base_url=url, api_key=KEY, max_retries=0, timeout=TIMEOUT_S) as client:
            completions = client.chat.completions.with_raw_response
            try:
                if stream:
                    events = await completions.create(
                        model=MODEL, temperature=0, messages=_messages(question), stream=True, extra_body=STREAMED
                    )
                    shown = [part.model_dump_json() async for part in events.parse()]
                    return Seen(str(shown), events.headers.get("x-cache"))
                raw = await completions.create(model=MODEL, temperature=0, messages=_messages(question))
                return Seen(str([raw.parse().model_dump_json(), str(raw.request_id)]), raw.headers.get("x-cache"))
            except openai.APIStatusError as error:
                return _refusal(error)

    return [asyncio.run(ask(url)) for url in base_urls]


NODE_APPLICATION = """
const OpenAI = require("openai");
const { question, stream, urls } = JSON.parse(require("fs").readFileSync(0, "utf8"));
const asked = { model: "gpt-4o-mini", temperature: 0, messages: [{ role: "user", content: question }] };

async function ask(baseURL) {
  const client = new OpenAI({ baseURL, apiKey: "sk-test-of-clients", maxRetries: 0, timeout: 15000 });
  try {
    if (stream) {
      const { data, response } = await client.chat.completions
        .create({ ...asked, stream: true, stream_options: { include_usage: true } }).withResponse();
      const parts = [];
      for await (const part of data) parts.push(part);
      return { result: parts, outcome: response.headers.get("x-cache") };
    }
    const { data, response, request_id } = await client.chat.completions.create(asked).withResponse();
    return { result: [data, request_id], outcome: response.headers.get("x-cache") };
  } catch (error) {
    const read = (name) => error.headers?.get(name) ?? null;
    const waits = [read("retry-after"), read("retry-after-ms"), read("x-ratelimit-remaining-requests")];
    const result = [error.constructor.name, error.status, error.error, error.message, error.requestID, waits];
    return { result, outcome: read("x-cache") };
  }
}

(async () => {
  for (const url of urls) console.log(JSON.stringify(await ask(url)));
})();
"""


def by_node(base_urls: Sequence[str], question: str, stream: bool) -> list[Seen]:
    """What the Node SDK makes of it."""
    told = json.dumps({"question": question, "stream": stream, "urls": list(base_urls)})
    ended = subprocess.run(
        ["node", "--eval", NODE_APPLICATION],
        input=told,
        env={"PATH": os.environ["PATH"], "NODE_PATH": str(NODE_FOLDER / "node_modules")},
        capture_output=True,
        text=True,
        timeout=2 * TIMEOUT_S,
    )
    assert ended.returncode == 0, ended.stderr
    lines = [json.loads(line) for line in ended.stdout.split("\n") if line]
    return [Seen(json.dumps(line["result"]), line["outcome"]) for line in lines]


STREAMED = {"stream_options": {"include_usage": True}}
CLIENTS: dict[str, Client] = {
    "httpx": by_httpx,
    "curl": by_curl,
    "openai-python": by_openai,
    "openai-python-async": by_openai_async,
    "openai-node": by_node,
}


@pytest.fixture(scope="session")
def node_sdk() -> str:
    """Why the Node SDK cannot be used here; empty when it can. Installed once, into the project's own cache folder."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return "node and npm are not here"
    name, _, version = NODE_SDK.partition("@")
    manifest = NODE_FOLDER / "node_modules" / name / "package.json"
    if manifest.is_file() and json.loads(manifest.read_text())["version"] == version:
        return ""
    NODE_FOLDER.mkdir(parents=True, exist_ok=True)
    command = ["npm", "install", NODE_SDK, "--prefix", str(NODE_FOLDER), "--no-audit", "--no-fund", "--ignore-scripts"]
    try:
        subprocess.run(command, cwd=NODE_FOLDER, capture_output=True, text=True, timeout=INSTALL_WITHIN_S, check=True)
    except subprocess.CalledProcessError as error:
        return f"npm install {NODE_SDK} failed: {error.stderr.strip().splitlines()[-1:]}"
    except subprocess.TimeoutExpired:
        return f"npm install {NODE_SDK} took more than {INSTALL_WITHIN_S} s"
    return ""


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> Client:
    """Each of the clients in turn."""
    if request.param == "curl" and shutil.which("curl") is None:
        pytest.skip("curl is not here")
    if request.param == "openai-node":
        reason = request.getfixturevalue("node_sdk")
        if reason:
            pytest.skip(reason)
    return CLIENTS[request.param]


def _in_turn(ways: Ways, client: Client, question: str, *, stream: bool) -> list[Seen]:
    """What the client sees directly, then through the proxy, then through the proxy again."""
    direct, proxied = (f"http://{host}:{port}/v1" for host, port in (ways.direct, ways.proxy))
    seen = client([direct, proxied], question, stream)
    settle(ways.proxy)
    return seen + client([proxied], question, stream)


@pytest.mark.timeout(180)
def test_a_whole_answer_is_the_same_directly_on_a_miss_and_on_a_hit(ways: Ways, client: Client) -> None:
    body = answers.chat_body(f"Whole, for {ways.nonce}: naïve “quotes”, 漢字, \u2028 and 🙂.")
    ways.plays(answers.whole(body, (*answers.JSON, *PROVIDERS_FIELDS)))
    straight, miss, hit = _in_turn(ways, client, f"Say {ways.nonce}.", stream=False)
    assert [seen.outcome for seen in (straight, miss, hit)] == [None, "MISS", "HIT"]
    assert miss.result == straight.result
    assert hit.result == straight.result
    assert len(ways.received()) == 2


@pytest.mark.timeout(180)
def test_a_stream_is_the_same_directly_on_a_miss_and_on_a_hit(ways: Ways, client: Client) -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}
    last = json.loads(answers.chat_events([])[0].removeprefix(b"data:")) | {"choices": [], "usage": usage}
    events = [*answers.chat_events(["Str", "eamed ", "for ", ways.nonce, " – 漢", "字 🙂"]), answers.event(last)]
    pieces = [answers.chunk(event) for event in (*events, answers.DONE)]
    head = answers.chunked_head((*answers.EVENTS, *PROVIDERS_FIELDS))
    ways.plays(spaced(pieces, 0.005, before=head, after=answers.LAST_CHUNK))
    straight, miss, hit = _in_turn(ways, client, f"Stream {ways.nonce}.", stream=True)
    assert [seen.outcome for seen in (straight, miss, hit)] == [None, "MISS", "HIT"]
    assert ways.nonce in straight.result
    assert miss.result == straight.result
    assert hit.result == straight.result
    assert len(ways.received()) == 2


@pytest.mark.timeout(180)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_a_refusal_is_the_same_and_asked_for_each_time(ways: Ways, client: Client, stream: bool) -> None:
    error = {
        "message": f"Rate limit for {ways.nonce}",
        "type": "requests",
        "param": None,
        "code": "rate_limit_exceeded",
    }
    waits = (("Retry-After", "7"), ("retry-after-ms", "6543"), ("x-ratelimit-remaining-requests", "0"))
    fields = (*answers.JSON, *waits, ("x-request-id", "req_refused"), ("x-should-retry", "false"))
    ways.plays(steps(answers.whole(answers.compact({"error": error}), fields, status=429)))
    straight, first, second = _in_turn(ways, client, f"Refuse {ways.nonce}.", stream=stream)
    assert [seen.outcome for seen in (straight, first, second)] == [None, "MISS", "MISS"]
    assert "429" in straight.result
    assert "6543" in straight.result
    assert first.result == straight.result
    assert second.result == straight.result
    assert len(ways.received()) == 3


PROVIDERS_FIELDS = (
    ("x-request-id", "req_1234"),
    ("openai-processing-ms", "321"),
    ("x-ratelimit-limit-tokens", "150000"),
)


def _asked(question: str, *, stream: bool) -> dict[str, object]:
    asked: dict[str, object] = {"model": MODEL, "temperature": 0, "messages": _messages(question)}
    return {**asked, "stream": True, **STREAMED} if stream else asked


def _messages(question: str) -> list[ChatCompletionUserMessageParam]:
    return [{"role": "user", "content": question}]


def _refusal(error: openai.APIStatusError) -> Seen:
    names = ("retry-after", "retry-after-ms", "x-should-retry", "x-ratelimit-remaining-requests", "content-type")
    fields = {name: error.response.headers.get(name) for name in names}
    shown = [type(error).__name__, error.status_code, error.message, error.body, error.code, error.request_id, fields]
    return Seen(str(shown), error.response.headers.get("x-cache"))


def _is_the_providers(name: str) -> bool:
    """Whether a field is among those the contract says must not differ."""
    framing = ("connection", "keep-alive", "transfer-encoding", "content-length", "date", "age", "via", "cache-status")
    return name not in framing and not name.startswith("x-cache")
