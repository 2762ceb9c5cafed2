"""Whatever is thrown at the proxy: the right answer or an honest refusal, never a stumble, never a leak."""

import contextlib
import hashlib
import json
import random
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import answers, raw_client
from tests.answers import DONE, EVENTS
from tests.comparison import answer_differences
from tests.conftest import StartProxy
from tests.observation import assert_adds_up, stats, wait_for_stats
from tests.proxy_process import ProxyProcess
from tests.raw_client import DroppedError, RawAnswer, RawConnection
from tests.scripted_provider import Exchange, Framing, Gate, Script, ScriptedProvider, steps

pytestmark = [pytest.mark.proxy_only, pytest.mark.timeout(60)]

CHAT = "/v1/chat/completions"
SECONDS = 12.0
"""How long the fuzzer of the wire goes on."""

CREDENTIALS = ("authorization", "api-key", "x-api-key")
RELEVANT = (*CREDENTIALS, "openai-beta", "openai-organization", "openai-project", "anthropic-version")
COSMETIC = frozenset({"stream", "stream_options", "user", "metadata", "safety_identifier", "service_tier"}) | frozenset(
    {"prompt_cache_key", "prompt_cache_retention", "prompt_cache_options"}
)


Asked: TypeAlias = list[tuple[str, list[tuple[str, str]], bytes]]
"""Requests: target, further header fields, body."""


class NotComparableError(ValueError):
    """A JSON text of which two readers may disagree what it says."""


def meaning(target: bytes, fields: list[tuple[bytes, bytes]], body: bytes) -> str:
    """A word for everything that may change an answer: equal for two requests only if they may share one."""
    parts: list[object] = [target.decode("latin-1")]
    for name in RELEVANT:
        parts.append([value.decode("latin-1") for given, value in fields if given.lower() == name.encode()])
    try:
        value = json.loads(body.decode(), object_pairs_hook=_members, parse_float=_number, parse_constant=_refuse)
        if not isinstance(value, dict):
            raise NotComparableError
        parts.append(["value", {name: member for name, member in value.items() if name not in COSMETIC}])
    except (ValueError, RecursionError):
        parts.append(["octets", body.decode("latin-1")])
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len(dict(pairs)) != len(pairs):
        raise NotComparableError
    return dict(pairs)


def _number(text: str) -> object:
    number = float(text)
    return int(number) if number.is_integer() else number


def _refuse(text: str) -> object:
    raise NotComparableError(text)


def _asked(body: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


async def tell_what_was_meant(exchange: Exchange) -> None:
    """Answer with the meaning of the request: who gets another's answer can tell."""
    request = exchange.request
    said = meaning(request.target, request.headers, bytes(request.body))
    asked = _asked(bytes(request.body))
    if asked.get("stream") is not True:
        await exchange.send(answers.whole(answers.chat_body(said)))
        return
    events = answers.chat_events([said[:20], said[20:]])
    options = asked.get("stream_options")
    if isinstance(options, dict) and options.get("include_usage") is True:
        frame = json.loads(events[0].removeprefix(b"data: "))
        usage = json.loads(answers.chat_body(said))["usage"]
        events.append(answers.event({**frame, "choices": [], "usage": usage}))
    await exchange.send(answers.chunked(b"".join([*events, DONE]), EVENTS, size=100))


def told(answer: RawAnswer) -> str:
    """The meaning that *answer* speaks of, in whatever form it is."""
    return "".join(re.findall(r"[0-9a-f]{20,64}", answer.body.decode("utf-8", "replace")))


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.integers(),
    st.sampled_from([0.0, -0.0, 1.0, 1e-9, 0.1, 1e300, 9007199254740993, 9007199254740992]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=6),
    st.sampled_from(["yes", "Yes", "yes ", "\u00e9", "e\u0301", "\ud83d\ude00", "0"]),
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)
names = st.sampled_from(
    ["model", "temperature", "top_p", "seed", "stop", "n", "stream", "stream_options", "user", "metadata", "min_p", "x"]
) | st.text(max_size=4)
objects = st.builds(
    lambda base, more: {**base, **more},
    st.just({"model": "m", "messages": [{"role": "user", "content": "hello"}], "temperature": 0}),
    st.dictionaries(names, values, max_size=3)
    | st.just({"stream": True})
    | st.just({"stream": True, "stream_options": {"include_usage": True}}),
)


