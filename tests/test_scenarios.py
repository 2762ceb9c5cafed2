"""What a client sees of the cache, call by call: played against a real proxy in front of the scripted provider.

Ids are stable and never used again for something else. Add the row before the code.
"""

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import brotli
import pytest
import zstandard

from proxy.model import Reason, Unkept
from tests import answers, raw_client
from tests.answers import DONE, EVENTS, JSON
from tests.observation import counted, stats, wait_for_stats
from tests.proxy_process import ProxyProcess
from tests.raw_client import Ending, Framing, Headers, RawAnswer, RawConnection
from tests.scenario import CHAT, FORWARDED, NONCE, Ask, Scenario, events, identities, play
from tests.scripted_provider import End, Gate, Pause, Script, ScriptedProvider, steps

pytestmark = pytest.mark.proxy_only

COLD: Mapping[str, object] = {
    "model": "gpt-4o-mini",
    "messages": [{"role": "user", "content": f"Say {NONCE}."}],
    "temperature": 0,
}
WARM = {name: value for name, value in COLD.items() if name != "temperature"}
TEXT = b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"Say NONCE."}],%s}'
RESPONSE: Mapping[str, object] = {"model": "gpt-4o-mini", "input": f"Say {NONCE}.", "temperature": 0}
MESSAGE: Mapping[str, object] = {**COLD, "max_tokens": 100}
COMPLETION: Mapping[str, object] = {"model": "babbage-002", "prompt": f"Say {NONCE}", "temperature": 0}
EMBEDDING: Mapping[str, object] = {"model": "text-embedding-3-small", "input": NONCE}

MISS, HIT = "MISS not_found", "HIT found"
TRANSCODED = "HIT transcoded"
ONCE: Mapping[str, Any] = {"labels": (MISS, HIT), "fetches": 1}
TWICE: Mapping[str, Any] = {"labels": (MISS, MISS), "fetches": 2}


def bypassed(reason: str, calls: int = 2) -> dict[str, Any]:
    """What is expected of *calls* calls that all pass by the cache."""
    return {"labels": (f"BYPASS {reason}",) * calls, "fetches": calls}


def on(path: str, body: Mapping[str, object], **more: Any) -> Ask:
    """A request to another path."""
    return Ask(path=path, body=body, **more)


def cold(*headers: tuple[str, str], **more: Any) -> Ask:
    """The usual request, with further header fields."""
    return Ask(body=COLD, headers=headers, **more)


def rows(table: Mapping[str, Mapping[str, object]]) -> Iterable[tuple[str, Mapping[str, object]]]:
    """The rows of a small table: a name, and the fields that it adds."""
    return table.items()


def json_answer(body: bytes, *fields: tuple[str, str], status: int = 200) -> bytes:
    """A scripted JSON answer with further header fields."""
    return answers.whole(body, (*JSON, *fields), status=status)


def stream_answer(*pieces: bytes) -> bytes:
    """A scripted event stream, a chunk for each piece."""
    return answers.chunked_head(EVENTS) + b"".join(map(answers.chunk, pieces)) + answers.LAST_CHUNK


GOOD = answers.chat_body("A good answer.")
VECTORS = b'{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.5,-0.5]}],"model":"m"}'
WORDS = answers.chat_events(["A ", "good ", "answer."])
CODERS: Mapping[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": lambda body: zstandard.ZstdCompressor().compress(body),
}
WITH_USAGE = {"stream": True, "stream_options": {"include_usage": True}}
STREAM = {**COLD, "stream": True}
STREAM_USAGE = {**COLD, **WITH_USAGE}


def temperature_gate() -> Iterator[Scenario]:
    """DESIGN 5: exactly zero is repeatable, silence is not zero."""
    for name, spelled in {
        "0": b"0",
        "0.0": b"0.0",
        "minus-0": b"-0",
        "minus-0.0": b"-0.0",
        "0e0": b"0e0",
        "0.000": b"0.000",
        "0E-7": b"0E-7",
    }.items():
        body = TEXT % (b'"temperature":' + spelled)
        yield Scenario(id=f"temperature-{name}-is-zero", calls=(Ask(body=body), Ask(body=body)), **ONCE)
        yield Scenario(
            id=f"temperature-{name}-is-the-same-as-0",
            calls=(Ask(body=TEXT % b'"temperature":0'), Ask(body=body)),
            **ONCE,
        )
    strange: Mapping[str, object] = {
        "null": None,
        "false": False,
        "true": True,
        "text-0": "0",
        "empty-text": "",
        "1e-9": 1e-9,
        "minus-1": -1,
        "1": 1,
        "list": [0],
        "object": {},
    }
    for name, given in strange.items():
        asked = {**COLD, "temperature": given}
        yield Scenario(id=f"temperature-{name}-is-not-zero", calls=(asked, asked), **bypassed("temperature"))
    yield Scenario(id="temperature-absent-is-one", calls=(WARM, WARM), **bypassed("temperature"))
    # The smallest double that is not zero is not zero, and what is smaller is no double.
    tiny, absurd = (Ask(body=TEXT % (b'"temperature":' + spelled)) for spelled in (b"5e-324", b"1e-400"))
    yield Scenario(id="temperature-5e-324-is-not-zero", calls=(tiny, tiny), **bypassed("temperature"))
    yield Scenario(id="temperature-1e-400-is-absurd", calls=(absurd, absurd), **bypassed("absurd_number"))
    yield Scenario(
        id="temperature-1-does-not-read-what-0-kept",
        calls=(COLD, {**COLD, "temperature": 1}, COLD),
        labels=(MISS, "BYPASS temperature", HIT),
        fetches=2,
    )
    some: Mapping[str, object] = {**EMBEDDING, "input": [NONCE, f"more of {NONCE}"]}
    yield Scenario(
        id="some-inputs-of-an-embeddings-request-are-kept",
        calls=(on("/v1/embeddings", EMBEDDING), on("/v1/embeddings", some), on("/v1/embeddings", some)),
        labels=(MISS, "MISS partly_found", HIT),
        fetches=2,
    )
    yield Scenario(
        id="embeddings-need-no-temperature",
        calls=(on("/v1/embeddings", EMBEDDING), on("/v1/embeddings", EMBEDDING)),
        **ONCE,
    )


def widened_gate() -> Iterator[Scenario]:
    """DESIGN 5: what the operator may let in."""
    seeded = {"cache.when": "seeded"}
    warm = {**WARM, "temperature": 1}
    yield Scenario(id="seeded-with-a-seed", settings=seeded, calls=({**warm, "seed": 7}, {**warm, "seed": 7}), **ONCE)
    yield Scenario(
        id="seeded-with-a-seed-and-no-temperature", settings=seeded, calls=({**WARM, "seed": 0},) * 2, **ONCE
    )
    yield Scenario(
        id="seeded-with-another-seed", settings=seeded, calls=({**warm, "seed": 7}, {**warm, "seed": 8}), **TWICE
    )
    yield Scenario(id="seeded-at-temperature-0", settings=seeded, calls=(COLD, COLD), **ONCE)
    for name, seed in {"null": None, "text": "7", "true": True, "fraction": 1.5, "list": [7]}.items():
        body = {**warm, "seed": seed}
        yield Scenario(id=f"seeded-with-seed-{name}", settings=seeded, calls=(body, body), **bypassed("temperature"))
    yield Scenario(id="seeded-without-a-seed", settings=seeded, calls=(warm, warm), **bypassed("temperature"))
    yield Scenario(
        id="a-seed-alone-is-not-enough-by-default", calls=({**warm, "seed": 7},) * 2, **bypassed("temperature")
    )
    always = {"cache.when": "always"}
    yield Scenario(id="always-without-temperature", settings=always, calls=(WARM, WARM), **ONCE)
    yield Scenario(id="always-at-temperature-1", settings=always, calls=(warm, warm), **ONCE)
    yield Scenario(
        id="always-keeps-temperatures-apart", settings=always, calls=(warm, {**warm, "temperature": 2}), **TWICE
    )
    yield Scenario(
        id="always-but-no-store", settings=always, calls=({**WARM, "store": True},) * 2, **bypassed("side_effect")
    )
    by_model = {"cache.when_by_model": '{"o1*": always, "gpt-4o-mini": seeded, "gpt-*": always}'}
    thinker = {**WARM, "model": "o1-preview"}
    yield Scenario(id="by-model-the-pattern-lets-in", settings=by_model, calls=(thinker, thinker), **ONCE)
    yield Scenario(
        id="by-model-the-first-pattern-counts", settings=by_model, calls=(warm, warm), **bypassed("temperature")
    )
    yield Scenario(
        id="by-model-a-later-pattern-counts", settings=by_model, calls=({**warm, "model": "gpt-5"},) * 2, **ONCE
    )
    other = {**warm, "model": "llama-3"}
    yield Scenario(
        id="by-model-others-keep-the-rule", settings=by_model, calls=(other, other), **bypassed("temperature")
    )
    yield Scenario(
        id="by-model-letter-case-counts",
        settings=by_model,
        calls=({**WARM, "model": "O1-x"},) * 2,
        **bypassed("temperature"),
    )
    yield Scenario(
        id="the-cache-switched-off", settings={"cache.enabled": "false"}, calls=(COLD, COLD), **bypassed("cache_off")
    )


