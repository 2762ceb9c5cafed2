"""The usage of streams that nobody asked for: asked for by us, told to the books, and taken out without a trace."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.accounts import streamusage
from proxy.accounts.streamusage import Sieve
from proxy.accounts.usage import Method
from tests import answers, raw_client
from tests.answers import EVENTS
from tests.comparison import Ways
from tests.conftest import StartProxy
from tests.observation import settled
from tests.raw_client import RawAnswer
from tests.scripted_provider import End, steps

USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}

# --- asking ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        ('{"a": 1}', '{"stream_options":{"include_usage":true},"a": 1}'),
        (' {\n  "a":1 }\n', ' {\n  "stream_options":{"include_usage":true},"a":1 }\n'),
        ('{"a":1,"stream_options":{}}', '{"a":1,"stream_options":{"include_usage":true}}'),
        (
            '{"stream_options" : { "include_obfuscation": false }}',
            '{"stream_options" : {"include_usage":true, "include_obfuscation": false }}',
        ),
        ('{"messages":"{\\"stream_options\\":1}"}', None),
        ('{"a":1,"stream_options":{"include_usage":false}}', None),
        ('{"a":1,"stream_options":null}', None),
        ('{"stream_options":{},"stream_options":{}}', None),
        ("{}", None),
        ("[]", None),
        ('{"a":1', None),
        ("\xff", None),
    ],
)
def test_what_is_put_in_is_one_member_and_nothing_else_moves(body: str, asked: str | None) -> None:
    if body.startswith('{"messages"'):
        asked = '{"stream_options":{"include_usage":true},' + body[1:]
    spliced = streamusage.ask(body.encode("latin-1"))
    assert spliced == (asked.encode() if asked is not None else None)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(request=st.dictionaries(st.text(max_size=8), JSON, min_size=1, max_size=5), indent=st.sampled_from([None, 2]))
def test_any_request_says_what_it_said_and_asks_for_the_usage(request: dict[str, Any], indent: int | None) -> None:
    request.pop("stream_options", None)
    spliced = streamusage.ask(json.dumps(request, indent=indent).encode())
    if request:
        assert spliced is not None
        assert json.loads(spliced) == {**request, "stream_options": {"include_usage": True}}
    else:
        assert spliced is None


# --- taking out ------------------------------------------------------------------------------------------------------


def event(chunk: dict[str, Any], end: str = "\n") -> bytes:
    """*chunk* as an event, its line ends as asked for."""
    return f"data: {json.dumps(chunk, separators=(',', ':'))}{end}{end}".encode()


def streams(*, end: str = "\n", more: bytes = b"") -> tuple[bytes, bytes]:
    """A stream as it comes to those who asked for the usage, and as it comes to all others."""
    asked, unasked = b"", b""
    for text in ("", 'a "usage":null b', "c"):
        said = {"index": 0, "delta": {"content": text}, "finish_reason": "stop" if text == "c" else None}
        chunk = {"id": "x", "object": "chat.completion.chunk", "model": "gpt-4o-mini", "choices": [said]}
        asked += event({**chunk, "usage": None}, end) + more
        unasked += event(chunk, end) + more
    asked += event({"id": "x", "choices": [], "usage": USAGE}, end)
    done = f"data: [DONE]{end}{end}".encode()
    return asked + done, unasked + done


@given(cuts=st.lists(st.integers(0, 1100), max_size=12), end=st.sampled_from(["\n", "\r\n", "\r"]))
def test_however_a_stream_is_cut_the_usage_is_taken_out_of_it(cuts: list[int], end: str) -> None:
    asked, unasked = streams(end=end, more=f": keep-alive{end}{end}".encode())
    sieve, left, at = Sieve(), b"", 0
    for cut in [*sorted(cuts), len(asked)]:
        left += sieve.feed(asked[at:cut])
        at = max(at, min(cut, len(asked)))
    assert left + sieve.finish() == unasked
    assert sieve.usage is not None
    assert (sieve.usage.input_tokens, sieve.usage.output_tokens) == (11, 7)


@given(stream=st.lists(st.sampled_from([b"data: ", b'{"usage":', b"null}", b"\n", b"\r", b"x", b": c"])).map(b"".join))
def test_what_is_not_understood_goes_through_as_it_came(stream: bytes) -> None:
    sieve = Sieve()
    left = sieve.feed(stream) + sieve.finish()
    if b'{"usage":null}' not in stream:
        assert left == stream


def test_a_usage_that_everybody_is_told_stays_where_it_is() -> None:
    told = event({"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": USAGE})
    sieve = Sieve()
    assert sieve.feed(told) == told
    assert sieve.usage is not None


TIMINGS = {"cache_n": 0, "prompt_n": 6, "prompt_ms": 26.12, "predicted_per_second": 167.000668002672}


def llama_cpp(*, ending: str = "stop", build: str = "b6497-cd08fc3e", slowly: bytes = b"") -> tuple[bytes, bytes]:
    """A stream as llama.cpp's server sends it to those who asked for the usage, and to all others (build 6497)."""
    told = {
        "created": 1758108431,
        "id": "chatcmpl-x",
        "model": "m",
        "system_fingerprint": build,
        "object": "chat.completion.chunk",
    }

    def chunk(*choices: dict[str, Any], **more: Any) -> bytes:
        return event({"choices": list(choices), **told, **more})

    words = b"".join(
        chunk({"finish_reason": None, "index": 0, "delta": {"content": text}}) for text in ("a", ' "finish_reason":"x')
    )
    last = {"finish_reason": ending, "index": 0, "delta": {}}
    done = b"data: [DONE]\n\n"
    asked = words + chunk(last) + slowly + chunk(usage=USAGE, timings=TIMINGS) + done
    return asked, words + chunk(last, timings=TIMINGS) + slowly + done


