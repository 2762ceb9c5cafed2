"""Identical requests at once: one goes to the provider, all get its answer, and nobody spoils it for another."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import pytest

from tests import answers, raw_client
from tests.answers import DONE, EVENTS, JSON, chunk
from tests.comparison import Ways, answer_fields
from tests.conftest import StartProxy
from tests.observation import assert_adds_up, settled, stats, wait_for_stats
from tests.raw_client import Ending, Headers, RawAnswer, RawConnection
from tests.scripted_provider import End, Gate, Generate, Received, Script, Step, steps

pytestmark = pytest.mark.proxy_only

CHAT = "/v1/chat/completions"
WHOLE_BODY = answers.chat_body("One answer for everybody who asked while it was on its way.")
EVENTS_SENT = [*answers.chat_events(["One ", "answer ", "for ", "everybody."]), DONE]
STREAM_BODY = b"".join(EVENTS_SENT)

BOTH_FORMS = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
BOTH_ENDS = pytest.mark.parametrize("close", ["fin", "rst"])
BOTH_TIMES = pytest.mark.parametrize("begun", [False, True], ids=["waiting", "streaming"])


def good(stream: bool) -> bytes:
    """The body that everybody is to get."""
    return STREAM_BODY if stream else WHOLE_BODY


def gated(stream: bool, *, begun: bool, fields: answers.Fields = ()) -> tuple[Gate, Script]:
    """A good answer that waits for a gate: before its head, or in its middle."""
    gate, body = Gate(), good(stream)
    half = len(body) // 2
    head: Step = answers.chunked_head((*(EVENTS if stream else JSON), *fields))
    first: list[Step] = [head, chunk(body[:half]), gate] if begun else [gate, head, chunk(body[:half])]
    return gate, steps(*first, chunk(body[half:]), answers.LAST_CHUNK)


@contextmanager
def crowd(ways: Ways, octets: bytes, size: int) -> Iterator[list[RawConnection]]:
    """*size* connections that have all sent *octets*, the first of them first; the proxy has read them all."""
    with ExitStack() as held:
        connections = [held.enter_context(ways.connect()) for _ in range(size)]
        connections[0].send(octets)
        ways.provider.wait_for(ways.nonce)
        for connection in connections[1:]:
            connection.send(octets)
        ways.settle()
        yield connections


def cut(connection: RawConnection, close: str) -> None:
    """Hang up in one of the two ways."""
    if close == "rst":
        connection.reset()
    else:
        connection.close()


def read_all(connections: Sequence[RawConnection]) -> list[RawAnswer]:
    """What each of them got."""
    return [connection.read_answer("POST") for connection in connections]


def assert_all_got(heard: Sequence[RawAnswer], body: bytes) -> None:
    """Each of them has the whole of *body*."""
    assert [(one.status, one.ending, bytes(one.body)) for one in heard] == [(200, Ending.WHOLE, body)] * len(heard)


def outcomes(heard: Sequence[RawAnswer]) -> Counter[str | None]:
    """How often each ``x-cache`` came."""
    return Counter(one.get("x-cache") for one in heard)


def assert_not_kept(ways: Ways, octets: bytes) -> None:
    """The next such request goes to the provider."""
    before = len(ways.received())
    assert raw_client.exchange(ways.proxy, octets).get("x-cache") == "MISS"
    assert len(ways.received()) == before + 1


def let_go_within(ways: Ways, request: Received, seconds: float) -> bool:
    """Whether the provider sees the end of the connection that *request* came on."""
    return ways.provider.wait_until(lambda: request.link.closed_at is not None, seconds)


# --- everybody stays -------------------------------------------------------------------------------------------------


@BOTH_FORMS
@BOTH_TIMES
def test_200_identical_requests_at_once_make_one_upstream_request(ways: Ways, stream: bool, begun: bool) -> None:
    gate, script = gated(stream, begun=begun)
    ways.plays(script, steps(ways.fixed()))
    octets = ways.chat(stream=stream)
    with crowd(ways, octets, 200) as connections:
        gate.open()
        heard = read_all(connections)
    assert len(ways.received()) == 1
    assert_all_got(heard, good(stream))
    assert outcomes(heard) == {"MISS": 1, "JOINED": 199}
    assert heard[0].get("x-cache") == "MISS"
    first = answer_fields(heard[0])
    assert all(answer_fields(one) == first for one in heard)
    joined = heard[1]
    assert joined.get("x-cache-reason") == "in_flight"
    assert (joined.get("cache-status") or "").startswith("askonce; fwd=miss; collapsed;")


@BOTH_FORMS
def test_identical_requests_that_arrive_in_one_burst_have_one_leader(ways: Ways, stream: bool) -> None:
    gate, script = gated(stream, begun=False)
    ways.plays(script, steps(ways.fixed()))
    octets = ways.chat(stream=stream)
    with ExitStack() as held:
        connections = [held.enter_context(ways.connect()) for _ in range(50)]
        ways.settle()
        for connection in connections:
            connection.send(octets)
        ways.settle()
        gate.open()
        heard = read_all(connections)
    assert len(ways.received()) == 1
    assert_all_got(heard, good(stream))
    assert outcomes(heard) == {"MISS": 1, "JOINED": 49}


def test_a_late_joiner_gets_what_has_passed_before_anything_more_comes(ways: Ways) -> None:
    gate, script = gated(True, begun=True)
    ways.plays(script)
    octets = ways.chat(stream=True)
    with ways.connect() as leader, ways.connect() as late:
        leader.send(octets)
        half = len(STREAM_BODY) // 2
        begun = leader.start_answer("POST")
        begun.read_size(half)
        late.send(octets)
        answer = late.start_answer("POST")
        answer.read_size(half)
        assert bytes(answer.body) == STREAM_BODY[:half]
        gate.open()
        assert_all_got([begun.finish(), answer.finish()], STREAM_BODY)
    assert len(ways.received()) == 1


def test_who_comes_after_the_landing_gets_the_same_octets_from_the_cache(ways: Ways) -> None:
    gate, script = gated(True, begun=False)
    ways.plays(script)
    octets = ways.chat(stream=True)
    with crowd(ways, octets, 3) as connections:
        gate.open()
        assert_all_got(read_all(connections), STREAM_BODY)
    hit = raw_client.exchange(ways.proxy, octets)
    assert hit.get("x-cache") == "HIT"
    assert_all_got([hit], STREAM_BODY)
    assert len(ways.received()) == 1


def test_a_connection_that_joined_can_be_used_again(ways: Ways) -> None:
    gate, script = gated(True, begun=True)
    ways.plays(script)
    octets = ways.chat(stream=True)
    with crowd(ways, octets, 2) as (leader, follower):
        gate.open()
        assert_all_got(read_all([leader, follower]), STREAM_BODY)
        follower.send(octets)
        assert follower.read_answer("POST").get("x-cache") == "HIT"


def test_a_client_of_http_1_0_joins_and_is_spared_the_chunks(ways: Ways) -> None:
    gate, script = gated(True, begun=False)
    ways.plays(script)
    octets = ways.chat(stream=True)
    with ways.connect() as leader, ways.connect() as old:
        leader.send(octets)
        ways.provider.wait_for(ways.nonce)
        old.send(octets.replace(b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", 1))
        ways.settle()
        gate.open()
        assert_all_got([leader.read_answer("POST")], STREAM_BODY)
        answer = old.read_answer("POST")
    assert answer.get("x-cache") == "JOINED"
    assert answer.values("transfer-encoding") == []
    assert bytes(answer.body) == STREAM_BODY


# --- some leave ------------------------------------------------------------------------------------------------------


@BOTH_FORMS
@BOTH_ENDS
@BOTH_TIMES
@pytest.mark.parametrize("who", ["leader", "follower", "all-but-the-last"])
def test_whoever_is_cut_off_those_who_stay_get_everything_and_it_is_kept(
    ways: Ways, stream: bool, close: str, begun: bool, who: str
) -> None:
    gate, script = gated(stream, begun=begun)
    ways.plays(script, steps(ways.fixed()))
    octets = ways.chat(stream=stream)
    with crowd(ways, octets, 6) as connections:
        going = {"leader": connections[:1], "follower": connections[2:3], "all-but-the-last": connections[:-1]}[who]
        if begun:
            for connection in going:
                connection.start_answer("POST").read_size(1)
        left = stats(ways.proxy)["clients_left"]
        for connection in going:
            cut(connection, close)
        # Who only closed its sending side counts as gone after a while.
        wait_for_stats(ways.proxy, lambda shown: shown["clients_left"] == left + len(going))
        assert not ways.received()[0].link.closed_at
        gate.open()
        assert_all_got(read_all([one for one in connections if one not in going]), good(stream))
    assert len(ways.received()) == 1
    hit = raw_client.exchange(ways.proxy, octets)
    assert hit.get("x-cache") == "HIT"
    assert_all_got([hit], good(stream))


@pytest.mark.timed
@BOTH_FORMS
@BOTH_ENDS
@BOTH_TIMES
def test_when_all_are_cut_off_the_provider_sees_it_within_a_second(
    ways: Ways, stream: bool, close: str, begun: bool
) -> None:
    _, script = gated(stream, begun=begun)
    ways.plays(script, steps(answers.whole(good(stream), EVENTS if stream else JSON)))
    octets = ways.chat(stream=stream)
    with crowd(ways, octets, 5) as connections:
        if begun:
            for connection in connections:
                connection.start_answer("POST").read_size(1)
        (request,) = ways.received()
        for connection in connections[:-1]:
            cut(connection, close)
        ways.settle()
        assert request.link.closed_at is None, "let go while somebody was still there"
        cut(connections[-1], close)
        assert let_go_within(ways, request, 1.0), "still held after a second"
    assert_not_kept(ways, octets)


@BOTH_FORMS
def test_an_answer_that_everybody_left_is_finished_and_kept_where_the_operator_wants_it(
    start_proxy: StartProxy, stream: bool
) -> None:
    ways = start_proxy(cache__finish_abandoned="true")
    gate, script = gated(stream, begun=True)
    ways.plays(script, steps(ways.fixed()))
    octets = ways.chat(stream=stream)
    with crowd(ways, octets, 3) as connections:
        for connection in connections:
            connection.start_answer("POST").read_size(1)
            connection.reset()
    wait_for_stats(ways.proxy, lambda shown: shown["clients_left"] == 3)
    (request,) = ways.received()
    assert request.link.closed_at is None
    gate.open()
    shown = settled(ways.proxy, requests=3, fetches=1)
    assert (shown["kept"], shown["unkept"]["abandoned"]) == (1, 0)
    hit = raw_client.exchange(ways.proxy, octets)
    assert hit.get("x-cache") == "HIT"
    assert_all_got([hit], good(stream))


# --- the provider fails ----------------------------------------------------------------------------------------------

HALF = len(WHOLE_BODY) // 2
BREAKS: dict[str, tuple[bool, bytes, bytes]] = {
    "stream": (True, answers.chunked_head(EVENTS) + b"".join(map(chunk, EVENTS_SENT[:3])), b"".join(EVENTS_SENT[:3])),
    "whole-chunked": (False, answers.chunked_head(JSON) + chunk(WHOLE_BODY[:HALF]), WHOLE_BODY[:HALF]),
    "whole-sized": (
        False,
        answers.head(200, (*JSON, ("Content-Length", str(len(WHOLE_BODY))))) + WHOLE_BODY[:HALF],
        WHOLE_BODY[:HALF],
    ),
}


@pytest.mark.parametrize("end", [End.RESET, End.CLOSE])
@pytest.mark.parametrize("name", BREAKS)
def test_an_answer_that_breaks_off_looks_broken_to_every_client_and_is_not_kept(
    ways: Ways, name: str, end: End
) -> None:
    stream, sent, seen = BREAKS[name]
    gate = Gate()
    ways.plays(steps(sent, gate, end), steps(answers.whole(good(stream), EVENTS if stream else JSON)))
    octets = ways.chat(stream=stream)
    with crowd(ways, octets, 10) as connections:
        begun = [connection.start_answer("POST") for connection in connections]
        for answer in begun:
            answer.read_size(len(seen))
        gate.open()
        heard = [answer.finish() for answer in begun]
    assert [bytes(one.body) for one in heard] == [seen] * 10
    assert all(one.ending in (Ending.TRUNCATED, Ending.RESET) for one in heard), [one.ending for one in heard]
    assert outcomes(heard) == {"MISS": 1, "JOINED": 9}
    assert len(ways.received()) == 1
    assert_not_kept(ways, octets)


@pytest.mark.parametrize("end", [End.RESET, End.CLOSE])
def test_a_fetch_that_dies_before_its_head_is_an_error_for_every_client(ways: Ways, end: End) -> None:
    gate = Gate()
    ways.plays(steps(gate, end), steps(ways.fixed()))
    octets = ways.chat()
    with crowd(ways, octets, 10) as connections:
        gate.open()
        heard = read_all(connections)
    assert {one.status for one in heard} == {502}
    assert {(one.get("x-cache"), one.get("x-cache-reason")) for one in heard} == {("ERROR", "upstream_broke")}
    assert {json.loads(one.body)["error"]["code"] for one in heard} == {"upstream_broke"}
    assert len(ways.received()) == 1
    assert_not_kept(ways, octets)


@pytest.mark.parametrize("status", [400, 429, 500, 503])
def test_an_error_of_the_providers_is_passed_to_every_client_and_kept_for_nobody(ways: Ways, status: int) -> None:
    gate = Gate()
    body = b'{"error":{"message":"no","type":"server_error","param":null,"code":null}}'
    fields: answers.Fields = (
        *JSON,
        ("x-request-id", "req_failed"),
        ("retry-after-ms", "25"),
        ("x-should-retry", "true"),
    )
    ways.plays(steps(gate, answers.whole(body, fields, status=status)), steps(ways.fixed()))
    octets = ways.chat()
    with crowd(ways, octets, 20) as connections:
        gate.open()
        heard = read_all(connections)
    assert [(one.status, one.ending, bytes(one.body)) for one in heard] == [(status, Ending.WHOLE, body)] * 20
    assert all(one.get("retry-after-ms") == "25" and one.get("x-request-id") == "req_failed" for one in heard)
    assert outcomes(heard) == {"MISS": 1, "JOINED": 19}
    assert len(ways.received()) == 1
    assert_not_kept(ways, octets)


# --- slow followers --------------------------------------------------------------------------------------------------


def filler(size: int) -> Generate:
    """Comments of 64 KB, each its own, *size* octets in all."""
    return Generate(lambda number: chunk(_comment(number)), size // 65536)


def _comment(number: int) -> bytes:
    return b": %060d%s\n\n" % (number, b"x" * (65536 - 64))


def filled(size: int) -> bytes:
    """What :func:`filler` sends."""
    return b"".join(_comment(number) for number in range(size // 65536))


def test_a_follower_that_reads_nothing_holds_up_nobody_and_loses_nothing(ways: Ways) -> None:
    size = 6 * 1024 * 1024
    ways.plays(
        steps(answers.chunked_head(EVENTS), gate := Gate(), filler(size), chunk(STREAM_BODY), answers.LAST_CHUNK)
    )
    octets = ways.chat(stream=True)
    body = filled(size) + STREAM_BODY
    with ways.connect() as leader, ways.connect() as other, ways.connect(receive_buffer=4096) as stuck:
        leader.send(octets)
        ways.provider.wait_for(ways.nonce)
        for follower in (other, stuck):
            follower.send(octets)
        ways.settle()
        gate.open()
        assert_all_got(read_all([leader, other]), body)
        # Everybody else is done, and the answer is kept: it can be had from the cache while this one still stands.
        wait_for_stats(ways.proxy, lambda shown: shown["in_flight"] == 0)
        assert raw_client.exchange(ways.proxy, octets).get("x-cache") == "HIT"
        assert_all_got(read_all([stuck]), body)
    assert len(ways.received()) == 1


def test_a_follower_that_falls_too_far_behind_is_cut_off_and_the_others_are_not(start_proxy: StartProxy) -> None:
    ways = start_proxy(
        cache__max_entry_bytes="65536", flights__max_lag_bytes=str(1 << 20), flights__max_lead_bytes=str(256 << 10)
    )
    size = 48 * 1024 * 1024
    ways.plays(steps(answers.chunked_head(EVENTS), gate := Gate(), filler(size), answers.LAST_CHUNK))
    octets = ways.chat(stream=True)
    with ways.connect() as leader, ways.connect(receive_buffer=4096) as stuck:
        leader.send(octets)
        ways.provider.wait_for(ways.nonce)
        stuck.send(octets)
        ways.settle()
        assert ways.process is not None
        before = ways.process.resident_bytes()
        gate.open()
        answer = leader.read_answer("POST", keep=False)
        grown = ways.process.resident_bytes() - before
        assert (answer.status, answer.ending, answer.size) == (200, Ending.WHOLE, size)
        assert grown < 24 * 1024 * 1024, f"grew by {grown} bytes"
        late = stuck.start_answer("POST", keep=False).finish()
    assert late.ending in (Ending.TRUNCATED, Ending.RESET)
    assert late.size < size
    shown = settled(ways.proxy, requests=2, fetches=1)
    assert (shown["misses"], shown["errors"], shown["reasons"]["lagged"]) == (1, 1, 1)
    assert shown["unkept"]["too_large"] == 1


def test_a_lone_slow_reader_holds_the_provider_back_and_loses_nothing(start_proxy: StartProxy) -> None:
    ways = start_proxy(cache__max_entry_bytes="65536", flights__max_lag_bytes="65536")
    size = 48 * 1024 * 1024
    ways.plays(steps(answers.chunked_head(EVENTS), filler(size), answers.LAST_CHUNK))
    with ways.connect(receive_buffer=4096) as client:
        client.send(ways.chat(stream=True))
        (request,) = ways.provider.wait_for(ways.nonce)
        answer = client.start_answer("POST", keep=False)
        # It stops when every buffer between us is full: nothing more is sent, however long we look.
        sent = -1
        while sent < len(request.sent):
            sent = len(request.sent)
            ways.provider.wait_until(lambda: len(request.sent) > sent, 0.3)  # noqa: B023
        assert sent * 65536 < 24 * 1024 * 1024
        assert answer.finish().size == size
        assert answer.ending is Ending.WHOLE


# --- who may join whom -----------------------------------------------------------------------------------------------

OTHERS: dict[str, tuple[dict[str, object], Headers, str]] = {
    "another-form": ({"stream": True}, (), "sk-contract"),
    "include-usage": ({"stream": True, "stream_options": {"include_usage": True}}, (), "sk-contract"),
    "another-encoding": ({}, (("Accept-Encoding", "gzip"),), "sk-contract"),
    "another-tenant": ({}, (), "sk-another"),
    "another-namespace": ({}, (("x-askonce-namespace", "mine"),), "sk-contract"),
    "another-organisation": ({}, (("OpenAI-Organization", "org-2"),), "sk-contract"),
    "another-field": ({"seed": 1}, (), "sk-contract"),
    "no-cache": ({}, (("Cache-Control", "no-cache"),), "sk-contract"),
    "no-store": ({}, (("Cache-Control", "no-store"),), "sk-contract"),
    "opted-out": ({}, (("x-askonce-cache", "off"),), "sk-contract"),
}


def keyed(octets: bytes, key: str) -> bytes:
    """The same request with another credential."""
    return octets.replace(b"Bearer sk-contract", b"Bearer " + key.encode())


@pytest.mark.parametrize("name", OTHERS)
def test_who_asks_otherwise_does_not_join_and_does_not_wait(ways: Ways, name: str) -> None:
    asked, headers, key = OTHERS[name]
    gate, script = gated(False, begun=False)
    mine = answers.whole(b"".join(EVENTS_SENT) if asked.get("stream") else answers.chat_body("Mine."), EVENTS)
    ways.plays(script, steps(mine))
    other = keyed(ways.post(CHAT, ways.chat_body(**asked), headers=headers), key)
    with crowd(ways, ways.chat(), 2) as connections:
        # The first two still wait at the gate.
        answer = raw_client.exchange(ways.proxy, other)
        assert answer.get("x-cache") in ("MISS", "BYPASS")
        assert answer.status == 200
        assert len(ways.received()) == 2
        gate.open()
        assert_all_got(read_all(connections), WHOLE_BODY)
    assert len(ways.received()) == 2


def test_streams_with_and_without_usage_do_not_join_each_other(ways: Ways) -> None:
    gate, script = gated(True, begun=False)
    ways.plays(script, steps(answers.whole(STREAM_BODY, EVENTS)))
    with crowd(ways, ways.chat(stream=True), 1) as connections:
        with_usage = ways.chat(stream=True, stream_options={"include_usage": True})
        assert raw_client.exchange(ways.proxy, with_usage).get("x-cache") == "MISS"
        gate.open()
        assert_all_got(read_all(connections), STREAM_BODY)
    assert len(ways.received()) == 2


TELEMETRY = (("User-Agent", "openai/2.0"), ("x-stainless-retry-count", "1"), ("traceparent", "00-1-2-01"))


@pytest.mark.parametrize(
    ("headers", "asked"),
    [(TELEMETRY, {}), ((), {"user": "somebody", "service_tier": "flex"}), ((("Cache-Control", "max-age=60"),), {})],
    ids=["telemetry", "fields-left-out", "max-age"],
)
def test_what_does_not_change_the_answer_does_not_keep_from_joining(
    ways: Ways, headers: Headers, asked: dict[str, object]
) -> None:
    gate, script = gated(False, begun=False)
    ways.plays(script)
    with crowd(ways, ways.chat(), 1) as (leader,), ways.connect() as follower:
        follower.send(ways.post(CHAT, ways.chat_body(**asked), headers=headers))
        ways.settle()
        gate.open()
        heard = read_all([leader, follower])
    assert_all_got(heard, WHOLE_BODY)
    assert outcomes(heard) == {"MISS": 1, "JOINED": 1}


def test_a_request_with_no_cache_leads_others_who_may_join_it(ways: Ways) -> None:
    gate, script = gated(False, begun=False)
    ways.plays(script, steps(ways.fixed()))
    with crowd(ways, ways.chat(headers=(("Cache-Control", "no-cache"),)), 1) as (leader,), ways.connect() as follower:
        follower.send(ways.chat())
        ways.settle()
        gate.open()
        heard = read_all([leader, follower])
    assert_all_got(heard, WHOLE_BODY)
    assert [(one.get("x-cache"), one.get("x-cache-reason")) for one in heard] == [
        ("MISS", "no_cache"),
        ("JOINED", "in_flight"),
    ]
    assert len(ways.received()) == 1


def test_requests_with_no_cache_each_ask_for_themselves(ways: Ways) -> None:
    gate, script = gated(False, begun=False)
    ways.plays(script)
    octets = ways.chat(headers=(("Cache-Control", "no-cache"),))
    with crowd(ways, octets, 5) as connections:
        ways.provider.wait_for(ways.nonce, count=5)
        gate.open()
        heard = read_all(connections)
    assert outcomes(heard) == {"MISS": 5}


def test_a_request_with_no_store_is_joined_by_nobody(ways: Ways) -> None:
    gate, script = gated(False, begun=False)
    ways.plays(script, steps(ways.fixed()))
    with crowd(ways, ways.chat(headers=(("Cache-Control", "no-store"),)), 1) as connections:
        assert raw_client.exchange(ways.proxy, ways.chat()).get("x-cache") == "MISS"
        assert len(ways.received()) == 2
        gate.open()
        assert outcomes(read_all(connections)) == {"BYPASS": 1}


@BOTH_FORMS
def test_identical_requests_that_cannot_be_kept_never_queue_behind_each_other(ways: Ways, stream: bool) -> None:
    gate, script = gated(stream, begun=False)
    ways.plays(script)
    with crowd(ways, ways.chat(temperature=1, stream=stream), 10) as connections:
        # All ten stand at the gate at once: none waited for another.
        ways.provider.wait_for(ways.nonce, count=10)
        gate.open()
        heard = read_all(connections)
    assert_all_got(heard, good(stream))
    assert outcomes(heard) == {"BYPASS": 10}
    assert {one.get("x-cache-reason") for one in heard} == {"temperature"}


# --- what is not for everybody ---------------------------------------------------------------------------------------


@BOTH_FORMS
@BOTH_TIMES
def test_the_cookies_of_an_answer_are_for_the_leader_alone(ways: Ways, stream: bool, begun: bool) -> None:
    cookies: answers.Fields = (("Set-Cookie", "sid=leaders-own; HttpOnly"), ("set-cookie", "cf=second"))
    gate, script = gated(stream, begun=begun, fields=cookies)
    ways.plays(script)
    with crowd(ways, ways.chat(stream=stream), 5) as connections:
        gate.open()
        leader, *followers = read_all(connections)
    assert leader.values("set-cookie") == [b"sid=leaders-own; HttpOnly", b"cf=second"]
    assert [one.values("set-cookie") for one in followers] == [[]] * 4
    assert b"leaders-own" not in b"".join(line for one in followers for line in one.header_lines)


def for_origin(origin: str, gate: Gate | None = None, *, vary: str = "Origin") -> Script:
    """An answer made for pages of *origin*."""
    fields: answers.Fields = (*JSON, ("Vary", vary), ("Access-Control-Allow-Origin", origin))
    answer = answers.whole(answers.chat_body(f"For {origin}."), fields)
    return steps(*([gate] if gate else []), answer)


def test_an_answer_that_varies_by_origin_is_not_given_to_another_origin(start_proxy: StartProxy) -> None:
    ways = start_proxy()
    gate = Gate()
    ways.plays(for_origin("https://a", gate), for_origin("https://b"))
    mine = ways.chat(headers=(("Origin", "https://a"),))
    theirs = ways.chat(headers=(("Origin", "https://b"),))
    with crowd(ways, mine, 2) as (leader, follower), ways.connect() as stranger:
        # Until the head is there nobody knows that the answer varies: the stranger waits for it, then asks anew.
        stranger.send(theirs)
        ways.settle()
        assert len(ways.received()) == 1
        gate.open()
        heard = read_all([leader, follower, stranger])
    assert [one.get("access-control-allow-origin") for one in heard] == ["https://a", "https://a", "https://b"]
    assert [one.get("x-cache") for one in heard] == ["MISS", "JOINED", "MISS"]
    assert len(ways.received()) == 2
    again = [raw_client.exchange(ways.proxy, octets) for octets in (mine, theirs)]
    assert [one.get("x-cache") for one in again] == ["HIT", "HIT"]
    assert [one.get("access-control-allow-origin") for one in again] == ["https://a", "https://b"]
    # Now it is known: whoever comes from elsewhere does not wait at all.
    gate = Gate()
    ways.plays(for_origin("https://a", gate), for_origin("https://b"))
    mine = ways.chat(headers=(("Origin", "https://a"),), turn=2)
    theirs = ways.chat(headers=(("Origin", "https://b"),), turn=2)
    with ways.connect() as leader:
        leader.send(mine)
        ways.provider.wait_for(ways.nonce, count=3)
        assert raw_client.exchange(ways.proxy, theirs).get("access-control-allow-origin") == "https://b"
        gate.open()
        assert leader.read_answer("POST").get("access-control-allow-origin") == "https://a"


def test_an_answer_that_varies_by_everything_is_for_its_leader_alone(start_proxy: StartProxy) -> None:
    ways = start_proxy()
    gate = Gate()
    ways.plays(for_origin("https://a", gate, vary="*"), for_origin("https://b", vary="*"))
    with crowd(ways, ways.chat(), 3) as connections:
        gate.open()
        heard = read_all(connections)
    assert outcomes(heard) == {"MISS": 3}
    assert len(ways.received()) == 3
    assert settled(ways.proxy, requests=3, fetches=3)["unkept"]["varies"] == 3


def test_an_answer_that_varies_by_encoding_is_for_all_who_accept_the_same(ways: Ways) -> None:
    gate = Gate()
    ways.plays(for_origin("*", gate, vary="Accept-Encoding"))
    with crowd(ways, ways.chat(headers=(("Accept-Encoding", "gzip, br"),)), 3) as connections:
        gate.open()
        assert outcomes(read_all(connections)) == {"MISS": 1, "JOINED": 2}


# --- many at once ----------------------------------------------------------------------------------------------------


def test_60_different_streams_at_once_each_reach_their_own_crowd(ways: Ways) -> None:
    with ExitStack() as held:
        connections = [[held.enter_context(ways.connect()) for _ in range(3)] for _ in range(60)]
        for turn in range(3):
            for number, group in enumerate(connections):
                group[turn].send(ways.chat(stream=True, number=number))
        heard = [read_all(group) for group in connections]
    for answers_of_group in heard:
        assert len({bytes(one.body) for one in answers_of_group}) == 1
        assert all((one.status, one.ending) == (200, Ending.WHOLE) for one in answers_of_group)
    assert len({bytes(group[0].body) for group in heard}) == 60
    assert len(ways.received()) == 60


@BOTH_ENDS
def test_clients_that_come_and_go_leave_nothing_in_the_air(start_proxy: StartProxy, close: str) -> None:
    ways = start_proxy()
    process = ways.process
    assert process is not None

    def own_descriptors() -> int:
        # Idle connections to the provider are kept on purpose.
        return process.open_descriptors() - ways.provider.open_links()

    ways.settle()
    at_rest = own_descriptors()
    gate, script = gated(True, begun=True)
    ways.plays(script)
    with crowd(ways, ways.chat(stream=True), 20) as connections:
        for connection in connections[:15]:
            cut(connection, close)
        wait_for_stats(ways.proxy, lambda shown: shown["clients_left"] == 15)
        gate.open()
        assert_all_got(read_all(connections[15:]), STREAM_BODY)
    shown = settled(ways.proxy, requests=20, fetches=1)
    assert_adds_up(shown)
    assert (shown["misses"], shown["joined"], shown["clients_left"]) == (1, 19, 15)
    assert falls_to(own_descriptors, at_rest), f"{own_descriptors()} open, {at_rest} at the start"


def falls_to(read: Callable[[], int], limit: int, *, timeout_s: float = 5.0) -> bool:
    """Whether a number that can only be looked at came down to *limit* in time."""
    deadline = time.monotonic() + timeout_s
    while read() > limit:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