def request_controls() -> Iterator[Scenario]:
    """DESIGN 9: what one request may ask."""
    again = "MISS no_cache"
    for name, fields in {
        "no-cache": (("Cache-Control", "no-cache"),),
        "no-cache-in-capitals": (("CACHE-CONTROL", "No-Cache"),),
        "no-cache-among-others": (("Cache-Control", "foo, max-age=100 , no-cache"),),
        "no-cache-on-a-second-line": (("Cache-Control", "max-age=100"), ("Cache-Control", "no-cache")),
        "max-age-0": (("Cache-Control", "max-age=0"),),
        "max-age-0-quoted": (("Cache-Control", 'max-age="0"'),),
        "pragma-no-cache": (("Pragma", "no-cache"),),
    }.items():
        yield Scenario(id=f"{name}-asks-again", calls=(COLD, cold(*fields)), labels=(MISS, again), fetches=2)
    yield Scenario(
        id="no-cache-replaces-what-was-kept",
        calls=(COLD, cold(("Cache-Control", "no-cache")), COLD),
        labels=(MISS, again, HIT),
        fetches=2,
    )
    yield Scenario(
        id="no-cache-at-first-is-kept",
        calls=(cold(("Cache-Control", "no-cache")), COLD),
        labels=(again, HIT),
        fetches=1,
    )
    yield Scenario(
        id="pragma-yields-to-cache-control",
        calls=(COLD, cold(("Pragma", "no-cache"), ("Cache-Control", "max-age=100"))),
        **ONCE,
    )
    for name, value in {
        "large": "max-age=3600",
        "not-a-number": "max-age=soon",
        "negative": "max-age=-1",
        "empty": "max-age=",
        "huge": "max-age=99999999999999999999",
        "none": "private, must-revalidate",
        "hostile": "no-cachet, ,,;=, no_cache",
    }.items():
        yield Scenario(id=f"max-age-{name}-is-answered", calls=(COLD, cold(("Cache-Control", value))), **ONCE)
    yield Scenario(
        id="max-age-1-is-too-old-after-a-second",
        calls=(COLD, cold(("Cache-Control", "max-age=1"), after_s=1.1), COLD),
        labels=(MISS, "MISS too_old", HIT),
        fetches=2,
    )
    no_store = ("Cache-Control", "no-store")
    yield Scenario(
        id="no-store-keeps-nothing", calls=(cold(no_store), COLD), labels=("BYPASS no_store", MISS), fetches=2
    )
    yield Scenario(
        id="no-store-reads-nothing-and-removes-nothing",
        calls=(COLD, cold(no_store), COLD),
        labels=(MISS, "BYPASS no_store", HIT),
        fetches=2,
    )
    only = ("Cache-Control", "only-if-cached")
    yield Scenario(id="only-if-cached-and-it-is-not", calls=(cold(only),), labels=("ERROR not_cached",), fetches=0)
    yield Scenario(id="only-if-cached-and-it-is", calls=(COLD, cold(only)), **ONCE)
    yield Scenario(
        id="only-if-cached-never-asks-for-what-is-not-cacheable",
        calls=(Ask(body=WARM, headers=(only,)),),
        labels=("ERROR not_cached",),
        fetches=0,
    )
    yield Scenario(
        id="only-if-cached-and-too-old",
        calls=(COLD, cold(("Cache-Control", "only-if-cached, max-age=1"), after_s=1.1)),
        labels=(MISS, "ERROR not_cached"),
        fetches=1,
    )
    yield Scenario(
        id="only-if-cached-in-another-form",
        calls=(STREAM, cold(only)),
        labels=(MISS, "ERROR not_cached"),
        fetches=1,
    )
    opt_in, opt_out = ("x-askonce-cache", "on"), ("X-AskOnce-Cache", " OFF ")
    yield Scenario(id="a-request-opts-in", calls=(Ask(body=WARM, headers=(opt_in,)),) * 2, **ONCE)
    yield Scenario(
        id="opting-in-is-for-one-request",
        calls=(Ask(body=WARM, headers=(opt_in,)), WARM),
        labels=(MISS, "BYPASS temperature"),
        fetches=2,
    )
    yield Scenario(
        id="opting-in-is-no-way-around-a-side-effect",
        calls=(Ask(body={**COLD, "store": True}, headers=(opt_in,)),) * 2,
        **bypassed("side_effect"),
    )
    yield Scenario(
        id="a-request-opts-out",
        calls=(COLD, cold(opt_out), COLD),
        labels=(MISS, "BYPASS cache_off", HIT),
        fetches=2,
    )
    yield Scenario(id="an-unknown-option-changes-nothing", calls=(COLD, cold(("x-askonce-cache", "maybe"))), **ONCE)
    yield Scenario(
        id="a-ttl-of-one-second",
        calls=(cold(("x-askonce-ttl", "1")), COLD, Ask(body=COLD, after_s=1.1)),
        labels=(MISS, HIT, MISS),
        fetches=2,
    )
    yield Scenario(
        id="a-ttl-of-zero-keeps-nothing",
        calls=(cold(("x-askonce-ttl", "0")), COLD),
        unkept=("forbidden",),
        **TWICE,
    )
    yield Scenario(id="a-ttl-that-is-none-changes-nothing", calls=(cold(("x-askonce-ttl", "soon")), COLD), **ONCE)
    yield Scenario(
        id="a-ttl-of-zero-by-setting",
        settings={"cache.ttl_s": "0"},
        calls=(COLD, COLD),
        unkept=("forbidden", "forbidden"),
        **TWICE,
    )
    yield Scenario(
        id="a-ttl-by-setting",
        settings={"cache.ttl_s": "1"},
        calls=(COLD, COLD, Ask(body=COLD, after_s=1.1)),
        labels=(MISS, HIT, MISS),
        fetches=2,
    )
    one, two = ("x-askonce-namespace", "one"), ("x-askonce-namespace", "two")
    yield Scenario(
        id="namespaces-keep-apart",
        calls=(COLD, cold(one), cold(two), cold(one), cold(two), COLD),
        labels=(MISS, MISS, MISS, HIT, HIT, HIT),
        fetches=3,
    )
    yield Scenario(
        id="a-namespace-does-not-cross-tenants",
        calls=(cold(one), cold(one, key=("Authorization", "Bearer sk-other"))),
        **TWICE,
    )
    yield Scenario(id="a-tag-changes-nothing", calls=(COLD, cold(("x-askonce-tag", "nightly"))), **ONCE)


def forms() -> Iterator[Scenario]:
    """DESIGN 8: one entry serves both forms, where nothing has to be invented."""
    yield Scenario(id="stream-then-stream", calls=(STREAM, STREAM), **ONCE)
    yield Scenario(id="whole-then-stream", calls=(COLD, STREAM), labels=(MISS, TRANSCODED), fetches=1)
    yield Scenario(id="whole-then-stream-with-usage", calls=(COLD, STREAM_USAGE), labels=(MISS, TRANSCODED), fetches=1)
    yield Scenario(
        id="stream-without-usage-then-whole",
        calls=(STREAM, COLD, COLD, STREAM),
        labels=(MISS, "MISS other_form", HIT, TRANSCODED),
        fetches=2,
    )
    yield Scenario(id="stream-with-usage-then-whole", calls=(STREAM_USAGE, COLD), labels=(MISS, TRANSCODED), fetches=1)
    yield Scenario(
        id="stream-with-usage-then-without", calls=(STREAM_USAGE, STREAM), labels=(MISS, TRANSCODED), fetches=1
    )
    yield Scenario(
        id="stream-without-usage-then-with",
        calls=(STREAM, STREAM_USAGE),
        labels=(MISS, "MISS other_form"),
        fetches=2,
    )
    for name, value in {"false": False, "null": None}.items():
        yield Scenario(id=f"stream-{name}-is-whole", calls=(COLD, {**COLD, "stream": value}), **ONCE)
    for name, options in {
        "null": None,
        "empty": {},
        "usage-false": {"include_usage": False},
        "obfuscation-true": {"include_obfuscation": True},
    }.items():
        yield Scenario(
            id=f"stream-options-{name}-are-the-default",
            calls=(STREAM, {**STREAM, "stream_options": options}),
            **ONCE,
        )
    odd: Mapping[str, object] = {
        "unknown": {"include_smell": True},
        "usage-text": {"include_usage": "yes"},
        "list": ["include_usage"],
    }
    for name, given in odd.items():
        yield Scenario(
            id=f"stream-options-{name}-separate-forms",
            calls=(STREAM, {**STREAM, "stream_options": given}),
            labels=(MISS, "MISS other_form"),
            fetches=2,
        )
    yield Scenario(
        id="stream-that-is-no-boolean-separates-forms",
        plays=(json_answer(GOOD),),
        calls=(COLD, {**COLD, "stream": "yes"}),
        labels=(MISS, "MISS other_form"),
        fetches=2,
    )
    unpadded = {**STREAM, "stream_options": {"include_obfuscation": False}}
    padded = [json.loads(word.removeprefix(b"data: ")) | {"obfuscation": "x7Kp"} for word in WORDS]
    yield Scenario(
        id="padding-is-taken-off",
        plays=(stream_answer(*map(answers.event, padded), DONE),),
        calls=(STREAM, unpadded),
        labels=(MISS, TRANSCODED),
        fetches=1,
    )
    yield Scenario(id="padding-is-not-invented", calls=(unpadded, STREAM), labels=(MISS, "MISS other_form"), fetches=2)
    for name, path, body in (
        ("responses", "/v1/responses", RESPONSE),
        ("messages", "/v1/messages", MESSAGE),
    ):
        whole, stream = on(path, body), on(path, {**body, "stream": True})
        yield Scenario(id=f"{name}-whole", calls=(whole, whole), **ONCE)
        yield Scenario(id=f"{name}-stream", calls=(stream, stream), **ONCE)
        yield Scenario(id=f"{name}-stream-then-whole", calls=(stream, whole), labels=(MISS, TRANSCODED), fetches=1)
        yield Scenario(id=f"{name}-whole-then-stream", calls=(whole, stream), labels=(MISS, TRANSCODED), fetches=1)
    whole, stream = on("/v1/completions", COMPLETION), on("/v1/completions", {**COMPLETION, "stream": True})
    yield Scenario(id="completions-whole", calls=(whole, whole), **ONCE)
    yield Scenario(id="completions-whole-then-stream", calls=(whole, stream), labels=(MISS, TRANSCODED), fetches=1)
    yield Scenario(
        id="completions-stream-then-whole", calls=(stream, whole), labels=(MISS, "MISS other_form"), fetches=2
    )