@given(cuts=st.lists(st.integers(0, 1300), max_size=12), ending=st.sampled_from(["stop", "length", "tool_calls"]))
def test_the_timings_of_llama_cpp_stand_where_they_would_have_stood(cuts: list[int], ending: str) -> None:
    asked, unasked = llama_cpp(ending=ending)
    sieve, left, at = Sieve(), b"", 0
    for cut in [*sorted(cuts), len(asked)]:
        left += sieve.feed(asked[at:cut])
        at = max(at, min(cut, len(asked)))
    assert left + sieve.finish() == unasked


def test_of_every_other_server_no_event_waits_for_the_next() -> None:
    asked, _ = llama_cpp(build="fp_44709d6fcb")
    *_, last, usage, done = (part + b"\n\n" for part in asked.split(b"\n\n")[:-1])
    sieve = Sieve()
    assert sieve.feed(last) == last
    assert sieve.feed(usage) == b""
    assert sieve.feed(done) == done


def test_what_waits_for_the_usage_is_not_lost_where_none_comes() -> None:
    _, unasked = llama_cpp()
    *_, last, done = (part + b"\n\n" for part in unasked.split(b"\n\n")[:-1])
    for behind in (b": still here\n\n", done, last):
        sieve = Sieve()
        assert sieve.feed(last) + sieve.feed(behind) + sieve.finish() == last + behind
    sieve = Sieve()
    assert sieve.feed(last) == b""
    assert sieve.feed(b"data: {half") + sieve.finish() == last + b"data: {half"


# --- through the proxy -----------------------------------------------------------------------------------------------

ASKED, UNASKED = streams()


@pytest.fixture
def house(start_proxy: StartProxy) -> Ways:
    return start_proxy(accounting__request_stream_usage="true")


def stream(ways: Ways, *, headers: Any = (), **asked: Any) -> RawAnswer:
    """The answer to a request for a stream."""
    return raw_client.exchange(ways.proxy, ways.chat(stream=True, headers=headers, **asked))


@pytest.mark.proxy_only
def test_the_client_gets_the_stream_it_asked_for_and_the_books_get_the_usage(house: Ways) -> None:
    house.plays(answers.chunked_head(EVENTS) + raw_chunks(ASKED))
    first = stream(house, headers=(("Accept-Encoding", "gzip, br"),))
    settled(house.proxy, requests=1, fetches=1)
    again = stream(house, headers=(("Accept-Encoding", "gzip, br"),))
    assert bytes(first.body) == bytes(again.body) == UNASKED
    assert (again.get("x-cache"), again.get("x-cache-saved-tokens")) == ("HIT", "18")
    assert again.get("x-cache-saved-method") is None
    (received,) = house.provider.requests(house.nonce)
    sent = json.loads(received.body)
    assert sent.pop("stream_options") == {"include_usage": True}
    assert sent == json.loads(house.chat_body(stream=True))
    assert received.values("accept-encoding") == [b"identity"]
    tokens = settled(house.proxy, requests=2, fetches=1)["tokens"]
    for kind in ("spent", "saved"):
        assert (tokens[kind]["input"], tokens[kind]["output"], tokens[kind]["without_usage"]) == (11, 7, 0)