def spelled(value: object, style: int) -> bytes:
    """*value* as JSON in one of several spellings."""
    match style:
        case 0:
            text = json.dumps(value)
        case 1:
            text = json.dumps(value, indent=1, sort_keys=True)
        case 2:
            text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
        case _:
            text = json.dumps(dict(reversed(value.items())) if isinstance(value, dict) else value)
    return text.encode("utf-8", "surrogatepass")


broken = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [
            b"",
            b"null",
            b"[]",
            b'{"temperature":0,"temperature":0}',
            b'{"temperature":0,"x":1e999}',
            b'{"temperature":0,"x":NaN}',
            b'{"temperature":0}{}',
            b'\xef\xbb\xbf{"temperature":0}',
            b'{"temperature":0,"x":"\xff"}',
            b'{"temperature":0,"x":"\\ud800"}',
            b'{"temperature":0,"x":' + b"[" * 2000 + b"]" * 2000 + b"}",
        ]
    ),
)
bodies = st.one_of(
    st.builds(spelled, objects, st.integers(0, 3)),
    st.builds(spelled, objects, st.integers(0, 3)),
    st.builds(lambda value, style, cut: spelled(value, style)[:cut], objects, st.integers(0, 3), st.integers(0, 60)),
    broken,
)
field_values = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters="\x7f\x85\xa0"), max_size=12
)
fields = st.lists(
    st.one_of(
        st.tuples(st.sampled_from([*RELEVANT, "Authorization", "OPENAI-BETA"]), st.sampled_from(["a", "b", ""])),
        st.tuples(st.just("Cache-Control"), st.sampled_from(["no-cache", "no-store", "max-age=5", "max-age=x", ",=;"])),
        st.tuples(st.just("Accept-Encoding"), st.sampled_from(["gzip", "identity;q=0", "*;q=0", "br, *", ";;q="])),
        st.tuples(st.sampled_from(["x-askonce-namespace", "x-askonce-ttl", "x-askonce-cache"]), field_values),
        st.tuples(st.sampled_from(["X-Odd", "Pragma", "Range", "Cookie", "traceparent", "Accept"]), field_values),
    ),
    max_size=3,
)
targets = st.sampled_from([CHAT, CHAT, CHAT, "/chat/completions", CHAT + "?a=1", "/v1/files", CHAT + "/"])


# Requests that are alike but for one thing are the ones that a careless key would take for each other.
one_field_apart: st.SearchStrategy[Asked] = st.builds(
    lambda base, name, given, style: [(CHAT, [], spelled({**base, name: value}, style)) for value in given],
    objects,
    names.filter(lambda name: name not in COSMETIC),
    st.lists(values, min_size=2, max_size=3),
    st.integers(0, 3),
)
one_header_apart: st.SearchStrategy[Asked] = st.builds(
    lambda body, name, given: [(CHAT, [(name, value)], body) for value in given],
    bodies,
    st.sampled_from(RELEVANT),
    st.lists(st.sampled_from(["a", "b", "A", "a, b", ""]), min_size=2, max_size=3),
)
anything: st.SearchStrategy[Asked] = st.lists(st.tuples(targets, fields, bodies), min_size=1, max_size=4)


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ScriptedProvider, ProxyProcess]]:
    """A provider that tells what each request meant, and a proxy before it that keeps all it may."""
    with ScriptedProvider(remember=50) as provider:
        provider.on(b"HTTP/1.1", Script(play=tell_what_was_meant))
        log = tmp_path_factory.mktemp("fuzz") / "stderr.log"
        with ProxyProcess(provider.origin, log, settings={"cache.when": "always"}) as proxy:
            yield provider, proxy


@settings(
    max_examples=800,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)