def encodings() -> Iterator[Scenario]:
    """C10 and M15: nobody gets a coding that they did not ask for."""
    for coding, encode in CODERS.items():
        coded = (json_answer(encode(GOOD), ("Content-Encoding", coding)),)
        takes = ("Accept-Encoding", f"identity, {coding};q=0.5")
        yield Scenario(id=f"{coding}-for-who-takes-it", plays=coded, calls=(cold(takes), cold(takes)), **ONCE)
        yield Scenario(
            id=f"{coding}-for-who-takes-anything",
            plays=coded,
            calls=(cold(takes), cold(("Accept-Encoding", "*"))),
            **ONCE,
        )
        for name, fields in {
            "nothing": (),
            "only-identity": (("Accept-Encoding", "identity"),),
            "another": (("Accept-Encoding", "compress, x-other"),),
            "an-empty-list": (("Accept-Encoding", ""),),
            "anything-but-it": (("Accept-Encoding", f"{coding};q=0, *"),),
            "none-of-it": (("Accept-Encoding", f"{coding}; q=0.000"),),
        }.items():
            yield Scenario(id=f"{coding}-for-who-takes-{name}", plays=coded, calls=(cold(takes), cold(*fields)), **ONCE)
        refusing = ("Accept-Encoding", "identity;q=0, x-other")
        yield Scenario(
            id=f"{coding}-for-who-takes-neither-it-nor-identity",
            plays=coded,
            calls=(cold(takes), cold(refusing)),
            labels=(MISS, "MISS other_encoding"),
            fetches=2,
        )
        yield Scenario(
            id=f"{coding}-stream-transcoded",
            plays=(answers.chunked(encode(b"".join([*WORDS, DONE])), (*EVENTS, ("Content-Encoding", coding))),),
            calls=(Ask(body=STREAM, headers=(takes,)),) * 2,
            **ONCE,
        )
    coded_whole = json_answer(gzip.compress(GOOD), ("Content-Encoding", "gzip"))
    yield Scenario(
        id="an-encoded-whole-as-a-stream",
        plays=(coded_whole,),
        calls=(cold(("Accept-Encoding", "gzip")), Ask(body=STREAM, headers=(("Accept-Encoding", "gzip"),))),
        labels=(MISS, TRANSCODED),
        fetches=1,
    )
    whole, stream = (Ask(body=body, headers=(("Accept-Encoding", "gzip, *;q=0"),)) for body in (COLD, STREAM))
    yield Scenario(
        id="an-encoded-whole-as-a-stream-for-who-refuses-everything-else",
        plays=(coded_whole, stream_answer(*WORDS, DONE)),
        calls=(whole, whole, stream),
        labels=(MISS, HIT, "MISS other_encoding"),
        fetches=2,
    )
    yield Scenario(
        id="not-encoded-for-who-refuses-identity",
        calls=(COLD, cold(("Accept-Encoding", "identity;q=0, gzip"))),
        **ONCE,
    )


def vary() -> Iterator[Scenario]:
    """DESIGN 4: request header fields that the answer names join the key."""

    def varying(*names: str) -> tuple[bytes, ...]:
        fields = [("Vary", name) for name in names]
        return tuple(json_answer(answers.chat_body(f"Answer {number}.", number=number), *fields) for number in range(9))

    here, there = ("Origin", "https://here.example"), ("Origin", "https://there.example")
    yield Scenario(
        id="vary-origin",
        plays=varying("Origin"),
        calls=(cold(here), cold(here), cold(there), cold(there), cold(here), COLD, COLD),
        labels=(MISS, HIT, MISS, HIT, HIT, MISS, HIT),
        fetches=3,
        alone=True,
    )
    yield Scenario(
        id="vary-in-odd-letters-and-on-two-lines",
        plays=varying("ORIGIN , accept-encoding", "x-Mood"),
        calls=(cold(here, ("X-mood", "1")), cold(here, ("x-mood", "1")), cold(here, ("x-mood", "2")), cold(there)),
        labels=(MISS, HIT, MISS, MISS),
        fetches=3,
        alone=True,
    )
    yield Scenario(
        id="vary-accept-encoding-alone-is-handled-by-decoding",
        plays=varying("Accept-Encoding"),
        calls=(cold(("Accept-Encoding", "gzip")), cold(("Accept-Encoding", "br")), COLD),
        labels=(MISS, HIT, HIT),
        fetches=1,
    )
    yield Scenario(
        id="vary-star-is-not-kept", plays=varying("*"), calls=(COLD, COLD), unkept=("varies", "varies"), **TWICE
    )
    yield Scenario(
        id="vary-by-more-than-can-be-followed",
        plays=varying(", ".join(f"x-{number}" for number in range(17))),
        calls=(COLD, COLD),
        unkept=("varies", "varies"),
        **TWICE,
    )


def tenants() -> Iterator[Scenario]:
    """DESIGN 4: nobody sees another's answer unless the operator shared the cache."""
    one, two = ("Authorization", "Bearer sk-one"), ("Authorization", "Bearer sk-two")
    by_one, by_two = Ask(body=COLD, key=one), Ask(body=COLD, key=two)
    keeps_apart: Mapping[str, Any] = {"labels": (MISS, MISS, HIT, HIT), "fetches": 2}
    for name, settings in {"by-default": {}, "by-setting": {"cache.share": "credential"}}.items():
        yield Scenario(
            id=f"credentials-keep-apart-{name}",
            settings=settings,
            calls=(by_one, by_two, by_one, by_two),
            **keeps_apart,
        )
    for field in ("api-key", "x-api-key"):
        keyed = [Ask(body=COLD, key=(field, secret)) for secret in ("sk-one", "sk-two")]
        yield Scenario(id=f"{field}-keeps-apart", calls=(*keyed, *keyed), **keeps_apart)
    yield Scenario(
        id="the-same-secret-in-another-field-is-another-credential",
        calls=(Ask(body=COLD, key=("api-key", "sk")), Ask(body=COLD, key=("x-api-key", "sk"))),
        **TWICE,
    )
    yield Scenario(
        id="a-second-credential-counts-too",
        calls=(by_one, Ask(body=COLD, key=one, headers=(("api-key", "x"),))),
        **TWICE,
    )
    yield Scenario(id="no-credential-is-a-tenant-too", calls=(Ask(body=COLD, key=None), by_one), **TWICE)
    everyone = {"cache.share": "everyone"}
    yield Scenario(
        id="shared-by-everyone",
        settings=everyone,
        calls=(by_one, by_two, Ask(body=COLD, key=None)),
        labels=(MISS, HIT, HIT),
        fetches=1,
    )
    yield Scenario(
        id="shared-but-organizations-keep-apart",
        settings=everyone,
        calls=(by_one, Ask(body=COLD, key=two, headers=(("OpenAI-Organization", "org-2"),))),
        **TWICE,
    )
    red, blue = ("X-Team", "red"), ("X-Team", "blue")
    asks = {
        name: Ask(body=COLD, key=key, headers=fields)
        for name, key, fields in (
            ("one-red", one, (red,)),
            ("two-red", two, (red,)),
            ("one-blue", one, (blue,)),
            ("one", one, ()),
            ("two", two, ()),
        )
    }
    by_team = {"cache.share": "header:X-Team"}
    trusted = {**by_team, "server.trusted_proxies": "[127.0.0.0/8]"}
    yield Scenario(
        id="a-team-named-by-the-client-itself-joins-nobody",
        settings=by_team,
        calls=(asks["one-red"], asks["two-red"], asks["one-blue"], asks["one-red"]),
        labels=(MISS, MISS, MISS, HIT),
        fetches=3,
    )
    yield Scenario(
        id="a-team-named-by-a-trusted-proxy-is-shared",
        settings=trusted,
        calls=(asks["one-red"], asks["two-red"], asks["one-blue"]),
        labels=(MISS, HIT, MISS),
        fetches=2,
    )
    yield Scenario(
        id="a-trusted-proxy-that-names-no-team",
        settings=trusted,
        calls=(asks["one"], asks["two"], asks["one"]),
        labels=(MISS, MISS, HIT),
        fetches=2,
    )
    yield Scenario(
        id="a-proxy-elsewhere-is-not-trusted",
        settings={**by_team, "server.trusted_proxies": "[10.0.0.0/8]"},
        calls=(asks["one-red"], asks["two-red"]),
        **TWICE,
    )


def left_out() -> Iterator[Scenario]:
    """DESIGN 4: what is left out of the key by name, and that nothing else is."""
    cosmetic: Mapping[str, tuple[object, object]] = {
        "prompt_cache_key": ("a", "b"),
        "prompt_cache_retention": ("24h", "in_memory"),
        "prompt_cache_options": ({"a": 1}, {"a": 2}),
        "service_tier": ("flex", "priority"),
        "user": ("alice", "bob"),
        "safety_identifier": ("a", "b"),
        "metadata": ({"job": "1"}, {"job": "2"}),
    }
    for path, body in ((CHAT, COLD), ("/v1/completions", COMPLETION)):
        for name, (first, second) in cosmetic.items():
            yield Scenario(
                id=f"{name}-is-left-out-of-{path.removeprefix('/v1/').replace('/', '-')}",
                calls=(on(path, body), on(path, {**body, name: first}), on(path, {**body, name: second})),
                labels=(MISS, HIT, HIT),
                fetches=1,
            )
    for name in ("user", "safety_identifier", "metadata"):
        first, second = cosmetic[name]
        yield Scenario(
            id=f"{name}-counts-in-responses-that-echo-it",
            calls=tuple(on("/v1/responses", {**RESPONSE, name: value}) for value in (first, second)),
            **TWICE,
        )
    for path, body in (("/v1/responses", RESPONSE), ("/v1/messages", MESSAGE)):
        yield Scenario(
            id=f"service_tier-is-left-out-of-{path.removeprefix('/v1/')}",
            calls=(on(path, body), on(path, {**body, "service_tier": "flex"})),
            **ONCE,
        )
    yield Scenario(
        id="the-same-names-deeper-down-count",
        calls=({**COLD, "tool_choice": {"user": "a"}}, {**COLD, "tool_choice": {"user": "b"}}),
        **TWICE,
    )