@pytest.mark.proxy_only
def test_the_client_of_a_llama_cpp_gets_the_stream_that_it_would_have_got(house: Ways) -> None:
    asked, unasked = llama_cpp()
    house.plays(answers.chunked_head(EVENTS) + raw_chunks(asked))
    first = stream(house)
    settled(house.proxy, requests=1, fetches=1)
    again = stream(house)
    assert bytes(first.body) == bytes(again.body) == unasked
    assert (again.get("x-cache"), again.get("x-cache-saved-tokens")) == ("HIT", "18")


def raw_chunks(body: bytes) -> bytes:
    """*body* in chunks that have nothing to do with its events, and the end."""
    pieces = [body[at : at + 37] for at in range(0, len(body), 37)]
    return b"".join(answers.chunk(piece) for piece in pieces) + answers.chunk(b"")


@pytest.mark.proxy_only
@pytest.mark.parametrize(
    "asked", [{"stream_options": {"include_usage": True}}, {"stream_options": {"include_usage": False}}]
)
def test_who_says_what_they_want_is_left_alone(house: Ways, asked: dict[str, Any]) -> None:
    house.plays(answers.chunked_head(EVENTS) + raw_chunks(ASKED))
    assert bytes(stream(house, **asked).body) == ASKED
    (received,) = house.provider.requests(house.nonce)
    assert received.body == house.chat_body(stream=True, **asked)


@pytest.mark.proxy_only
def test_what_is_no_stream_and_what_is_off_goes_as_it_came(house: Ways, start_proxy: StartProxy) -> None:
    raw_client.exchange(house.proxy, house.chat())
    assert house.provider.requests(house.nonce)[-1].body == house.chat_body()
    plain = start_proxy()
    plain.plays(answers.chunked_head(EVENTS) + raw_chunks(ASKED))
    assert bytes(stream(plain).body) == ASKED
    assert plain.provider.requests(plain.nonce)[-1].body == plain.chat_body(stream=True)


@pytest.mark.proxy_only
def test_a_provider_that_refuses_is_asked_as_the_client_did_and_then_left_alone(house: Ways) -> None:
    refusal = answers.whole(b'{"error":{"message":"unknown field stream_options"}}', status=400)
    fine = answers.chunked_head(EVENTS) + raw_chunks(UNASKED)
    house.provider.on(house.nonce, steps(refusal), steps(fine), steps(fine))
    assert bytes(stream(house).body) == UNASKED
    assert bytes(stream(house, seed=1).body) == UNASKED
    bodies = [json.loads(each.body) for each in house.provider.requests(house.nonce)]
    assert ["stream_options" in body for body in bodies] == [True, False, False]
    assert settled(house.proxy, requests=2, fetches=2)["requests"] == 2


@pytest.mark.proxy_only
def test_an_error_of_the_clients_own_is_told_and_nobody_is_blamed(house: Ways) -> None:
    refusal = answers.whole(b'{"error":{"message":"no such model"}}', status=400)
    fine = answers.chunked_head(EVENTS) + raw_chunks(ASKED)
    house.provider.on(house.nonce, steps(refusal), steps(refusal), steps(fine))
    got = stream(house)
    assert (got.status, json.loads(got.body)["error"]["message"]) == (400, "no such model")
    assert bytes(stream(house, seed=1).body) == UNASKED


@pytest.mark.proxy_only
def test_a_stream_that_breaks_off_gives_all_that_had_come(house: Ways) -> None:
    half = UNASKED[:-20]
    house.plays(steps(answers.chunked_head(EVENTS), answers.chunk(half), End.CLOSE))
    got = stream(house)
    assert bytes(got.body) == half
    assert got.ending is not raw_client.Ending.WHOLE


def test_the_books_know_the_figure_as_the_providers_own() -> None:
    sieve = Sieve()
    sieve.feed(ASKED)
    assert sieve.usage is not None
    assert sieve.usage.method is Method.MEASURED
    assert math.isclose(sieve.usage.total_tokens, 18)
