"""M19: every recorded answer of a real provider goes through byte for byte, and comes back the same as a hit.

What becomes of each recording is foretold from the recording alone, by rules much simpler than the proxy's own.
"""

import base64
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import brotli
import pytest

from tests import answers, raw_client
from tests.comparison import Ways, answer_differences
from tests.observation import assert_adds_up, counted, settled, stats
from tests.proxy_process import ROOT, ProxyProcess
from tests.scripted_provider import ScriptedProvider, steps

RECORDINGS = ROOT.parent / "shared" / "data" / "cassettes.jsonl"
FRAMING = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length"})

# Not a multiple of anything, so that chunks end inside events, lines and characters.
CHUNK_BYTES = 997

CACHED = re.compile(r"(/v1|/openai/v1|/openai/deployments/[^/]+)?/(chat/completions|completions|responses)")
CLIENT_TOOLS = ("function", "custom")
SAID = re.compile(rb'"(?:content|text|arguments|name|delta|reasoning|reasoning_content|refusal)"\s*:\s*"[^"]')


@dataclass(frozen=True, slots=True)
class Recording:
    """One exchange with a real provider."""

    number: int
    row: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.number:03d}-{self.row['repo'].rpartition('/')[2]}"

    @property
    def target(self) -> str:
        """The target that the client would have sent to the proxy in place of this provider.

        A provider whose API lies under a prefix (``/api``), or a base URL that the recorder blotted out, is the
        proxy's upstream; the client keeps what it adds to its base URL.
        """
        uri = re.sub(r"^<[A-Z_]+>", "https://blotted.example/v1", self.row["uri"])
        parts = urlsplit(uri)
        path = parts.path.removeprefix("/api") if parts.hostname == "openrouter.ai" else parts.path
        return f"{path}?{parts.query}" if parts.query else path

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def request(self) -> bytes:
        """The request body."""
        return base64.b64decode(self.row["request_b64"])

    @property
    def text(self) -> bytes:
        """The body of the answer without its content coding."""
        return base64.b64decode(self.row["body_b64"])

    @property
    def fields(self) -> list[tuple[str, str]]:
        """The header fields of the answer, without those of the recorded connection.

        Where the recorder kept none at all, with the one that no such answer lacks.
        """
        kind = "text/event-stream" if "sse" in self.row["labels"] else "application/json"
        recorded = self.row["response_headers"] or [("Content-Type", kind)]
        return [(name, value) for name, value in recorded if name.lower() not in FRAMING]

    @property
    def body(self) -> bytes:
        """The body as it was on the wire; the recorder had undone the one coding there is."""
        codings = [value for name, value in self.fields if name.lower() == "content-encoding"]
        assert codings in ([], ["br"]), codings
        return brotli.compress(self.text) if codings else self.text

    @property
    def foretold(self) -> str:
        """``kept``, ``forwarded``, ``bypass <reason>`` or ``unkept <word>``: what must become of it."""
        if not CACHED.fullmatch(self.path):
            return "forwarded"
        asked = json.loads(self.request)
        if asked.get("previous_response_id") or asked.get("conversation") or asked.get("background"):
            return "bypass stateful"
        chat = not self.path.endswith("/responses")
        if chat and (asked.get("store") or asked.get("web_search_options")):
            return "bypass side_effect"
        if any(tool.get("type") not in CLIENT_TOOLS for tool in asked.get("tools") or ()):
            return "bypass side_effect"
        ends = re.findall(rb'"finish_reason"\s*:\s*"(\w+)"', self.text)
        # Every choice that began has to end; a recorded stream never says twice that one did.
        begun = set(re.findall(rb'"choices":\s*\[\{[^{}]*"index":\s*(\d+)', self.text)) or {b"0"}
        finished = len(ends) >= len(begun) if chat else b'"status":"completed"' in self.text.replace(b" ", b"")
        terminal = b"data: [DONE]" if chat else b'"type":"response.completed"'
        if not finished or (asked.get("stream") and terminal not in self.text):
            return "unkept incomplete"
        if not SAID.search(self.text):
            return "unkept empty"
        return "unkept length" if b"length" in ends else "kept"


