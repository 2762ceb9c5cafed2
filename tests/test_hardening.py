"""What hostile or clumsy peers try: to hide a request in another, to read another's answers, to hold our memory."""

import asyncio
import gc
import itertools
import re
import signal
import tracemalloc

import pytest

from proxy import policy
from proxy.call import Call, Candidate, Repeat
from proxy.headers import Fields
from proxy.model import RawFields, Reason
from proxy.providers.upstream import Upstream
from proxy.reception import MAX_REMEMBERED_BYTES, REMEMBERED_OVERHEAD_BYTES, Reception
from proxy.settings import CacheSettings, UpstreamSettings
from tests import answers, raw_client
from tests.comparison import Ways
from tests.conftest import StartProxy
from tests.contract.test_w_websocket import REALTIME, handshake
from tests.plain_dialect import PlainDialect
from tests.raw_client import Ending, RawAnswer, RawConnection
from tests.scripted_provider import End, Gate, Received, ScriptedProvider, steps
from tests.test_wire import RECEIPT, House
from tests.test_wire import request as wire_request

WORD = "hiddenword"
LARGE = answers.chat_body("word " * 600_000)
"""3 MB: more than the buffers between the proxy and a client together."""


# --- What hides behind a handshake -----------------------------------------------------------------------------------


@pytest.mark.proxy_only
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_handshake_that_announces_a_body_hides_no_request(start_proxy: StartProxy, framing: str) -> None:
    ways = start_proxy()
    hidden = ways.request("GET", "/v1/hidden", (("x-hidden", WORD),))
    announced = ("Content-Length", str(len(hidden))) if framing == "length" else ("Transfer-Encoding", "chunked")
    body = hidden if framing == "length" else answers.chunks(hidden, 32)
    # A provider that refuses the handshake, and does not wait for a body to do so.
    ways.provider.on(REALTIME, steps(answers.whole(b"{}", status=426), wait_for_body=False))
    with ways.connect(timeout_s=5) as connection:
        connection.send(handshake(ways, REALTIME, (announced,)) + body)
        connection.read_answer()
        for number in range(3):
            with ways.connect(timeout_s=5) as other:
                other.send(ways.request("GET", "/v1/models", (("x-number", str(number)),)))
                assert own(ways, other.read_answer(), f"x-number: {number}").target == b"/v1/models"
    assert [request.target for request in ways.received() if request.target == b"/v1/hidden"] == []
    for request in ways.provider.requests(REALTIME):
        assert (bytes(request.body), request.complete) in ((hidden, True), (b"", True))


def own(ways: Ways, answer: RawAnswer, mark: str) -> Received:
    """The one request with *mark* that reached the provider, which *answer* was given to."""
    assert answer.status == 200
    (request,) = ways.provider.requests(mark)
    assert answer.get("x-request-id") == f"req_{request.number:08d}"
    return request


# --- Where a request starts ------------------------------------------------------------------------------------------


@pytest.mark.proxy_only
@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("scheme", [b"Bearer", b"X-OTHER"])
def test_the_rest_of_a_head_is_never_read_as_a_method(ways: Ways, scheme: bytes, together: bool) -> None:
    gate = Gate()
    ways.plays(steps(gate, ways.fixed()), ways.fixed())
    first = ways.request("GET", "/v1/first")
    start = ways.request("GET", "/v1/second")[:-2] + b"Authorization: "
    with ways.connect() as connection:
        if together:
            connection.send(first + start)
        else:
            connection.send(first)
            ways.provider.wait_for(ways.nonce)
            connection.send(start)
        ways.provider.wait_for(ways.nonce)
        ways.settle()
        gate.open()
        assert connection.read_answer().status == 200
        ways.settle()
        connection.send(scheme + b" sk-of-the-second\r\n\r\n")
        assert connection.read_answer().status == 200
    second = ways.received()[-1]
    assert (second.method, second.target) == ("GET", b"/v1/second")
    assert second.values("authorization") == [scheme + b" sk-of-the-second"]