def identity() -> Iterator[Scenario]:
    """DESIGN 4: every field, known or invented, separates; no respelling does."""
    fields: Mapping[str, tuple[object, object]] = {
        "model": ("gpt-4o-mini", "gpt-4o"),
        "a-parameter-we-do-not-know": (1, 2),
        "min_p": (0.1, 0.9),
        "top_p": (0.5, 0.6),
        "seed": (1, 2),
        "n": (1, 2),
        "max_tokens": (10, 11),
        "stop": (["a"], ["a", "b"]),
        "tools": ([], [{"type": "function", "function": {"name": "f"}}]),
        "response_format": ({"type": "text"}, {"type": "json_object"}),
        "logit_bias": ({"50256": -100}, {"50256": 100}),
        "logprobs": (True, False),
        "reasoning_effort": ("low", "high"),
        "provider": ({"order": ["a", "b"]}, {"order": ["b", "a"]}),
        "cache": ({"no-cache": True}, {"no-cache": False}),
        "true-and-1": (True, 1),
        "null-and-false": (None, False),
        "0-and-text-0": (0, "0"),
        "empty-object-and-list": ({}, []),
        "letter-case": ("Yes", "yes"),
        "trailing-space": ("yes", "yes "),
        "unicode-normal-forms": ("\u00e9", "e\u0301"),
        "beyond-a-double": (9007199254740993, 9007199254740992),
        "next-double": (0.1, 0.10000000000000002),
    }
    for name, (first, second) in fields.items():
        key = name.replace("-", "_")
        yield Scenario(
            id=f"{name}-keeps-calls-apart",
            calls=({**COLD, key: first}, {**COLD, key: second}, {**COLD, key: first}),
            labels=(MISS, MISS, HIT),
            fetches=2,
        )
    yield Scenario(id="null-is-not-absent", calls=(COLD, {**COLD, "top_p": None}), **TWICE)
    said = [{"role": "user", "content": NONCE}, {"role": "assistant", "content": "yes"}]
    yield Scenario(
        id="the-order-of-messages-counts",
        calls=({**COLD, "messages": said}, {**COLD, "messages": said[::-1]}),
        **TWICE,
    )
    yield Scenario(
        id="parts-do-not-run-together",
        calls=({**COLD, "stop": ["ab", "c"]}, {**COLD, "stop": ["a", "bc"]}),
        **TWICE,
    )
    spelled = TEXT % b'"temperature":0,"max_tokens":100,"x":"\\u00e9/"'
    for name, other in {
        "key-order": b'{"x":"\\u00e9/","max_tokens":100,"temperature":0,'
        b'"messages":[{"content":"Say NONCE.","role":"user"}],"model":"gpt-4o-mini"}',
        "white-space": spelled.replace(b",", b" ,\r\n\t").replace(b":", b" : ") + b"\n",
        "escapes": spelled.replace(b"\\u00e9/", "é\\/".encode()).replace(b'"model"', b'"\\u006dodel"'),
        "numbers": spelled.replace(b":100", b":1.00e2"),
    }.items():
        yield Scenario(id=f"respelled-{name}", calls=(Ask(body=spelled), Ask(body=other)), **ONCE)
    for name, value in {
        "OpenAI-Beta": "assistants=v2",
        "OpenAI-Organization": "org-1",
        "OpenAI-Project": "proj-1",
        "anthropic-version": "2023-06-01",
        "anthropic-beta": "files-api",
    }.items():
        yield Scenario(
            id=f"header-{name}-counts",
            calls=(COLD, cold((name, value)), cold((name, value + "x"))),
            labels=(MISS,) * 3,
            fetches=3,
        )
    yield Scenario(
        id="telemetry-does-not-count",
        calls=(
            cold(("User-Agent", "OpenAI/Python 1"), ("x-stainless-retry-count", "0"), ("idempotency-key", "a")),
            cold(("User-Agent", "OpenAI/Python 2"), ("x-stainless-retry-count", "1"), ("idempotency-key", "b")),
            cold(("traceparent", "00-1-2-01"), ("Cookie", "a=b"), ("Accept", "*/*"), ("X-Forwarded-For", "10.0.0.1")),
        ),
        labels=(MISS, HIT, HIT),
        fetches=1,
    )
    yield Scenario(
        id="a-header-that-the-operator-names-counts",
        settings={"cache.key_headers": "[X-Tone]"},
        calls=(COLD, cold(("x-tone", "sad")), cold(("X-TONE", "sad")), COLD),
        labels=(MISS, MISS, HIT, HIT),
        fetches=2,
    )
    yield Scenario(
        id="the-query-counts",
        calls=tuple(Ask(body=COLD, path=CHAT + query) for query in ("", "?", "?a=1", "?a=2", "?a=1")),
        labels=(MISS, MISS, MISS, MISS, HIT),
        fetches=4,
    )
    yield Scenario(id="the-path-counts", calls=(COLD, Ask(body=COLD, path="/chat/completions")), **TWICE)
    deployments = [f"/openai/deployments/{name}/chat/completions?api-version=2024-06-01" for name in ("a", "b")]
    yield Scenario(id="deployments-keep-apart", calls=tuple(Ask(body=COLD, path=path) for path in deployments), **TWICE)


def paths() -> Iterator[Scenario]:
    """DESIGN 3: which paths are cached."""
    bodies = {
        "/chat/completions": COLD,
        "/completions": COMPLETION,
        "/responses": RESPONSE,
        "/embeddings": EMBEDDING,
        "/messages": MESSAGE,
    }
    for suffix, body in bodies.items():
        for prefix in ("", "/v1", "/openai/v1", "/openai/deployments/gpt-4o"):
            ask = on(prefix + suffix, body)
            yield Scenario(id=f"cached-{(prefix + suffix)[1:].replace('/', '-')}", calls=(ask, ask), **ONCE)
    for name, path in {
        "trailing-slash": "/v1/chat/completions/",
        "doubled-slash": "//v1/chat/completions",
        "capitals": "/V1/chat/completions",
        "thread-messages": "/v1/threads/thread_1/messages",
        "one-response": "/v1/responses/resp_1",
        "moderations": "/v1/moderations",
        "images": "/v1/images/generations",
        "speech": "/v1/audio/speech",
        "files": "/v1/files",
        "batches": "/v1/batches",
        "fine-tuning": "/v1/fine_tuning/jobs",
        "escaped": "/v1/chat%2Fcompletions",
        "deployment-of-two-parts": "/openai/deployments/a/b/chat/completions",
        "custom": "/custom/chat",
    }.items():
        yield Scenario(
            id=f"not-cached-{name}", calls=(Ask(body=COLD, path=path),) * 2, labels=(FORWARDED,) * 2, fetches=2
        )
    for method in ("GET", "HEAD", "PUT", "DELETE", "PATCH", "QUERY"):
        asked = Ask(method=method, body=None if method in ("GET", "HEAD") else COLD)
        yield Scenario(
            id=f"{method.lower()}-of-a-cached-path",
            calls=(COLD, asked, COLD),
            labels=(MISS, FORWARDED, HIT),
            fetches=2,
        )
    yield Scenario(
        id="a-path-of-the-operator",
        settings={"cache.more_paths": "{/custom/chat: /chat/completions, /embed: /embeddings}"},
        plays=(json_answer(GOOD), json_answer(VECTORS)),
        calls=(on("/custom/chat", COLD), on("/custom/chat", COLD), on("/embed", EMBEDDING), on("/embed", EMBEDDING)),
        labels=(MISS, HIT, MISS, HIT),
        fetches=2,
    )
    yield Scenario(
        id="a-path-of-the-operator-is-anchored",
        settings={"cache.more_paths": "{/custom/chat: /chat/completions, /embed: /embeddings}"},
        calls=(on("/custom/chat/x", COLD), on("/x/custom/chat", COLD)),
        labels=(FORWARDED, FORWARDED),
        fetches=2,
    )