@given(asked=st.one_of(one_field_apart, one_field_apart, one_header_apart, anything))
def test_the_answer_is_always_the_one_that_the_provider_would_have_given(
    honest: tuple[ScriptedProvider, ProxyProcess], asked: Asked
) -> None:
    provider, proxy = honest
    for target, extra, body in [*asked, *asked]:
        octets = raw_client.request("POST", target, [("Content-Type", "application/json"), *extra], body)
        straight = raw_client.exchange(provider.address, octets)
        through = raw_client.exchange(proxy.address, octets)
        assert told(straight) == told(through), (through.get("x-cache"), through.get("x-cache-reason"))
        if through.get("x-cache-reason") != "transcoded":
            assert answer_differences(straight, through, hit=through.get("x-cache") == "HIT") == []
    proxy.assert_calm()


def test_the_fuzzer_of_meanings_has_met_every_outcome(honest: tuple[ScriptedProvider, ProxyProcess]) -> None:
    """Else it proves nothing. Run on its own it makes them itself."""
    _, proxy = honest
    for _ in range(2):
        for asked in ({"temperature": 0}, {"temperature": 0, "stream": True}, {"store": True}):
            body = answers.compact({"messages": [], **asked})
            raw_client.exchange(proxy.address, raw_client.request("POST", CHAT, (), body))
    shown = wait_for_stats(proxy.address, lambda now: now["in_flight"] == 0)
    assert_adds_up(shown)
    assert shown["errors"] == 0
    for counter in ("hits", "misses", "bypassed", "kept"):
        assert shown[counter] > 0, shown


def test_the_meaning_tells_what_must_be_told_apart_and_nothing_else() -> None:
    def of(body: bytes, *extra: tuple[bytes, bytes]) -> str:
        return meaning(b"/", list(extra), body)

    assert of(b'{"a":1,"b":2}') == of(b'{ "b":2.0, "a":1e0, "stream":true}')
    for other in (b'{"a":1,"b":3}', b'{"a":1}', b'{"a":1,"b":2,"b":2}', b'{"a":1,"b":true}', b"[]", b'{"a":1,"b":2'):
        assert of(b'{"a":1,"b":2}') != of(other)
    assert of(b"{}", (b"Authorization", b"a")) != of(b"{}", (b"authorization", b"b"))
    assert of(b"{}", (b"X-Odd", b"a")) == of(b"{}")


def seeds() -> list[bytes]:
    """Valid requests of every kind, to be spoilt."""
    body = answers.compact({"model": "m", "messages": [{"role": "user", "content": "hello"}], "temperature": 0})
    stream = body[:-1] + b',"stream":true}'
    chunked = answers.chunk(body[:20]) + answers.chunk(body[20:], b";a=b") + b"0\r\nX-Trailer: 1\r\n\r\n"
    coded = [("Transfer-Encoding", "chunked"), ("Content-Type", "application/json")]
    upgrade = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ]
    form = b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\n\x00\xff\r\n--b--\r\n'
    return [
        raw_client.request("POST", CHAT, [("Authorization", "Bearer sk-fuzz")], body),
        raw_client.request("POST", CHAT, [("Accept-Encoding", "gzip")], stream),
        raw_client.request("POST", CHAT, coded) + chunked,
        raw_client.request("POST", "/v1/files", coded) + chunked,
        raw_client.request("POST", "/v1/files", [("Content-Type", "multipart/form-data; boundary=b")], form),
        raw_client.request("POST", CHAT, [("Expect", "100-continue")], body),
        raw_client.request("POST", CHAT, (), body) + raw_client.request("GET", "/v1/models"),
        raw_client.request("GET", "/v1/models?a=%2F", [("Cookie", "a=b"), ("X-Repeated", "1"), ("X-Repeated", "2")]),
        raw_client.request("GET", "http://client.example/v1/models"),
        raw_client.request("HEAD", "/v1/models"),
        raw_client.request("PURGE", "/v1/models", (), b"{}"),
        raw_client.request("GET", "/stats"),
        raw_client.request("GET", "/v1/realtime", upgrade),
        raw_client.request("POST", CHAT, [("Connection", "keep-alive")], body, version="HTTP/1.0"),
        raw_client.request("CONNECT", "a.example:443"),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ]