@pytest.mark.proxy_only
@pytest.mark.parametrize("together", [True, False])
def test_a_remembered_request_inside_a_head_is_not_answered(ways: Ways, together: bool) -> None:
    gate = Gate()
    ways.plays(ways.fixed(), steps(gate, ways.fixed()), ways.fixed())
    known = ways.chat()
    learn(ways, known)
    first, start = ways.request("GET", "/v1/first"), b"POST /v1/other HTTP/1.1\r\nx-line: "
    with ways.connect() as connection:
        if together:
            connection.send(first + start)
        else:
            connection.send(first)
            ways.provider.wait_for(ways.nonce, count=2)
            connection.send(start)
        ways.provider.wait_for(ways.nonce, count=2)
        ways.settle()
        gate.open()
        assert connection.read_answer().status == 200
        ways.settle()
        connection.send(known)
        assert connection.read_answer("POST").get("x-cache") != "HIT"
        other = ways.received()[-1]
        assert (other.method, other.target) == ("POST", b"/v1/other")
        assert other.values("x-line") == [b"POST /v1/chat/completions HTTP/1.1"]
        # Where a request does start, it is answered as ever.
        connection.send(known)
        assert connection.read_answer("POST").get("x-cache") == "HIT"
    assert len(ways.received()) == 3


@pytest.mark.proxy_only
def test_an_odd_method_is_known_behind_a_request_with_a_body(ways: Ways) -> None:
    ways.plays(ways.fixed())
    with ways.connect() as connection:
        connection.send(ways.request("POST", "/v1/files", body=b"octets"))
        assert connection.read_answer("POST").status == 200
        ways.settle()
        connection.send(ways.request("BREW", "/v1/pot"))
        assert connection.read_answer("BREW").status == 200
    assert ways.received()[-1].method == "BREW"


def learn(ways: Ways, octets: bytes) -> None:
    """Ask until *octets* are answered the shortest way there is."""
    with ways.connect() as connection:
        for _ in range(4):
            connection.send(octets)
            assert connection.read_answer("POST").status == 200
            ways.settle()


# --- 100 Continue ----------------------------------------------------------------------------------------------------


@pytest.mark.proxy_only
@pytest.mark.parametrize("taught_at_once", [True, False])
def test_who_waits_for_100_continue_gets_it_every_time(ways: Ways, taught_at_once: bool) -> None:
    ways.plays(ways.fixed())
    octets = ways.chat(headers=(("Expect", "100-continue"),))
    head_end = octets.index(b"\r\n\r\n") + 4
    if taught_at_once:
        learn(ways, octets)
    outcomes = []
    for _ in range(5):
        with ways.connect(timeout_s=5) as connection:
            connection.send(octets[:head_end])
            assert connection.read_head().startswith(b"HTTP/1.1 100 ")
            connection.send(octets[head_end:])
            outcomes.append(connection.read_answer("POST").get("x-cache"))
        ways.settle()
    assert outcomes == ["HIT" if taught_at_once else "MISS", *["HIT"] * 4]


# --- How much is remembered ------------------------------------------------------------------------------------------


def test_the_wire_counts_the_answers_as_they_are_given() -> None:
    house = House(max_bytes=400_000)
    # The store holds a coded body; what is given is many times as long.
    kept = house.entry(b"coded")
    given = b"y" * 20_000

    def teach(number: int, answer: bytes) -> None:
        repeat = Repeat(entry=kept, head_at=lambda _: b"", receipt_at=lambda _: RECEIPT, generation=0)
        house.wire.remember(wire_request(number), repeat, lambda _: answer)

    for number in range(50):
        teach(number, given)
    held = [number for number in range(50) if house.wire.find(wire_request(number)) is not None]
    assert held
    assert held == list(range(50 - len(held), 50))
    assert 2 * len(given) * len(held) <= 400_000
    teach(50, b"y" * 400_000)
    assert house.wire.find(wire_request(50)) is None
    assert len(house.wire) == len(held)


DIALECT = PlainDialect()


def reception() -> Reception:
    """A reception with default settings."""
    return Reception(CacheSettings(), secret=b"secret", trusted=lambda _: False)


def call(body: bytes, *, fields: RawFields = (), target: bytes = b"/v1/plain") -> Call:
    """A call on a cached path."""
    return Call(method=b"POST", target=target, fields=Fields(fields), body=body, dialect=DIALECT)


def taught(place: Reception, asked: Call) -> Candidate:
    """What *asked* is, now that it was a hit."""
    candidate = asyncio.run(place.consider(asked, DIALECT))
    place.remember(asked, DIALECT, candidate)
    return candidate