def side_effects() -> Iterator[Scenario]:
    """DESIGN 5: calls that do more than answer, or depend on what the provider remembers."""
    for name, more in rows(
        {
            "store": {"store": True},
            "web-search-options": {"web_search_options": {}},
            "plugins": {"plugins": [{"id": "web"}]},
            "search-parameters": {"search_parameters": {"mode": "auto"}},
            "data-sources": {"data_sources": [{"type": "azure_search"}]},
            "web-search-tool": {"tools": [{"type": "web_search"}]},
            "tool-yet-to-be-invented": {"tools": [{"type": "teleport"}]},
            "search-model": {"model": "gpt-4o-search-preview"},
        }
    ):
        body = {**COLD, **more}
        yield Scenario(id=f"chat-with-{name}", calls=(body, body), **bypassed("side_effect"))
    for name, more in rows(
        {
            "store-false": {"store": False},
            "function-tools": {"tools": [{"type": "function", "function": {"name": "f"}}]},
            "custom-tools": {"tools": [{"type": "custom", "custom": {"name": "f"}}]},
            "n-2": {"n": 2},
            "json-schema": {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}}},
            "logprobs": {"logprobs": True, "top_logprobs": 2},
        }
    ):
        body = {**COLD, **more}
        yield Scenario(id=f"chat-with-{name}-is-cached", calls=(body, body), **ONCE)
    for name, more in rows(
        {
            "previous-response": {"previous_response_id": "resp_1"},
            "conversation": {"conversation": "conv_1"},
            "conversation-object": {"conversation": {"id": "conv_1"}},
            "background": {"background": True},
            "item-reference": {"input": [{"type": "item_reference", "id": "msg_1"}]},
        }
    ):
        ask = on("/v1/responses", {**RESPONSE, **more})
        yield Scenario(id=f"responses-with-{name}", calls=(ask, ask), **bypassed("stateful"))
    for name in (
        "web_search_preview",
        "file_search",
        "code_interpreter",
        "mcp",
        "image_generation",
        "computer_use_preview",
    ):
        ask = on("/v1/responses", {**RESPONSE, "tools": [{"type": name}]})
        yield Scenario(id=f"responses-with-{name}", calls=(ask, ask), **bypassed("side_effect"))
    for name, more in rows({"stored": {"store": True}, "background-false": {"background": False}}):
        ask = on("/v1/responses", {**RESPONSE, **more})
        yield Scenario(id=f"responses-{name}-is-cached", calls=(ask, ask), **ONCE)
    for name, more in rows(
        {
            "mcp-servers": {"mcp_servers": [{"type": "url", "url": "https://a.example", "name": "a"}]},
            "container": {"container": "cont_1"},
            "web-search": {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        }
    ):
        ask = on("/v1/messages", {**MESSAGE, **more})
        yield Scenario(id=f"messages-with-{name}", calls=(ask, ask), **bypassed("side_effect"))


def bad_bodies() -> Iterator[Scenario]:
    """C14: what cannot be compared by value never shares an entry; the provider says what is wrong with it."""
    for name, (body, reason) in {
        "duplicate-keys": (TEXT % b'"temperature":0,"temperature":0', "duplicate_keys"),
        "duplicate-keys-by-escape": (TEXT % b'"temperature":0,"t\\u0065mperature":0', "duplicate_keys"),
        "duplicate-keys-inside": (TEXT % b'"temperature":0,"x":[{"a":1,"a":1}]', "duplicate_keys"),
        "not-json": (b'{"model":"NONCE","temperature":0', "invalid_json"),
        "two-documents": (TEXT % b'"temperature":0' + b"{}", "invalid_json"),
        "single-quotes": (b"{'temperature':0}", "invalid_json"),
        "trailing-comma": (TEXT % b'"temperature":0,', "invalid_json"),
        "nan": (TEXT % b'"temperature":0,"x":NaN', "invalid_json"),
        "a-list": (b'[{"temperature":0}]', "invalid_json"),
        "a-text": (b'"temperature"', "invalid_json"),
        "null": (b"null", "invalid_json"),
        "empty": (b"", "invalid_json"),
        "bad-utf-8": (TEXT % b'"temperature":0,"x":"\xff"', "invalid_json"),
        "utf-16": ((TEXT % b'"temperature":0').decode().encode("utf-16"), "invalid_json"),
        "byte-order-mark": (b"\xef\xbb\xbf" + TEXT % b'"temperature":0', "invalid_json"),
        "control-character": (TEXT % b'"temperature":0,"x":"\x01"', "invalid_json"),
        "1e999999": (TEXT % b'"temperature":0,"x":1e999999', "absurd_number"),
        "minus-1e999999": (TEXT % b'"temperature":0,"x":-1e999999', "absurd_number"),
        "1e-999999": (TEXT % b'"temperature":0,"x":1e-999999', "absurd_number"),
        "5000-digits": (TEXT % (b'"temperature":0,"x":' + b"9" * 5000), "absurd_number"),
        "deep-lists": (TEXT % (b'"temperature":0,"x":' + b"[" * 100_000 + b"]" * 100_000), "too_deep"),
        "deep-objects": (TEXT % (b'"temperature":0,"x":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000), "too_deep"),
    }.items():
        yield Scenario(id=f"body-{name}", calls=(Ask(body=body), Ask(body=body)), **bypassed(reason))
    yield Scenario(
        id="body-4000-digits-count-to-the-last",
        calls=tuple(Ask(body=TEXT % (b'"temperature":0,"x":' + b"9" * 3999 + last)) for last in (b"1", b"2", b"1")),
        labels=(MISS, MISS, HIT),
        fetches=2,
    )
    yield Scenario(
        id="body-lone-surrogates-count",
        calls=tuple(Ask(body=TEXT % (b'"temperature":0,"x":"\\ud83d%s"' % last)) for last in (b"", b"x", b"")),
        labels=(MISS, MISS, HIT),
        fetches=2,
    )
    coded = answers.compact(COLD)
    for name in ("gzip", "zstd", "x-secret"):
        ask = Ask(body=CODERS.get(name, bytes)(coded), headers=(("Content-Encoding", name),))
        yield Scenario(id=f"body-in-{name}", calls=(ask, ask), **bypassed("encoded_body"))
    yield Scenario(id="body-in-identity", calls=(COLD, cold(("Content-Encoding", "identity"))), **ONCE)
    for name, value in {
        "Range": "bytes=0-9",
        "If-None-Match": '"etag"',
        "If-Match": "*",
        "If-Modified-Since": "Tue, 04 Nov 2025 10:20:30 GMT",
    }.items():
        yield Scenario(
            id=f"conditional-{name.lower()}",
            calls=(COLD, cold((name, value)), COLD),
            labels=(MISS, "BYPASS range", HIT),
            fetches=2,
        )
    small = {"cache.max_body_bytes": "500"}
    large = {**COLD, "x": "y" * 500}
    yield Scenario(id="body-too-large", settings=small, calls=(large, large), **bypassed("body_too_large"))
    yield Scenario(id="body-not-too-large", settings=small, calls=(COLD, COLD), **ONCE)


def worth_keeping() -> Iterator[Scenario]:
    """DESIGN 5: only whole, good answers are kept; /stats says why another was not."""

    def spoilt(
        name: str,
        word: str,
        *played: Script | bytes,
        ask: Ask | Mapping[str, object] = COLD,
        settings: Mapping[str, str] | None = None,
    ) -> Scenario:
        return Scenario(
            id=f"unkept-{name}",
            plays=played,
            calls=(ask, ask),
            unkept=(word, word),
            settings=settings or {},
            labels=(MISS, MISS),
            fetches=2,
        )

    error = b'{"error":{"message":"no","type":"server_error","param":null,"code":null}}'
    for status in (201, 400, 401, 403, 404, 408, 409, 422, 429, 500, 502, 503, 529):
        yield spoilt(f"status-{status}", "status", json_answer(error, status=status))
    yield spoilt("error-in-a-200", "error_inside", json_answer(error))
    yield spoilt("not-json", "unreadable", json_answer(b'{"choices":['))
    yield spoilt("not-an-object", "unreadable", json_answer(b'"yes"'))
    yield spoilt("html", "unreadable", answers.whole(b"<html>", (("Content-Type", "text/html"),)))
    yield spoilt("plain-text", "unreadable", answers.whole(GOOD, (("Content-Type", "text/plain"),)))
    yield spoilt("a-stream-nobody-asked-for", "unreadable", stream_answer(*WORDS, DONE))
    yield spoilt("no-stream-where-one-was-asked-for", "unreadable", json_answer(GOOD), ask=STREAM)
    yield spoilt("unknown-coding", "unreadable", json_answer(GOOD, ("Content-Encoding", "snappy")))
    yield spoilt("two-codings", "unreadable", json_answer(GOOD, ("Content-Encoding", "gzip, br")))
    yield spoilt("damaged-gzip", "unreadable", json_answer(gzip.compress(GOOD)[:-9], ("Content-Encoding", "gzip")))
    yield spoilt("not-the-coding-it-says", "unreadable", json_answer(GOOD, ("Content-Encoding", "zstd")))
    yield spoilt("empty-body", "empty", json_answer(b""))
    yield spoilt("empty-text", "empty", json_answer(answers.chat_body("")))
    yield spoilt("no-choices", "empty", json_answer(b'{"id":"chatcmpl-1","choices":[]}'))
    yield spoilt("no-finish-reason", "incomplete", json_answer(GOOD.replace(b'"stop"', b"null")))
    yield spoilt("length", "length", json_answer(answers.chat_body("Cut", finish="length")))
    yield spoilt("content-filter", "content_filter", json_answer(answers.chat_body("Cut", finish="content_filter")))
    yield spoilt("stream-without-done", "incomplete", stream_answer(*WORDS), ask=STREAM)
    yield spoilt("stream-without-finish", "incomplete", stream_answer(*WORDS[:-1], DONE), ask=STREAM)
    yield spoilt("stream-of-nothing", "empty", stream_answer(b"\n"), ask=STREAM)
    yield spoilt(
        "stream-with-an-error", "error_inside", stream_answer(WORDS[0], b"data: " + error + b"\n\n", DONE), ask=STREAM
    )
    yield spoilt(
        "stream-with-an-error-event",
        "error_inside",
        stream_answer(*WORDS, b"event: error\ndata: {}\n\n", DONE),
        ask=STREAM,
    )
    cut = answers.chat_events(["Cut"], finish="length")
    yield spoilt("stream-cut-at-length", "length", stream_answer(*cut, DONE), ask=STREAM)
    searched = {
        "id": "resp_1",
        "object": "response",
        "status": "completed",
        "error": None,
        "model": "m",
        "output": [{"type": "web_search_call", "id": "ws_1", "status": "completed"}],
        "usage": {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2},
    }
    yield spoilt(
        "a-server-tool-ran", "side_effect", json_answer(answers.compact(searched)), ask=on("/v1/responses", RESPONSE)
    )
    cut_off = {**searched, "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}, "output": []}
    yield spoilt(
        "responses-in-progress",
        "incomplete",
        json_answer(answers.compact({**cut_off, "status": "in_progress", "output": [{"type": "function_call"}]})),
        ask=on("/v1/responses", RESPONSE),
    )
    yield spoilt(
        "too-large", "too_large", json_answer(answers.chat_body("x" * 3000)), settings={"cache.max_entry_bytes": "2000"}
    )
    yield spoilt(
        "no-room-in-the-store",
        "cache_fault",
        json_answer(answers.chat_body("x" * 5000)),
        settings={"store.max_bytes": "4096"},
    )
    yield Scenario(
        id="a-provider-that-hangs-up",
        plays=(steps(End.CLOSE),),
        calls=(COLD, COLD),
        labels=("ERROR upstream_broke",) * 2,
        fetches=2,
        unkept=("broke_off", "broke_off"),
    )
    yield Scenario(
        id="a-provider-that-is-no-web-server",
        plays=(steps(b"SSH-2.0-x\r\n\r\n", End.CLOSE),),
        calls=(COLD, COLD),
        labels=("ERROR upstream_garbled",) * 2,
        fetches=2,
        unkept=("broke_off", "broke_off"),
    )
    yield Scenario(
        id="an-error-does-not-replace-what-is-kept",
        plays=(json_answer(GOOD), json_answer(error, status=500)),
        calls=(COLD, cold(("Cache-Control", "no-cache")), COLD),
        labels=(MISS, "MISS no_cache", HIT),
        fetches=2,
        unkept=("status",),
    )
    for name, settings, finish, kept in (
        ("length-by-setting", {"cache.keep_cut_at_length": "true"}, "length", True),
        ("filter-by-setting", {"cache.keep_cut_by_filter": "true"}, "content_filter", True),
        ("length-by-the-other-setting", {"cache.keep_cut_by_filter": "true"}, "length", False),
        ("filter-by-the-other-setting", {"cache.keep_cut_at_length": "true"}, "content_filter", False),
    ):
        yield Scenario(
            id=f"cut-at-{name}",
            settings=settings,
            plays=(json_answer(answers.chat_body("Cut", finish=finish)),),
            calls=(COLD, COLD),
            labels=(MISS, HIT if kept else MISS),
            fetches=1 if kept else 2,
            unkept=() if kept else (finish, finish),
        )
    yield Scenario(
        id="a-cut-that-is-allowed-must-still-be-whole",
        settings={"cache.keep_cut_at_length": "true"},
        plays=(stream_answer(*cut),),
        calls=(STREAM, STREAM),
        unkept=("incomplete", "incomplete"),
        **TWICE,
    )
    forbidding = (json_answer(GOOD, ("Cache-Control", "private, No-Store")),)
    yield Scenario(id="the-providers-no-store-is-for-browsers", plays=forbidding, calls=(COLD, COLD), **ONCE)
    yield Scenario(
        id="the-providers-no-store-by-setting",
        settings={"cache.respect_no_store": "true"},
        plays=forbidding,
        calls=(COLD, COLD),
        unkept=("forbidden", "forbidden"),
        **TWICE,
    )
    yield Scenario(
        id="content-type-with-parameters-and-suffix",
        plays=(answers.whole(GOOD, (("Content-Type", "Application/vnd.api+JSON; charset=UTF-8"),)),),
        calls=(COLD, COLD),
        **ONCE,
    )


def repeats() -> Iterator[Scenario]:
    """DESIGN 13: octets that were answered before take a short way, and nothing may show it."""
    yield Scenario(id="a-fifth-time", calls=(COLD,) * 5, labels=(MISS, HIT, HIT, HIT, HIT), fetches=1)
    yield Scenario(
        id="a-fifth-time-in-the-other-form",
        calls=(COLD, *(STREAM,) * 4),
        labels=(MISS, *(TRANSCODED,) * 4),
        fetches=1,
    )
    yield Scenario(
        id="repeats-end-when-the-answer-is-refreshed",
        calls=(COLD, COLD, COLD, cold(("Cache-Control", "no-cache")), COLD, COLD),
        labels=(MISS, HIT, HIT, "MISS no_cache", HIT, HIT),
        fetches=2,
    )
    yield Scenario(
        id="repeats-end-when-the-answer-is-kept-in-another-form",
        calls=(COLD, COLD, COLD, {**STREAM, "stream_options": {"x": 1}}, COLD),
        labels=(MISS, HIT, HIT, "MISS other_form", "MISS other_form"),
        fetches=3,
    )
    yield Scenario(
        id="repeats-end-with-the-ttl",
        calls=(*(cold(("x-askonce-ttl", "1")),) * 4, cold(("x-askonce-ttl", "1"), after_s=1.1)),
        labels=(MISS, HIT, HIT, HIT, MISS),
        fetches=2,
    )
    aged = cold(("Cache-Control", "max-age=1"))
    yield Scenario(
        id="repeats-grow-too-old",
        calls=(aged, aged, aged, cold(("Cache-Control", "max-age=1"), after_s=1.1)),
        labels=(MISS, HIT, HIT, "MISS too_old"),
        fetches=2,
    )
    varying = json_answer(GOOD, ("Vary", "Origin"))
    yield Scenario(
        id="repeats-end-when-it-is-learned-what-answers-vary-by",
        plays=(json_answer(GOOD), varying),
        calls=(COLD, COLD, COLD, {**COLD, "top_p": 0.5}, COLD, COLD),
        labels=(MISS, HIT, HIT, MISS, MISS, HIT),
        fetches=3,
        alone=True,
    )
    yield Scenario(
        id="repeats-count-every-octet",
        calls=(COLD, COLD, COLD, Ask(body=COLD, key=("Authorization", "Bearer sk-Scenario")), WARM, COLD),
        labels=(MISS, HIT, HIT, MISS, "BYPASS temperature", HIT),
        fetches=3,
    )
    only = cold(("Cache-Control", "only-if-cached"))
    yield Scenario(
        id="repeats-of-only-if-cached",
        calls=(only, COLD, only, only, only),
        labels=("ERROR not_cached", MISS, HIT, HIT, HIT),
        fetches=1,
    )
    small = {"store.max_bytes": "8000"}
    other = {**COLD, "top_p": 0.5}
    yield Scenario(
        id="repeats-end-with-eviction",
        settings={**small, "store.eviction": "lru"},
        plays=(json_answer(answers.chat_body("x" * 4000)),),
        calls=(COLD, COLD, COLD, other, COLD),
        labels=(MISS, HIT, HIT, MISS, MISS),
        fetches=3,
    )


SCENARIOS = tuple(
    scenario
    for group in (
        temperature_gate,
        widened_gate,
        request_controls,
        forms,
        encodings,
        vary,
        tenants,
        left_out,
        identity,
        paths,
        side_effects,
        bad_bodies,
        worth_keeping,
        repeats,
    )
    for scenario in group()
)

Proxies: TypeAlias = Callable[[Mapping[str, str]], ProxyProcess]


@pytest.fixture(scope="module")
def proxies(provider: ScriptedProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxies]:
    """A proxy for each set of settings, started when first asked for."""
    running: dict[frozenset[tuple[str, str]], ProxyProcess] = {}

    def with_settings(settings: Mapping[str, str]) -> ProxyProcess:
        key = frozenset(settings.items())
        if key not in running:
            log = tmp_path_factory.mktemp("scenarios") / "stderr.log"
            running[key] = ProxyProcess(provider.origin, log, settings=settings)
        return running[key]

    yield with_settings
    for each in running.values():
        each.stop()
    for each in running.values():
        each.assert_calm()


@pytest.fixture
def played(provider: ScriptedProvider, proxies: Proxies, nonce: str, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """A function that plays a scenario against the proxy that it wants."""

    def run(scenario: Scenario) -> list[RawAnswer]:
        if not scenario.alone:
            return play(scenario, provider, proxies(scenario.settings), nonce)
        with ProxyProcess(provider.origin, tmp_path / "stderr.log", settings=scenario.settings) as own:
            return play(scenario, provider, own, nonce)

    yield run
    provider.forget(nonce)


Played: TypeAlias = Callable[[Scenario], list[RawAnswer]]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.id)
def test_scenario(played: Played, scenario: Scenario) -> None:
    played(scenario)


def test_the_table_names_no_row_twice() -> None:
    ids = [scenario.id for scenario in SCENARIOS]
    assert len(set(ids)) == len(ids)


def test_the_table_has_every_reason_not_to_keep_an_answer() -> None:
    # Shown by a test of its own below: it takes a client that leaves.
    elsewhere = {Unkept.ABANDONED}
    assert {word for scenario in SCENARIOS for word in scenario.unkept} == set(Unkept) - elsewhere


def test_the_table_has_every_reason_that_a_client_can_cause() -> None:
    labelled = {label.partition(" ")[2] for scenario in SCENARIOS for label in scenario.labels if label != FORWARDED}
    # Two clients at once, a slow one, no provider at all, a broken store, a fault of our own, two questions of the same
    # meaning, answers past their end, keys that the proxy issues or holds: each has its own tests.
    elsewhere = {
        Reason.IN_FLIGHT,
        Reason.LAGGED,
        Reason.UPSTREAM_UNREACHABLE,
        Reason.CACHE_FAULT,
        Reason.INTERNAL,
        Reason.SIMILAR,
        Reason.STALE_IF_ERROR,
        Reason.STALE_WHILE_REVALIDATE,
        Reason.UNKNOWN_KEY,
        Reason.MODEL_NOT_ALLOWED,
        Reason.BUDGET_SPENT,
        Reason.PROVIDER_KEY,
    }
    assert labelled == {str(reason) for reason in set(Reason) - elsewhere}


TOKEN = re.compile(r"[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*")
KEY_NAME = re.compile(r"[a-z*][a-z0-9_.*-]*")
INTEGER = re.compile(r"-?[0-9]{1,15}")
STRING = re.compile(r'"(?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"')
FORWARD_REASONS = frozenset({"bypass", "method", "uri-miss", "vary-miss", "miss", "request", "stale", "partial"})
CacheStatus: TypeAlias = Mapping[str, "str | int | bool"]


def cache_status(answer: RawAnswer) -> CacheStatus:
    """The parameters of the one member of ``Cache-Status``, read as strictly as RFC 8941 and RFC 9211 allow."""
    (line,) = answer.values("cache-status")
    text = line.decode("ascii")
    name = TOKEN.match(text)
    assert name is not None, text
    assert name[0] == "askonce"
    at = name.end()
    said: dict[str, str | int | bool] = {}
    while at < len(text):
        opening = re.compile(r"; *").match(text, at)
        assert opening is not None, f"{text!r} at {at}"
        key = KEY_NAME.match(text, opening.end())
        assert key is not None, f"{text!r} at {at}"
        assert key[0] not in said, f"{key[0]} twice in {text!r}"
        at = key.end()
        said[key[0]] = True
        if text[at : at + 1] == "=":
            for kind in (INTEGER, STRING, TOKEN):
                if (value := kind.match(text, at + 1)) is not None:
                    said[key[0]] = int(value[0]) if kind is INTEGER else value[0]
                    at = value.end()
                    break
            else:
                raise AssertionError(f"no value in {text!r} at {at}")
    # `semantic` is a parameter of ours (RFC 9211 2 allows others): why no other question's answer was given.
    known = {"hit", "fwd", "fwd-status", "ttl", "stored", "collapsed", "key", "detail", "semantic"}
    assert set(said) <= known, text
    # RFC 9211 2: a response was a hit or it was forwarded, never both.
    assert not ("hit" in said and "fwd" in said), text
    assert said.get("fwd", "miss") in FORWARD_REASONS, text
    assert isinstance(said.get("ttl", 0), int), text
    assert isinstance(said.get("collapsed", True), bool), text
    assert str(said.get("key", '""')).startswith('"'), text
    return said


@pytest.mark.parametrize(
    ("spelled", "why"),
    [
        (b"askonce hit", "a space is no separator"),
        (b"askonce; HIT", "keys are in lower case"),
        (b"askonce; hit; hit", "a key stands once"),
        (b"askonce; hit; fwd=miss", "a hit was not forwarded"),
        (b"askonce; fwd=because", "an unknown reason"),
        (b"askonce; key=\xc3\xa9", "not ASCII"),
        (b"askonce; ttl=", "no value"),
    ],
)
def test_the_parser_of_cache_status_is_strict(spelled: bytes, why: str) -> None:
    answer = RawAnswer(b"HTTP/1.1 200 OK", [b"cache-status: " + spelled], 0.0, Framing.NONE, [], iter(()))
    try:
        read = cache_status(answer)
    except (AssertionError, UnicodeDecodeError):
        return
    pytest.fail(f"{spelled!r} was read as {read}, but: {why}")


def ask_once(proxy: ProxyProcess, nonce: str, ask: Ask | Mapping[str, object]) -> RawAnswer:
    """The answer to one request, when the proxy has done with it."""
    before = stats(proxy.address)
    asked = ask if isinstance(ask, Ask) else Ask(body=ask)
    answer = raw_client.exchange(proxy.address, asked.octets(nonce))
    wait_for_stats(proxy.address, lambda now: now["requests"] > before["requests"] and now["in_flight"] == 0)
    # What is kept is counted last.
    wait_for_stats(proxy.address, lambda now: now["fetches"] >= sum(now["unkept"].values()) + now["kept"])
    return answer


def landed(proxy: ProxyProcess, fetches: int) -> None:
    """Return when *fetches* answers in all have been dealt with."""
    wait_for_stats(proxy.address, lambda now: now["fetches"] >= fetches and now["in_flight"] == 0)


def test_cache_status_says_in_the_words_of_rfc_9211_what_x_cache_says(played: Played) -> None:
    only = ("Cache-Control", "only-if-cached")
    scenario = Scenario(
        id="every-outcome-but-joined",
        calls=(
            cold(only),
            COLD,
            COLD,
            cold(("Cache-Control", "no-cache")),
            cold(("Cache-Control", "no-store")),
            STREAM,
            {**STREAM, "stream_options": {"include_smell": True}},
        ),
        labels=("ERROR not_cached", MISS, HIT, "MISS no_cache", "BYPASS no_store", TRANSCODED, "MISS other_form"),
        fetches=4,
    )
    error, miss, hit, again, bypass, transcoded, other = (cache_status(answer) for answer in played(scenario))
    assert "hit" not in error
    assert "fwd" not in error
    assert miss["fwd"] == "uri-miss"
    assert (hit["hit"], transcoded["hit"]) == (True, True)
    assert 3590 <= int(hit["ttl"]) <= 3600
    assert again["fwd"] == "request"
    assert bypass["fwd"] == "bypass"
    assert other["fwd"] == "vary-miss"
    assert [one["detail"] for one in (error, miss, hit, again, bypass, transcoded, other)] == [
        label.partition(" ")[2] for label in scenario.labels
    ]
    assert miss["key"] == hit["key"] == again["key"] == transcoded["key"] == other["key"]


def test_a_hit_says_its_tier_its_age_its_key_and_what_it_saved(played: Played) -> None:
    scenario = Scenario(
        id="labels-of-a-hit",
        calls=(COLD, Ask(body=COLD, after_s=1.1), STREAM),
        labels=(MISS, HIT, TRANSCODED),
        fetches=1,
    )
    miss, hit, transcoded = played(scenario)
    usage = json.loads(miss.body)["usage"]
    for answer in (hit, transcoded):
        assert answer.get("x-cache-tier") == "exact"
        assert answer.get("x-cache-saved-tokens") == str(usage["total_tokens"])
        assert answer.get("x-cache-key") == miss.get("x-cache-key")
        assert answer.get("age") in ("1", "2", "3")
    assert re.fullmatch("[0-9a-f]{16}", miss.get("x-cache-key") or "")
    for name in ("x-cache-tier", "x-cache-saved-tokens", "age"):
        assert miss.get(name) is None


@pytest.mark.parametrize("level", ["full", "minimal", "none"])
def test_how_much_the_answer_says_is_a_setting(proxies: Proxies, nonce: str, level: str) -> None:
    proxy = proxies({"headers": level})
    expected = {
        "full": {b"x-cache", b"x-cache-reason", b"x-cache-key", b"cache-status"},
        "minimal": {b"x-cache", b"x-cache-reason"},
        "none": set(),
    }[level]
    on_hits = {"full": {b"x-cache-tier", b"x-cache-saved-tokens", b"age"}, "minimal": set(), "none": set()}[level]

    def added(answer: RawAnswer) -> set[bytes]:
        ours = (b"x-cache", b"cache-status", b"age")
        return {name for name, _ in answer.headers if name.startswith(ours)}

    assert added(ask_once(proxy, nonce, COLD)) == expected
    assert added(ask_once(proxy, nonce, COLD)) == expected | on_hits
    assert added(ask_once(proxy, nonce, WARM)) == expected
    assert stats(proxy.address)["hits"] == 1


def test_a_refusal_of_our_own_is_an_error_that_an_sdk_can_read(played: Played) -> None:
    (refused,) = played(
        Scenario(
            id="only-if-cached",
            calls=(cold(("Cache-Control", "only-if-cached")),),
            labels=("ERROR not_cached",),
            fetches=0,
        )
    )
    assert refused.status == 504
    assert refused.get("content-type") == "application/json"
    error = json.loads(refused.body)["error"]
    assert (error["type"], error["code"], error["param"]) == ("askonce_error", "not_cached", None)


def test_what_is_said_to_the_proxy_alone_is_not_passed_on(
    provider: ScriptedProvider, proxies: Proxies, nonce: str
) -> None:
    ours: Headers = (
        ("x-askonce-cache", "on"),
        ("X-AskOnce-TTL", "60"),
        ("x-askonce-namespace", "n"),
        ("x-askonce-tag", "t"),
        ("x-askonce-yet-to-come", "1"),
    )
    theirs: Headers = (("Cache-Control", "max-age=60"), ("Pragma", "x"), ("x-ask", "once"))
    ask_once(proxies({}), nonce, Ask(body=COLD, headers=(*ours, *theirs)))
    (request,) = provider.requests(nonce)
    names = {name.lower() for name, _ in request.headers}
    assert not [name for name in names if name.startswith(b"x-askonce")]
    assert {b"cache-control", b"pragma", b"x-ask"} <= names


def test_no_cache_puts_the_new_answer_in_the_place_of_the_old(played: Played) -> None:
    first, second, third = played(
        Scenario(
            id="no-cache-refreshes",
            calls=(COLD, cold(("Cache-Control", "no-cache")), COLD),
            labels=(MISS, "MISS no_cache", HIT),
            fetches=2,
        )
    )
    assert first.body != second.body == third.body


def test_a_cookie_and_a_foreign_cache_label_do_not_survive(played: Played) -> None:
    fields = (("Set-Cookie", "a=1"), ("set-cookie", "b=2"), ("X-Cache", "Hit from cloudfront"), ("x-kept", "1"))
    miss, hit = played(
        Scenario(id="cookies", plays=(json_answer(GOOD, *fields, ("Age", "77")),), calls=(COLD, COLD), **ONCE)
    )
    assert miss.values("set-cookie") == [b"a=1", b"b=2"]
    assert hit.values("set-cookie") == []
    assert miss.get("x-kept") == hit.get("x-kept") == "1"
    assert hit.get("age") in ("0", "1")


def test_a_hit_without_its_coding_describes_what_it_sends(played: Played) -> None:
    fields = (("Content-Encoding", "gzip"), ("ETag", '"of-the-gzip"'), ("Content-MD5", "of-the-gzip"))
    takes, nothing = cold(("Accept-Encoding", "gzip")), COLD
    miss, decoded, coded = played(
        Scenario(
            id="decoded-for-one",
            plays=(json_answer(gzip.compress(GOOD), *fields),),
            calls=(takes, nothing, takes),
            labels=(MISS, HIT, HIT),
            fetches=1,
        )
    )
    assert bytes(decoded.body) == GOOD
    assert decoded.get("content-encoding") is None
    assert decoded.get("content-length") == str(len(GOOD))
    assert decoded.get("etag") is None
    assert decoded.get("content-md5") is None
    assert coded.body == miss.body
    assert (coded.get("content-encoding"), coded.get("etag")) == ("gzip", '"of-the-gzip"')


def said_in(stream: bytes) -> str:
    """The text that a chat stream tells."""
    deltas = (choice["delta"] for chunk in events(stream) for choice in chunk["choices"])
    return "".join(delta.get("content") or "" for delta in deltas)


def test_a_whole_answer_as_a_stream_tells_the_same(played: Played) -> None:
    whole, stream, counted_stream = played(
        Scenario(
            id="unfolded",
            calls=(COLD, STREAM, STREAM_USAGE),
            labels=(MISS, TRANSCODED, TRANSCODED),
            fetches=1,
        )
    )
    told = json.loads(whole.body)
    for answer in (stream, counted_stream):
        assert answer.framing is Framing.CHUNKED
        assert str(answer.get("content-type")).startswith("text/event-stream")
        assert answer.body.endswith(DONE)
        assert said_in(bytes(answer.body)) == told["choices"][0]["message"]["content"]
        assert answer.get("x-request-id") == whole.get("x-request-id")
    assert not any(chunk.get("usage") for chunk in events(bytes(stream.body)))
    *before, last = events(bytes(counted_stream.body))
    assert (last["usage"], last["choices"]) == (told["usage"], [])
    assert all("usage" in chunk and chunk["usage"] is None for chunk in before)


def test_a_stream_with_usage_as_a_whole_answer_tells_the_same(played: Played) -> None:
    stream, whole, bare = played(
        Scenario(id="folded", calls=(STREAM_USAGE, COLD, STREAM), labels=(MISS, TRANSCODED, TRANSCODED), fetches=1)
    )
    told = json.loads(whole.body)
    assert whole.get("content-type") == "application/json"
    assert whole.framing is Framing.LENGTH
    assert told["object"] == "chat.completion"
    assert told["choices"][0]["message"] == {"role": "assistant", "content": said_in(bytes(stream.body))}
    assert told["choices"][0]["finish_reason"] == "stop"
    assert told["usage"] == events(bytes(stream.body))[-1]["usage"]
    assert said_in(bytes(bare.body)) == said_in(bytes(stream.body))
    assert b'"usage"' not in bare.body


def test_a_fresh_id_on_every_hit_by_setting(proxies: Proxies, nonce: str) -> None:
    proxy = proxies({"replay.fresh_ids": "true"})
    for asked in (COLD, STREAM, {**COLD, "top_p": 0.5}):
        answered = [ask_once(proxy, nonce, asked) for _ in range(3)]
        assert [answer.get("x-cache") for answer in answered[1:]] == ["HIT", "HIT"]
        ids = [identities(bytes(answer.body)) for answer in answered]
        assert [len(one) for one in ids] == [1, 1, 1]
        assert len(set.union(*ids)) == 3
        assert len({len(identity) for one in ids for identity in one}) == 1
        blanked = {re.sub(rb"chatcmpl-\w+", b"ID", bytes(answer.body)) for answer in answered[1:]}
        assert len(blanked) == 1


def test_the_rate_limits_of_the_past_can_be_left_out(proxies: Proxies, provider: ScriptedProvider, nonce: str) -> None:
    limits = (
        ("x-ratelimit-remaining-requests", "9"),
        ("X-RateLimit-Limit-Tokens", "10"),
        ("anthropic-ratelimit-requests-limit", "11"),
        ("x-ratelimit-reset-requests", "1s"),
    )
    provider.on(nonce, steps(json_answer(GOOD, *limits, ("x-request-id", "req_1"))))
    proxy = proxies({"replay.drop_rate_limits": "true"})
    miss, hit = (ask_once(proxy, nonce, COLD) for _ in range(2))
    assert hit.get("x-cache") == "HIT"
    for name, value in limits:
        assert miss.get(name) == value
        assert hit.get(name) is None
    assert hit.get("x-request-id") == "req_1"
    assert bytes(hit.body) == GOOD
    assert hit.get("content-length") == str(len(GOOD))
    provider.forget(nonce)


@pytest.mark.parametrize("pace", ["recorded", "burst"])
def test_a_hit_comes_at_once_or_at_the_recorded_pace(
    proxies: Proxies, provider: ScriptedProvider, nonce: str, pace: str
) -> None:
    pauses = [step for word in WORDS for step in (answers.chunk(word), Pause(0.15))]
    provider.on(nonce, steps(answers.chunked_head(EVENTS), *pauses, answers.chunk(DONE), answers.LAST_CHUNK))
    proxy = proxies({"replay.pace": pace})
    miss, hit = (ask_once(proxy, nonce, STREAM) for _ in range(2))
    assert (hit.get("x-cache"), hit.get("x-cache-reason")) == ("HIT", "found")
    assert hit.body == miss.body
    gaps = [later.at - earlier.at for earlier, later in pairwise(hit.arrivals)]
    if pace == "recorded":
        assert len([gap for gap in gaps if gap > 0.1]) == len(WORDS)
        assert hit.arrivals[0].at - hit.head_at < 0.1
    else:
        assert sum(gaps) < 0.1
    provider.forget(nonce)


def test_an_answer_that_breaks_off_was_announced_as_a_miss_and_is_counted_as_an_error(
    proxies: Proxies, provider: ScriptedProvider, nonce: str
) -> None:
    gate = Gate()
    provider.on(nonce, steps(answers.head(200, (*JSON, ("Content-Length", "9999"))), GOOD, gate, End.CLOSE))
    proxy = proxies({})
    before = stats(proxy.address)
    with RawConnection(proxy.address) as connection:
        connection.send(Ask(body=COLD).octets(nonce))
        answer = connection.start_answer("POST")
        gate.open()
        answer.finish()
    assert answer.ending is not Ending.WHOLE
    assert answer.get("x-cache") == "MISS"
    landed(proxy, before["fetches"] + 1)
    after = wait_for_stats(proxy.address, lambda now: now["requests"] > before["requests"])
    assert counted(before, after, "unkept") == {"broke_off": 1}
    assert counted(before, after, "reasons") == {"upstream_broke": 1}
    assert (after["errors"] - before["errors"], after["misses"] - before["misses"]) == (1, 0)
    provider.forget(nonce)
    assert ask_once(proxy, nonce, COLD).get("x-cache") == "MISS"


@pytest.mark.parametrize("finish", ["false", "true"])
def test_what_becomes_of_an_answer_that_everybody_left_is_a_setting(
    proxies: Proxies, provider: ScriptedProvider, nonce: str, finish: str
) -> None:
    gate = Gate()
    script = steps(
        answers.chunked_head(EVENTS), *map(answers.chunk, WORDS), gate, answers.chunk(DONE), answers.LAST_CHUNK
    )
    provider.on(nonce, script)
    proxy = proxies({"cache.finish_abandoned": finish})
    before = stats(proxy.address)
    with RawConnection(proxy.address) as connection:
        connection.send(Ask(body=STREAM).octets(nonce))
        connection.start_answer("POST").read_until(WORDS[0])
    wait_for_stats(proxy.address, lambda now: now["requests"] > before["requests"])
    (request,) = provider.requests(nonce)
    if finish == "false":
        assert provider.wait_until(lambda: request.link.closed_at is not None, 2)
    gate.open()
    landed(proxy, before["fetches"] + 1)
    after = stats(proxy.address)
    assert counted(before, after, "unkept") == ({"abandoned": 1} if finish == "false" else {})
    assert after["clients_left"] == before["clients_left"] + 1
    again = ask_once(proxy, nonce, STREAM)
    assert again.get("x-cache") == ("MISS" if finish == "false" else "HIT")
    assert again.body.endswith(DONE)
    provider.forget(nonce)


def test_one_who_asks_meanwhile_joins_and_says_so(proxies: Proxies, provider: ScriptedProvider, nonce: str) -> None:
    gate = Gate()
    provider.on(
        nonce, steps(answers.head(200, (*JSON, ("Set-Cookie", "a=1"), ("Content-Length", str(len(GOOD))))), gate, GOOD)
    )
    proxy = proxies({})
    octets = Ask(body=COLD).octets(nonce)
    with RawConnection(proxy.address) as leader, RawConnection(proxy.address) as follower:
        leader.send(octets)
        led = leader.start_answer("POST")
        follower.send(octets)
        followed = follower.start_answer("POST")
        # Another form, another coding, another wish: none of them may join.
        for other in (STREAM, cold(("Accept-Encoding", "gzip")), cold(("Cache-Control", "no-cache"))):
            with RawConnection(proxy.address) as apart:
                apart.send((other if isinstance(other, Ask) else Ask(body=other)).octets(nonce))
                assert apart.start_answer("POST").get("x-cache") == "MISS"
        gate.open()
        assert bytes(led.finish().body) == bytes(followed.finish().body) == GOOD
    assert led.get("x-cache") == "MISS"
    assert (followed.get("x-cache"), followed.get("x-cache-reason")) == ("JOINED", "in_flight")
    said = cache_status(followed)
    assert (said["collapsed"], said["fwd"]) == (True, "miss")
    assert led.values("set-cookie") == [b"a=1"]
    assert followed.values("set-cookie") == []
    assert len(provider.requests(nonce)) == 4
    provider.forget(nonce)


@pytest.mark.parametrize("asked", [COLD, STREAM], ids=["whole", "stream"])
def test_an_old_client_gets_its_hit_without_chunks(
    proxies: Proxies, provider: ScriptedProvider, nonce: str, asked: Mapping[str, object]
) -> None:
    proxy = proxies({})
    miss = ask_once(proxy, nonce, asked)
    octets = Ask(body=asked).octets(nonce).replace(b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", 1)
    hit = raw_client.exchange(proxy.address, octets)
    assert hit.get("x-cache") == "HIT"
    assert hit.body == miss.body
    assert hit.framing in (Framing.LENGTH, Framing.CLOSE)
    assert hit.values("transfer-encoding") == []
    assert len(provider.requests(nonce)) == 1


def test_the_cache_shows_what_the_gate_refused(proxies: Proxies, nonce: str) -> None:
    proxy = proxies({"ledger.max_opportunities": "1000"})
    for _ in range(3):
        ask_once(proxy, nonce, WARM)
    shown = stats(proxy.address)
    assert shown["opportunity"]["repeats"] == 2
    assert shown["opportunity"]["tokens"]["input"] > 0
    assert (shown["bypassed"], shown["hits"], shown["kept"]) == (3, 0, 0)