JUNK = (
    b"\r",
    b"\n",
    b"\0",
    b"\r\n",
    b"\r\n\r\n",
    b"\n\n",
    b" ",
    b"\t",
    b":",
    b"\xff\xfe",
    b"A" * 100_000,
    b"x-long: " + b"y" * 70_000 + b"\r\n",
    b"x-many: 1\r\n" * 600,
    b"Content-Length: 5\r\n",
    b"Content-Length: -1\r\n",
    b"Content-Length: 99999999999999999999\r\n",
    b"Content-Length: 0x10\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Transfer-Encoding: identity\r\n",
    b"Transfer-Encoding : chunked\r\n",
    b" folded: yes\r\n",
    b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n",
    b"Expect: 100-continue\r\n",
    b"Content-Encoding: gzip\r\n",
    b"zz\r\n",
    b"-1\r\n",
    b"ffffffffffffffffff\r\n",
    b"0\r\n\r\n",
    b"1;" + b"e" * 20_000 + b"\r\nx\r\n",
    b"GET /v1/models HTTP/1.1\r\nHost: smuggled\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/0.9",
    b"HTTP/9.9",
    b"\xc3\xa9",
)


def spoil(chance: random.Random, valid: list[bytes]) -> bytes:
    """One of *valid* requests with a few things wrong with it."""
    octets = bytearray(chance.choice(valid))
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        start = chance.randrange(len(octets) + 1)
        end = min(len(octets), start + chance.choice((0, 1, 2, 8, 40)))
        match chance.randrange(8):
            case 0:
                del octets[start:]
            case 1 if octets:
                octets[min(start, len(octets) - 1)] ^= 1 << chance.randrange(8)
            case 2:
                octets[start:end] = b""
            case 3:
                octets[start:start] = octets[start:end] * chance.randrange(1, 5)
            case 4:
                other = chance.choice(valid)
                octets[start:] = other[chance.randrange(len(other)) :]
            case 5 | 6:
                octets[start:end] = chance.choice(JUNK)
            case _:
                lines = octets.split(b"\r\n")
                lines.insert(chance.randrange(len(lines)), bytearray(chance.choice(JUNK).removesuffix(b"\r\n")))
                octets = bytearray(b"\r\n".join(lines))
    return bytes(octets)


def throw(address: raw_client.Address, octets: bytes, chance: random.Random) -> bytes:
    """Send *octets* in pieces, perhaps not to their end, and take what comes until the server ends it."""
    cuts = sorted(chance.randrange(len(octets) + 1) for _ in range(chance.randrange(3)))
    pieces = [octets[start:end] for start, end in zip([0, *cuts], [*cuts, len(octets)], strict=True)]
    ending = chance.choice(("shut", "shut", "shut", "close", "reset", "wait"))
    heard = b""
    with socket.create_connection(address, timeout=3) as connection, contextlib.suppress(OSError):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            connection.sendall(piece)
            if chance.random() < 0.3:
                time.sleep(0.002)
        if ending == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return heard
        if ending == "close":
            return heard
        if ending == "shut":
            connection.shutdown(socket.SHUT_WR)
        else:
            connection.settimeout(0.05)
        while more := connection.recv(65536):
            heard += more
    return heard


REFUSED = re.compile(rb"HTTP/1\.1 5\d\d [^\r]*\r\n(?:[^\r\n]+\r\n)*\r\n(.{0,40})", re.DOTALL)


def assert_decent(heard: bytes, sent: bytes) -> None:
    """What came back is HTTP, and a server error is one of ours that an SDK can read."""
    assert not heard or heard.startswith(b"HTTP/1.1 "), f"{heard[:200]!r} to {sent[:2000]!r}"
    assert b"Traceback" not in heard
    for refusal in REFUSED.finditer(heard):
        assert refusal[1].startswith(b'{"error":{"message":'), f"{refusal[0]!r} to {sent[:2000]!r}"
        assert b'"type":"askonce_error"' in heard