@pytest.mark.parametrize("long", ["tag", "key", "target", "body"])
def test_the_memory_of_requests_counts_every_octet_it_holds(long: str) -> None:
    place, padding, number = reception(), "p" * 400_000, 60

    def asked(at: int) -> Call:
        told = f"{at}{padding}".encode()
        match long:
            case "tag":
                return call(b'{"model": "m"}', fields=((b"X-Askonce-Tag", told),))
            case "key":
                return call(b'{"model": "m"}', fields=((b"x-gateway-api-key", told),))
            case "target":
                return call(b'{"model": "m"}', target=b"/v1/plain?" + told)
            case _:
                return call(b'{"model": "m", "prompt": "%b"}' % told)

    given = [taught(place, asked(at)) for at in range(number)]
    held = [at for at in range(number) if asyncio.run(place.consider(asked(at), DIALECT)) is given[at]]
    assert held
    assert held == list(range(number - len(held), number))
    assert len(held) * len(padding) <= MAX_REMEMBERED_BYTES


def test_what_was_read_in_a_request_is_not_kept_with_it() -> None:
    place, bodies = reception(), [b'{"model": "m", "junk": [%b%d]}' % (b"[]," * 50_000, at) for at in range(6)]
    taught(place, call(b'{"model": "m"}'))
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for body in bodies:
            taught(place, call(body))
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown <= sum(map(len, bodies)) + (len(bodies) + 1) * REMEMBERED_OVERHEAD_BYTES


# --- Connections and logs --------------------------------------------------------------------------------------------


def test_who_leaves_while_a_connection_settles_leaves_none_behind(fresh_provider: ScriptedProvider) -> None:
    async def play() -> tuple[str, bool]:
        upstream = Upstream(UpstreamSettings(url=fresh_provider.origin))
        fields = Fields(((b"Host", b"x"), (b"Content-Length", b"2")))
        async with await upstream.ask(b"POST", b"/v1/files", fields, b"{}") as answer:
            await answer.flow(lambda _: True)
        second = asyncio.get_running_loop().create_task(upstream.ask(b"POST", b"/v1/files", fields, b"{}"))
        await asyncio.sleep(0)
        during = repr(upstream)
        second.cancel()
        await asyncio.wait([second], timeout=5)
        return during, await asyncio.to_thread(fresh_provider.wait_until, lambda: fresh_provider.open_links() == 0, 3)

    during, closed = asyncio.run(play())
    assert "0 idle, 0 in use" in during
    assert closed
    assert len(fresh_provider.requests()) == 1


GARBLED = {
    "head": steps(b"%b is no status line\r\n\r\n" % WORD.encode(), End.CLOSE),
    "field": steps(b"HTTP/1.1 200 OK\r\n%b without a colon\r\n\r\n" % WORD.encode(), End.CLOSE),
    "chunk": steps(answers.chunked_head(answers.EVENTS), b'data: {"said": "%b"}\n\n\r\n' % WORD.encode(), End.CLOSE),
    "later-chunk": steps(
        answers.chunked_head(answers.EVENTS) + answers.chunk(b"data: {}\n\n"), b"%b\r\n" % WORD.encode(), End.CLOSE
    ),
}


@pytest.mark.proxy_only
@pytest.mark.parametrize("kind", GARBLED)
def test_octets_of_a_garbled_answer_stand_neither_in_the_log_nor_in_the_error(
    start_proxy: StartProxy, kind: str
) -> None:
    ways = start_proxy()
    ways.plays(GARBLED[kind])
    for octets in (ways.chat(stream=True), ways.chat(), ways.request("GET", "/v1/models")):
        answer = raw_client.exchange(ways.proxy, octets)
        assert answer.status == 502 or answer.ending is not Ending.WHOLE
        assert WORD.encode() not in bytes(answer.body)
        assert WORD not in str(answer.headers)
    assert ways.process is not None
    ways.process.stop()
    assert WORD not in ways.process.said()