def recordings() -> list[Any]:
    """Every recording; one placeholder that is skipped where there are none on this machine."""
    if not RECORDINGS.is_file():
        return [pytest.param(None, marks=pytest.mark.skip(reason="no recorded answers at ../shared/data"))]
    with RECORDINGS.open() as lines:
        return [pytest.param(one, id=str(one)) for one in map(Recording, range(10_000), map(json.loads, lines))]


@pytest.fixture(scope="module")
def generous(provider: ScriptedProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess]:
    """A proxy that keeps whatever is worth keeping: most of the recorded requests name no temperature."""
    log = tmp_path_factory.mktemp("generous") / "stderr.log"
    with ProxyProcess(provider.origin, log, settings={"cache.when": "always"}) as running:
        yield running


@pytest.mark.proxy_only
@pytest.mark.parametrize("recording", recordings())
def test_a_recorded_answer_passes_unchanged_and_comes_back_the_same(
    provider: ScriptedProvider, generous: ProxyProcess, nonce: str, recording: Recording
) -> None:
    ways = Ways(provider, generous.address, generous, nonce)
    fields = [*recording.fields, ("Transfer-Encoding", "chunked")]
    ways.plays(steps(answers.head(recording.row["status"] or 200, fields), answers.chunks(recording.body, CHUNK_BYTES)))
    asked = (
        ("Content-Type", "application/json"),
        ("Accept-Encoding", "gzip, deflate, br, zstd"),
        # The same request was recorded more than once, with other answers.
        ("Authorization", f"Bearer {nonce}"),
    )
    octets = raw_client.request("POST", recording.target, asked, recording.request)
    foretold, _, word = recording.foretold.partition(" ")

    straight = ways.straight(octets)
    before = stats(generous.address)
    first = ways.through(octets)
    assert answer_differences(straight.answer, first.answer, spelling=True) == []
    assert bytes(first.answer.body) == recording.body
    assert len(first.received) == 1
    assert bytes(first.only.body) == recording.request
    if foretold == "forwarded":
        assert first.answer.get("x-cache") is None
        assert stats(generous.address)["requests"] == before["requests"]
        assert len(ways.through(octets).received) == 1
        provider.forget(nonce)
        return

    after = settled(generous.address, requests=before["requests"] + 1, fetches=before["fetches"] + 1)
    assert_adds_up(after)
    assert first.answer.get("x-cache") == ("BYPASS" if foretold == "bypass" else "MISS")
    if foretold == "bypass":
        assert first.answer.get("x-cache-reason") == word
    assert counted(before, after, "unkept") == ({word: 1} if foretold == "unkept" else {})
    assert after["kept"] - before["kept"] == (foretold == "kept")

    second = ways.through(octets)
    assert bytes(second.answer.body) == recording.body
    if foretold == "kept":
        assert answer_differences(straight.answer, second.answer, spelling=True, hit=True) == []
        assert second.answer.framing is first.answer.framing
        assert (second.answer.get("x-cache"), second.answer.get("x-cache-reason")) == ("HIT", "found")
        assert second.answer.values("set-cookie") == []
        assert second.received == ()
    else:
        assert second.answer.get("x-cache") == first.answer.get("x-cache")
        assert len(second.received) == 1
    provider.forget(nonce)


@pytest.mark.skipif(not RECORDINGS.is_file(), reason="no recorded answers at ../shared/data")
def test_most_recordings_are_worth_keeping_and_the_rest_has_many_reasons() -> None:
    foretold = [parameter.values[0].foretold for parameter in recordings()]
    assert foretold.count("kept") > 0.8 * len(foretold)
    assert {"forwarded", "bypass side_effect", "unkept incomplete", "unkept length", "unkept empty"} <= set(foretold)