def test_nothing_on_the_wire_makes_the_proxy_stumble_or_leak(
    start_proxy: StartProxy, fresh_provider: ScriptedProvider
) -> None:
    ways = start_proxy(
        server__half_close_grace_s="0.05",
        # So that what is open at the end is a leak.
        upstream__max_idle_connections="0",
        upstream__connect_timeout_s="2",
    )
    proxy = ways.process
    assert proxy is not None
    valid = seeds()
    for octets in valid[:12]:
        raw_client.exchange(proxy.address, octets)
    wait_for_stats(proxy.address, lambda now: now["in_flight"] == 0)
    level = proxy.open_descriptors()
    seed = random.randrange(1 << 32)
    deadline = time.monotonic() + SECONDS
    failures: list[str] = []
    thrown = [0] * 6

    def go_on(number: int) -> None:
        chance = random.Random(f"{seed}-{number}")
        while time.monotonic() < deadline and not failures:
            octets = spoil(chance, valid)
            try:
                assert_decent(throw(proxy.address, octets, chance), octets)
            except (AssertionError, OSError) as error:
                failures.append(f"{error!r} (seed {seed}-{number}, {octets[:300]!r})")
            thrown[number] += 1

    threads = [threading.Thread(target=go_on, args=(number,), daemon=True) for number in range(len(thrown))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS + 20)
    assert not failures, failures[0]
    assert sum(thrown) > 200, f"only {thrown} in {SECONDS} s"
    proxy.assert_calm()
    # What reached the provider was one request with one framing each time.
    for request in fresh_provider.requests():
        assert request.framing is not Framing.CONFLICTING, request.head
        assert request.malformed is None, (request.malformed, request.head)
        assert len(request.values("host")) == 1, request.head
    # Nothing is left behind, and it still works.
    give_up = time.monotonic() + 15
    while (now := proxy.open_descriptors()) > level:
        assert time.monotonic() < give_up, f"{now} files and sockets are open, {level} at the start (seed {seed})"
        time.sleep(0.05)
    assert stats(proxy.address)["in_flight"] == 0
    assert_adds_up(stats(proxy.address))
    assert raw_client.exchange(proxy.address, ways.chat()).status == 200


LATER: Mapping[str, Callable[[], bytes]] = {
    "not-a-size": lambda: b"zz\r\n",
    "a-negative-size": lambda: b"-1\r\n",
    "no-line-end": lambda: b"5\r\nhelloXX",
    "a-bare-line-feed": lambda: b"3\nabc\n",
}


@pytest.mark.parametrize("name", LATER)
@pytest.mark.parametrize("path", [CHAT, "/v1/files"])
def test_garbage_in_a_body_that_is_arriving_is_refused_at_once(
    start_proxy: StartProxy, fresh_provider: ScriptedProvider, path: str, name: str, tmp_path: Path
) -> None:
    """Also where it comes in a segment of its own, when the request is already being looked at."""
    ways = start_proxy()
    with RawConnection(ways.proxy, timeout_s=5) as connection:
        fields = [("x-nonce", ways.nonce), ("Transfer-Encoding", "chunked")]
        connection.send(raw_client.request("POST", path, fields) + answers.chunk(b'{"a":'))
        if path == CHAT:
            time.sleep(0.1)
        else:
            fresh_provider.wait_for(ways.nonce)
        connection.send(LATER[name]())
        try:
            answer = connection.read_answer("POST")
        except DroppedError:
            pass
        else:
            assert answer.status == 400
    assert not [request for request in ways.received() if request.complete]


@pytest.mark.parametrize("path", [CHAT, "/v1/files"])
def test_a_client_that_said_it_sends_no_more_is_let_go_after_its_answer(
    start_proxy: StartProxy, fresh_provider: ScriptedProvider, path: str
) -> None:
    """It half-closed while its answer was on the way: nothing can follow, so nothing is waited for."""
    ways = start_proxy(server__half_close_grace_s="0.3")
    gate = Gate()
    ways.plays(steps(gate, ways.fixed()))
    with RawConnection(ways.proxy, timeout_s=5) as connection:
        connection.send(ways.chat(path=path))
        fresh_provider.wait_for(ways.nonce)
        connection.finish_sending()
        # The end must have been noticed while the answer was still to come.
        ways.settle()
        gate.open()
        assert connection.read_answer("POST").status == 200
        assert connection.ended(2) is not None