@pytest.mark.proxy_only
@pytest.mark.parametrize("settled", [True, False])
def test_sigterm_ends_at_once_where_clients_have_asked_nothing(start_proxy: StartProxy, settled: bool) -> None:
    ways = start_proxy()
    assert ways.process is not None
    ways.settle()
    connections = [ways.connect() for _ in range(200)]
    try:
        if settled:
            ways.settle()
        ways.process.terminate()
        assert ways.process.wait(5) in (0, -signal.SIGTERM)
    finally:
        for connection in connections:
            connection.close()


# --- Framing ---------------------------------------------------------------------------------------------------------


@pytest.mark.proxy_only
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/files"])
@pytest.mark.parametrize(
    "codings", [("gzip, chunked",), ("gzip", "chunked"), ("chunked, chunked",), ("chunked", "chunked")]
)
def test_a_transfer_coding_other_than_chunked_is_refused(ways: Ways, path: str, codings: tuple[str, ...]) -> None:
    head = ways.request("POST", path, tuple(("Transfer-Encoding", coding) for coding in codings))
    with ways.connect(timeout_s=5) as connection:
        connection.send(head + answers.chunks(b"{}", 10))
        answer = connection.read_answer("POST")
        # Some of these are refused by the parser already.
        assert answer.status == 501 if codings == ("gzip, chunked",) else answer.status in (400, 501)
        assert connection.ended() is not None
    ways.settle()
    assert ways.received() == []


@pytest.mark.proxy_only
def test_chunks_alone_go_through(ways: Ways) -> None:
    head = ways.request("POST", "/v1/files", (("Transfer-Encoding", "chunked"),))
    _, through = ways.alike(head + answers.chunks(b"octets", 4))
    assert bytes(through.only.body) == b"octets"


# --- Whose answers ---------------------------------------------------------------------------------------------------


@pytest.mark.proxy_only
@pytest.mark.parametrize(
    "name",
    [
        "x-goog-api-key",
        "Ocp-Apim-Subscription-Key",
        "x-litellm-api-key",
        "Helicone-Auth",
        "Authorization",
        "api-key",
        "x-api-key",
        "apikey",
        "X-Amz-Security-Token",
        "cf-aig-authorization",
    ],
)
def test_clients_with_different_credentials_never_share_answers(ways: Ways, name: str) -> None:
    ways.plays(ways.fixed())
    body = ways.chat_body()

    def asked(key: str) -> bytes:
        fields = (("Content-Type", "application/json"), (name, key))
        return raw_client.request("POST", "/v1/chat/completions", fields, body)

    seen = []
    # Twice each: the short ways must know it too.
    for key in ("one", "one", "one", "other", "other", "other", "one", "other"):
        seen.append(ways.through(asked(key)).answer.get("x-cache"))
        ways.settle()
    assert seen == ["MISS", "HIT", "HIT", "MISS", "HIT", "HIT", "HIT", "HIT"]
    bare = raw_client.request("POST", "/v1/chat/completions", (("Content-Type", "application/json"),), body)
    assert ways.through(bare).answer.get("x-cache") == "MISS"


@pytest.mark.proxy_only
def test_a_field_that_ends_at_the_proxy_poisons_nobodys_answers(ways: Ways) -> None:
    beta = ("OpenAI-Beta", "assistants=v2")
    # The provider never sees this client's beta: its answer is not the one for those whose beta goes up.
    first = raw_client.exchange(ways.proxy, ways.chat(headers=(beta, ("Connection", "keep-alive, openai-beta"))))
    second = raw_client.exchange(ways.proxy, ways.chat(headers=(beta,)))
    assert (first.get("x-cache"), second.get("x-cache")) == ("MISS", "MISS")
    assert [request.values("openai-beta") for request in ways.received()] == [[], [b"assistants=v2"]]


@pytest.mark.proxy_only
def test_an_idempotency_key_separates_nobody(ways: Ways) -> None:
    ways.plays(ways.fixed())
    seen = []
    for number in range(3):
        octets = ways.chat(headers=(("Idempotency-Key", f"askonce-test-{number}"),))
        seen.append(ways.through(octets).answer.get("x-cache"))
        ways.settle()
    assert seen == ["MISS", "HIT", "HIT"]


# --- Large answers ---------------------------------------------------------------------------------------------------


@pytest.mark.proxy_only
@pytest.mark.parametrize("framing", [raw_client.Framing.LENGTH, raw_client.Framing.CHUNKED])
def test_a_large_hit_is_whole_for_clients_that_read_late(ways: Ways, framing: raw_client.Framing) -> None:
    chunked = framing is raw_client.Framing.CHUNKED
    ways.plays(answers.chunked(LARGE, size=65536) if chunked else answers.whole(LARGE))
    kept(ways, ways.chat())
    connections: list[RawConnection] = []
    try:
        for number in range(20):
            connections.append(ways.connect(receive_buffer=16384))
            # Each in its own words, so that no two are given the very same octets.
            connections[-1].send(ways.chat(headers=(("User-Agent", f"client-{number}"),)))
        ways.settle()
        for connection, again in itertools.product(connections, (True, False)):
            answer = connection.read_answer("POST")
            assert (answer.get("x-cache"), answer.framing, answer.ending) == ("HIT", framing, Ending.WHOLE)
            assert answer.body == LARGE
            if again:
                connection.send(ways.chat())
    finally:
        for connection in connections:
            connection.close()
    assert len(ways.received()) == 1


def kept(ways: Ways, octets: bytes) -> None:
    """Ask until the answer comes from the cache: a large one takes a moment to be read."""
    for _ in range(50):
        if ways.through(octets, keep=False).answer.get("x-cache") == "HIT":
            return
        ways.settle()
    pytest.fail("the answer was never kept")


@pytest.mark.proxy_only
def test_a_large_hit_is_whole_on_http_1_0(ways: Ways) -> None:
    ways.plays(answers.chunked(LARGE, size=65536))
    octets = ways.chat()
    kept(ways, octets)
    answer = ways.through(octets.replace(b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", 1)).answer
    assert (answer.get("x-cache"), answer.ending, answer.values("transfer-encoding")) == ("HIT", Ending.WHOLE, [])
    assert answer.body == LARGE


# --- Own pages -------------------------------------------------------------------------------------------------------

OWN = pytest.mark.parametrize("path", ["/stats", "/healthz", "/_askonce/stats", "/_askonce/healthz", "/stats?x=1"])


def asked_as(ways: Ways, path: str, host: str) -> RawAnswer:
    """The answer to a GET that names *host*; PORT stands for the proxy's port."""
    named = host.replace("PORT", str(ways.proxy[1]))
    octets = f"GET {path} HTTP/1.1\r\nHost: {named}\r\nx-nonce: {ways.nonce}\r\n\r\n".encode()
    return raw_client.exchange(ways.proxy, octets)


@pytest.mark.proxy_only
@OWN
@pytest.mark.parametrize("host", ["localhost", "localhost:PORT", "LocalHost:PORT", "127.0.0.1:PORT", "[::1]:PORT"])
def test_an_own_page_is_shown_under_this_machines_names(ways: Ways, path: str, host: str) -> None:
    assert asked_as(ways, path, host).status == 200
    assert ways.received() == []


@pytest.mark.proxy_only
@pytest.mark.parametrize("host", ["evil.example", "api.openai.com", "localhost:PORT"])
def test_what_is_passed_on_goes_under_any_name(ways: Ways, host: str) -> None:
    assert asked_as(ways, "/v1/models", host).status == 200
    assert len(ways.received()) == 1


# --- Content codings -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("codings", [(b"identity", b"gzip"), (b"gzip", b"identity"), (b"", b"br"), (b"gzip", b"gzip")])
def test_every_line_that_names_a_content_coding_counts(codings: tuple[bytes, ...]) -> None:
    fields = Fields(tuple((b"Content-Encoding", coding) for coding in codings))
    assert policy.unfit_headers(fields) is Reason.ENCODED_BODY


@pytest.mark.proxy_only
@pytest.mark.parametrize("codings", [("identity", "gzip"), ("gzip", "identity")])
def test_a_request_with_two_lines_of_codings_is_passed_on_and_never_kept(ways: Ways, codings: tuple[str, ...]) -> None:
    ways.plays(ways.fixed())
    octets = ways.chat(headers=(*[("Content-Encoding", coding) for coding in codings], ("x-nonce", ways.nonce)))
    for _ in range(2):
        answer = ways.through(octets).answer
        assert answer.status == 200
        assert re.search("encod", answer.get("x-cache-reason") or "")
        ways.settle()
    assert len(ways.received()) == 2
    assert ways.received()[-1].values("content-encoding") == [coding.encode() for coding in codings]
