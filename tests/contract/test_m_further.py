"""M1-M4, M7, M8, M11-M18: how the proxy behaves as a process among clients, providers and operators."""

import gzip
import json
import random
import resource
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import trustme

from tests import answers, raw_client
from tests.answers import DONE, EVENTS, JSON, chunk
from tests.comparison import Ways
from tests.conftest import StartProxy
from tests.contract.test_s_streaming import assert_silence_is_tolerated
from tests.proxy_process import ROOT, ProxyProcess
from tests.raw_client import DroppedError, Ending, RawAnswer, RawConnection
from tests.scripted_provider import End, Exchange, Gate, Pause, Script, ScriptedProvider, Step, steps

pytestmark = pytest.mark.proxy_only

CHAT = "/v1/chat/completions"
FILES = "/v1/files"
MODELS = "/v1/models"
STREAM = [*answers.chat_events(["one ", "two ", "three "]), DONE]
OPERATIONS = ROOT.parent / "shared" / "data" / "openai_paths.txt"
BOTH_KINDS = pytest.mark.parametrize("path", [CHAT, FILES])


def process_of(ways: Ways) -> ProxyProcess:
    """The proxy's process."""
    assert ways.process is not None
    return ways.process


def streamed(events: list[bytes], gap_s: float) -> Script:
    """A stream with time between its events."""
    paced: list[Step] = [step for one in events for step in (chunk(one), Pause(gap_s))]
    return steps(answers.chunked_head(EVENTS), *paced, answers.LAST_CHUNK)


def server_context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    """A TLS server that shows *certificate*."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


def test_m01_a_provider_behind_a_known_authority_is_reached_by_its_name(
    authority: trustme.CA, authority_file: str, start_proxy: StartProxy, nonce: str
) -> None:
    with ScriptedProvider(tls=server_context(authority.issue_cert("localhost"))) as provider:
        ways = start_proxy(upstream=provider.origin, upstream__ca_file=authority_file)
        for stream in (False, True):
            answer = raw_client.exchange(ways.proxy, ways.chat(stream=stream, temperature=1))
            assert (answer.status, answer.ending) == (200, Ending.WHOLE)
        received = provider.requests(nonce)
        assert [request.values("host") for request in received] == [[b"localhost:%d" % provider.port]] * 2
        assert {request.link.server_name for request in received} == {"localhost"}


def old_tls(certificate: trustme.LeafCert) -> ssl.SSLContext:
    """A server that speaks TLS 1.1 at best."""
    context = server_context(certificate)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    return context


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("fault", ["unknown-authority", "wrong-name", "expired", "old-tls"])
def test_m01_a_provider_that_cannot_be_verified_is_not_spoken_to(
    authority: trustme.CA, authority_file: str, start_proxy: StartProxy, nonce: str, fault: str
) -> None:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    certificate = authority.issue_cert(
        "other.example" if fault == "wrong-name" else "localhost", not_after=yesterday if fault == "expired" else None
    )
    context = old_tls(certificate) if fault == "old-tls" else server_context(certificate)
    with ScriptedProvider(tls=context) as provider:
        if fault == "unknown-authority":
            ways = start_proxy(upstream=provider.origin)
        else:
            ways = start_proxy(upstream=provider.origin, upstream__ca_file=authority_file)
        answer = raw_client.exchange(ways.proxy, ways.chat())
        assert answer.status == 502
        assert provider.requests(nonce) == []


def test_m02_no_proxy_is_picked_up_from_the_environment(start_proxy: StartProxy, closed_port: int) -> None:
    nowhere = f"http://127.0.0.1:{closed_port}"
    names = [f"{kind}_proxy" for kind in ("http", "https", "all")]
    ways = start_proxy(environment={spelled: nowhere for name in names for spelled in (name, name.upper())})
    for octets in (ways.chat(stream=True), ways.chat(stream=True, temperature=1), ways.request("GET", MODELS)):
        ways.alike(octets, streamed(STREAM, 0))


def test_m02_a_configured_proxy_is_used(start_proxy: StartProxy, fresh_provider: ScriptedProvider) -> None:
    ways = start_proxy(upstream="http://provider.example", upstream__proxy_url=fresh_provider.origin)
    ways.plays(ways.fixed())
    for octets in (ways.chat(), ways.request("GET", MODELS)):
        passage = ways.through(octets)
        assert passage.answer.status == 200
        assert passage.only.target.startswith(b"http://provider.example/v1/")
        assert passage.only.values("host") == [b"provider.example"]


@pytest.mark.nightly
@pytest.mark.timed
@pytest.mark.timeout(420)
def test_m03_a_silence_of_330_seconds_is_tolerated(ways: Ways) -> None:
    assert_silence_is_tolerated(ways, 330)


@pytest.mark.timed
@pytest.mark.timeout(40)
def test_m04_streams_in_flight_finish_after_sigterm(start_proxy: StartProxy) -> None:
    ways = start_proxy(server__drain_s="20")
    process = process_of(ways)
    events = [*answers.chat_events([f"word{number} " for number in range(7)]), DONE]
    ways.plays(streamed(events, 0.5))
    connections = [ways.connect() for _ in range(20)]
    idle = ways.connect()
    heard = []
    for number, connection in enumerate(connections):
        path, temperature = ((CHAT, 0), (CHAT, 1), ("/v1/threads/t/runs", 0))[number % 3]
        connection.send(ways.chat(path=path, temperature=temperature, stream=True, number=number))
    for connection in connections:
        answer = connection.start_answer("POST")
        answer.read_until(events[1])
        heard.append(answer)
    process.terminate()
    assert idle.ended(3) is not None, "an idle connection was kept after SIGTERM"
    assert not process.accepts(), "the listening socket stayed open"
    assert not ways.provider.wait_until(lambda: False, 0.5)
    for answer in heard:
        answer.finish()
        assert (answer.ending, bytes(answer.body)) == (Ending.WHOLE, b"".join(events))
    ended = time.monotonic()
    assert process.wait(10) == 0
    assert time.monotonic() - ended < 3, "kept running with nothing left to do"
    idle.close()
    for connection in connections:
        connection.close()


@pytest.mark.timed
def test_m04_the_drain_time_has_an_end(start_proxy: StartProxy) -> None:
    ways = start_proxy(server__drain_s="1")
    ways.plays(steps(answers.chunked_head(EVENTS), chunk(STREAM[0]), Gate()))
    with ways.connect() as connection:
        connection.send(ways.chat(stream=True))
        answer = connection.start_answer("POST")
        answer.read_until(STREAM[0])
        process_of(ways).terminate()
        assert process_of(ways).wait(6) == 0
        assert answer.finish().ending is not Ending.WHOLE


def test_m04_a_proxy_with_nothing_to_do_ends_at_once(start_proxy: StartProxy) -> None:
    ways = start_proxy()
    with ways.connect() as connection:
        connection.send(ways.request("GET", MODELS))
        assert connection.read_answer().status == 200
        began = time.monotonic()
        process_of(ways).terminate()
        assert process_of(ways).wait(10) == 0
        assert time.monotonic() - began < 5


def blunt(connection: RawConnection, octets: bytes) -> RawAnswer | None:
    """The answer, or None where the connection was dropped."""
    try:
        connection.send(octets)
        return connection.read_answer(raw_client.method_of(octets))
    except (DroppedError, BrokenPipeError, ConnectionResetError):
        return None


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH"])
def test_m07_a_stale_connection_to_the_provider_costs_nobody_anything(start_proxy: StartProxy, method: str) -> None:
    ways = start_proxy()
    octets = ways.request(method, MODELS, (), b"{}" if method != "GET" else None)
    for turn in range(1, 6):
        with ways.connect() as connection:
            connection.send(octets)
            assert connection.read_answer().status == 200
        assert len(ways.received()) == turn
        assert ways.provider.drop_idle_links(), "the proxy keeps connections that the provider has closed"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("path", [CHAT, FILES, MODELS])
def test_m07_a_request_that_meets_a_dying_connection_is_never_sent_twice(ways: Ways, path: str, method: str) -> None:
    octets = ways.request(method, path, JSON, ways.chat_body())
    for ending in (End.RESET, End.CLOSE):
        before = len(ways.received())
        ways.plays(ways.fixed())
        ways.through(octets.replace(b'"temperature":0', b'"temperature":1'))
        # The next request finds that connection open, and the provider breaks it when it has the request.
        ways.plays(steps(ending))
        with ways.connect() as connection:
            answer = blunt(connection, octets)
        assert answer is None or answer.status in (502, 503, 504)
        ways.settle()
        assert len(ways.received()) - before == 2


@pytest.mark.parametrize("ending", [End.RESET, End.CLOSE])
@BOTH_KINDS
def test_m07_a_connection_killed_between_head_and_body_is_not_tried_again(ways: Ways, path: str, ending: End) -> None:
    ways.plays(steps(ending, wait_for_body=False))
    octets = ways.request("POST", path, JSON, ways.chat_body(padding="x" * 6_000_000))
    with ways.connect() as connection:
        answer = blunt(connection, octets)
    assert answer is None or answer.status in (502, 503, 504)
    ways.settle()
    assert len(ways.received()) == 1


def test_m07_an_early_answer_to_an_upload_is_delivered_once(ways: Ways) -> None:
    ways.plays(steps(answers.whole(b'{"error":"too large"}', status=413), End.CLOSE, wait_for_body=False))
    octets = ways.request("POST", FILES, JSON, b"x" * 3_000_000)
    with ways.connect() as connection:
        answer = blunt(connection, octets)
    assert answer is None or answer.status in (413, 502)
    ways.settle()
    assert len(ways.received()) == 1


@pytest.mark.timeout(90)
def test_m08_a_thousand_requests_with_disconnects_leave_nothing_behind(start_proxy: StartProxy) -> None:
    ways = start_proxy()
    process, provider = process_of(ways), ways.provider
    provider.on("flowing", streamed(STREAM * 2, 0.005))
    provider.on("thinking", steps(Pause(0.02), ways.fixed()))

    def one(number: int) -> None:
        chance = random.Random(number)
        path = chance.choice([CHAT, CHAT, "/v1/embeddings", FILES, "/v1/threads/t/runs"])
        kind = chance.choice(["flowing", "thinking", "plain"])
        octets = ways.chat(
            path=path, temperature=chance.choice([0, 1]), stream=kind == "flowing", kind=kind, number=number % 300
        )
        connection = ways.connect()
        try:
            match chance.randrange(5):
                case 0:
                    connection.send(octets[: len(octets) // 2])
                case 1:
                    connection.send(octets)
                case 2:
                    connection.send(octets)
                    connection.start_answer("POST")
                case _:
                    connection.send(octets)
                    assert connection.read_answer("POST").status == 200
        finally:
            if chance.random() < 0.5:
                connection.reset()
            else:
                connection.close()

    def own_descriptors() -> int:
        # Idle connections to the provider are kept on purpose.
        return process.open_descriptors() - provider.open_links()

    ways.settle()
    at_rest = own_descriptors()
    with ThreadPoolExecutor(16) as threads:
        list(threads.map(one, range(400)))
        before = process.resident_bytes()
        list(threads.map(one, range(400, 1400)))
    ways.settle()
    assert falls_to(own_descriptors, at_rest), f"{own_descriptors()} descriptors open, {at_rest} at the start"
    assert process.resident_bytes() - before < 24_000_000
    answer = raw_client.exchange(ways.proxy, ways.chat(after="all"))
    assert answer.status == 200


def falls_to(read: Callable[[], int], limit: int, within_s: float = 10.0) -> bool:
    """Whether a number that can only be looked at came down to *limit* in time."""
    deadline = time.monotonic() + within_s
    while read() > limit:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_m11_a_hit_repeats_the_recorded_identity(ways: Ways) -> None:
    limits: answers.Fields = (
        *JSON,
        ("x-request-id", "req_once"),
        ("openai-processing-ms", "777"),
        ("x-ratelimit-remaining-requests", "4321"),
        ("x-ratelimit-reset-tokens", "6ms"),
    )
    ways.plays(
        steps(answers.whole(answers.chat_body("Yes.", number=11), limits)),
        steps(answers.whole(answers.chat_body("No.", number=12))),
    )
    octets = ways.chat()
    ways.through(octets)
    hit = ways.through(octets)
    assert hit.received == ()
    for name, value in limits:
        assert hit.answer.values(str(name)) == [str(value).encode()]
    body = json.loads(hit.answer.body)
    assert (body["id"], body["created"]) == ("chatcmpl-00000011", 1_760_000_011)


@pytest.mark.timed
def test_m12_a_hit_stream_is_sent_in_one_burst(ways: Ways) -> None:
    ways.plays(streamed(STREAM, 0.1))
    octets = ways.chat(stream=True)
    recorded = ways.through(octets).answer
    assert recorded.arrivals[-1].at - recorded.arrivals[0].at > 0.3
    hit = ways.through(octets)
    assert hit.received == ()
    assert bytes(hit.answer.body) == bytes(recorded.body)
    assert hit.answer.arrivals[-1].at - hit.answer.arrivals[0].at < 0.1


def operations() -> list[tuple[str, str]]:
    """Method and path of everything the provider offers."""
    if not OPERATIONS.exists():
        return []
    lines = (line.split() for line in OPERATIONS.read_text().splitlines())
    return [(parts[0], parts[1].replace("{", "").replace("}", "_1")) for parts in lines if len(parts) == 2]


AZURE = (
    *(("POST", f"/openai/deployments/stats/{rest}") for rest in ("chat/completions", "completions", "embeddings")),
    *(("POST", f"/openai/deployments/d/{rest}") for rest in ("images/generations", "audio/speech", "extensions/chat")),
    *(("GET", f"/openai/{rest}?api-version=2024-10-21") for rest in ("models", "files", "deployments", "threads")),
    *(("POST", f"/openai/v1/{rest}") for rest in ("responses", "chat/completions", "embeddings")),
    ("GET", "/openai/realtime/sessions"),
)
ELSEWHERE = (
    ("GET", "/"),
    ("GET", "/favicon.ico"),
    ("GET", "/robots.txt"),
    ("GET", "/api/tags"),
    ("POST", "/api/chat"),
    ("GET", "/v1"),
    ("GET", "/v1/"),
    ("GET", "/v1/stats"),
    ("GET", "/v1/healthz"),
    ("GET", "/v1/metrics"),
    ("GET", "/v2/models"),
    ("GET", "/stats/deeper"),
    ("GET", "/statsx"),
    ("GET", "/x/healthz"),
    ("GET", "/healthz2"),
    ("GET", "//stats"),
    ("POST", "/something/else?a=b"),
    ("GET", "/_other/stats"),
    ("GET", "/v1/caches"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
)


def assert_forwarded(ways: Ways, calls: list[tuple[str, str]]) -> None:
    """Each of *calls* is answered by the provider, with its mark, and by nobody else."""
    mark: answers.Fields = (*JSON, ("x-marker", ways.nonce))
    ways.plays(answers.whole(b'{"marked":true}', mark))
    missed = []
    with ways.connect() as connection:
        for method, path in calls:
            connection.send(ways.request(method, path, (), b"{}" if method in ("POST", "PUT", "PATCH") else None))
            answer = connection.read_answer(method)
            if answer.values("x-marker") != [ways.nonce.encode()]:
                missed.append((method, path, answer.status_line))
    assert missed == []
    seen = [(request.method, request.target.decode()) for request in ways.received()]
    assert seen == calls


def test_m13_no_operation_of_the_provider_is_shadowed(ways: Ways) -> None:
    if not (calls := operations()):
        pytest.skip(f"{OPERATIONS} is not here: the list of the provider's operations is not part of the project")
    assert len(calls) == 288
    assert_forwarded(ways, calls)


def test_m13_azure_paths_are_not_shadowed(ways: Ways) -> None:
    assert_forwarded(ways, list(AZURE))


def test_m13_unknown_paths_are_forwarded(ways: Ways) -> None:
    assert_forwarded(ways, list(ELSEWHERE))


@pytest.mark.parametrize("path", ["/healthz", "/stats"])
def test_m13_own_paths_are_answered_by_the_proxy(ways: Ways, path: str) -> None:
    passage = ways.through(ways.request("GET", path))
    assert passage.answer.status == 200
    assert passage.received == ()


def test_m14_logs_hold_no_bodies_and_no_keys(start_proxy: StartProxy, nonce: str) -> None:
    ways = start_proxy()
    key, cookie, told = f"sk-{nonce[::-1]}", f"cookie{nonce[::-1]}", f"told{nonce[::-1]}"
    headers = (("Authorization", f"Bearer {key}"), ("Cookie", f"sid={cookie}"), ("api-key", key))
    body = ways.chat_body()
    fine = answers.whole(answers.chat_body(told), (*JSON, ("Set-Cookie", f"sid={cookie}"), ("x-told", told)))
    misfortunes = (
        steps(fine),
        steps(End.RESET),
        steps(fine[:-20], End.CLOSE),
        steps(f"{told} is not http\r\n\r\n".encode(), End.CLOSE),
        steps(answers.whole(f'{{"error":{{"message":"{told} {key}"}}}}'.encode(), status=500)),
        steps(answers.chunked_head(EVENTS) + chunk(f"data: {told}\n\n".encode()), End.RESET),
    )
    for path in (CHAT, FILES, f"{CHAT}?key={key}"):
        for turn, script in enumerate(misfortunes):
            ways.plays(script)
            octets = raw_client.request("POST", path, (*headers, ("x-turn", str(turn))), body)
            with ways.connect() as connection:
                blunt(connection, octets)
            with ways.connect() as connection:
                blunt(connection, octets.replace(b"Content-Length: ", b"Content-Length: +"))
            with ways.connect() as connection:
                connection.send(octets[:-10])
    said = log_at_the_end(ways)
    assert "listening on" in said
    for secret in (nonce, key, cookie, told):
        assert secret not in said, secret


def log_at_the_end(ways: Ways) -> str:
    """All that the proxy said, its last words included."""
    process = process_of(ways)
    process.stop()
    return process.said()


WISHES = {
    "br-only": ("br", "br"),
    "no-identity": ("identity;q=0", "gzip"),
    "gzip-no-identity": ("gzip, identity;q=0", "gzip"),
    "star-zero": ("*;q=0", None),
    "zstd-only": ("zstd", "zstd"),
}
BODY = answers.chat_body("Encoded.")
# What a client makes of these is its own business; here they are octets under a label.
OCTETS = {
    None: BODY,
    "gzip": gzip.compress(BODY),
    "br": bytes.fromhex("0b008003") + b"x" + b"\x03",
    "zstd": bytes.fromhex("28b52ffd2001090000") + b"x",
}


@pytest.mark.parametrize("stubborn", [False, True])
@pytest.mark.parametrize("name", WISHES)
def test_m15_a_picky_client_gets_what_the_provider_gave_it(ways: Ways, name: str, stubborn: bool) -> None:
    wish, coding = WISHES[name]
    coding = None if stubborn else coding
    fields: answers.Fields = (*JSON, ("Content-Encoding", coding)) if coding else JSON
    octets = ways.chat(headers=(("Accept-Encoding", wish),))
    _, first = ways.alike(octets, answers.whole(OCTETS[coding], fields))
    for _ in range(2):
        again = ways.through(octets).answer
        assert bytes(again.body) == bytes(first.answer.body) == OCTETS[coding]
        assert again.values("content-encoding") == first.answer.values("content-encoding")


def test_m15_a_gzip_answer_nobody_asked_for_stays_readable_on_a_hit(ways: Ways) -> None:
    fields: answers.Fields = (*JSON, ("Content-Encoding", "gzip"))
    octets = ways.chat(headers=(("Accept-Encoding", "br"),))
    ways.alike(octets, answers.whole(OCTETS["gzip"], fields))
    again = ways.through(octets).answer
    assert bytes(again.body) == (OCTETS["gzip"] if again.values("content-encoding") == [b"gzip"] else BODY)


@pytest.mark.timeout(120)
def test_m16_large_uploads_are_streamed_and_not_held(start_proxy: StartProxy) -> None:
    ways = start_proxy()
    process = process_of(ways)
    size = 100_000_000
    piece = b"x" * 1_000_000
    told = Script(play=_count, keep_body=False)
    ways.plays(told)
    highest = [0]
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            highest[0] = max(highest[0], process.resident_bytes())

    def upload(number: int) -> bytes:
        path = (CHAT, FILES)[number % 2]
        head = raw_client.request("POST", path, (("x-nonce", ways.nonce), ("Content-Length", str(size))))
        with ways.connect(timeout_s=60) as connection:
            connection.send(head)
            for _ in range(size // len(piece)):
                connection.send(piece)
            return bytes(connection.read_answer("POST").body)

    ways.through(ways.request("POST", FILES, (), b"warm"))
    before = process.resident_bytes()
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with ThreadPoolExecutor(10) as threads:
            counted = list(threads.map(upload, range(10)))
    finally:
        over.set()
        watcher.join()
    assert counted == [b'{"size":%d}' % size] * 10
    assert highest[0] - before < 64_000_000


async def _count(exchange: Exchange) -> None:
    await exchange.send(answers.whole(b'{"size":%d}' % exchange.request.body_size))


@pytest.mark.timeout(60)
def test_m16_a_large_chunked_upload_is_streamed_and_not_held(start_proxy: StartProxy) -> None:
    ways = start_proxy()
    process = process_of(ways)
    ways.plays(Script(play=_count, keep_body=False))
    before = process.resident_bytes()
    fields = (("x-nonce", ways.nonce), ("Content-Type", "application/json"), ("Transfer-Encoding", "chunked"))
    with ways.connect(timeout_s=30) as connection:
        connection.send(raw_client.request("POST", CHAT, fields))
        for _ in range(150):
            connection.send(chunk(b"x" * 1_000_000))
        connection.send(answers.LAST_CHUNK)
        assert bytes(connection.read_answer("POST").body) == b'{"size":150000000}'
    assert process.resident_bytes() - before < 64_000_000


@pytest.fixture
def many_descriptors() -> Iterator[int]:
    """How many files this process may open, raised as far as it may raise it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def assert_idle_clients_do_no_harm(ways: Ways, count: int) -> None:
    """With *count* idle keep-alive connections new ones are served, and the idle ones still are."""
    idle = [ways.connect() for _ in range(count)]
    for at, connection in enumerate(idle):
        if at % 2:
            connection.send(ways.request("GET", "/healthz"))
    for at, connection in enumerate(idle):
        if at % 2:
            assert connection.read_answer().status == 200
    for turn in range(20):
        answer = raw_client.exchange(ways.proxy, ways.chat(turn=turn, stream=bool(turn % 2)))
        assert (answer.status, answer.ending) == (200, Ending.WHOLE)
    for connection in random.Random(7).sample(idle, 20):
        connection.send(ways.request("GET", MODELS))
        assert connection.read_answer().status == 200
    for connection in idle:
        connection.close()


@pytest.mark.timeout(60)
def test_m17_2000_idle_connections_do_not_stop_new_ones(start_proxy: StartProxy, many_descriptors: int) -> None:
    if many_descriptors < 2_500:
        pytest.skip(f"ulimit allows {many_descriptors} open files")
    assert_idle_clients_do_no_harm(start_proxy(), 2_000)


@pytest.mark.nightly
@pytest.mark.timeout(300)
def test_m17_10000_idle_connections_do_not_stop_new_ones(start_proxy: StartProxy, many_descriptors: int) -> None:
    assert_idle_clients_do_no_harm(start_proxy(), min(10_000, many_descriptors - 500))


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x80"


@pytest.mark.parametrize("octets", [PREFACE, PREFACE + SETTINGS, PREFACE[:16]], ids=["bare", "settings", "cut"])
def test_m18_an_http_2_preface_is_refused_cleanly(ways: Ways, octets: bytes) -> None:
    process = process_of(ways)
    before = len(ways.provider.links())
    with ways.connect() as connection:
        connection.send(octets)
        if octets != PREFACE[:16]:
            connection.wait_readable(5)
        connection.finish_sending()
        said = connection.read_to_end()
    assert said == b"" or said.startswith((b"HTTP/1.1 400", b"HTTP/1.1 505", b"HTTP/1.0 400", b"HTTP/1.0 505")), said
    process.assert_calm()
    assert len(ways.provider.links()) == before
    assert raw_client.exchange(ways.proxy, ways.request("GET", MODELS)).status == 200


@pytest.mark.parametrize(
    "octets",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
        b"hello\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
        b"\x00" * 100,
    ],
    ids=["tls-hello", "word", "method-alone", "version", "zeros"],
)
def test_m18_other_protocols_are_refused_cleanly(ways: Ways, octets: bytes) -> None:
    with ways.connect() as connection:
        try:
            connection.send(octets)
            connection.finish_sending()
            said = connection.read_to_end()
        except (ConnectionResetError, BrokenPipeError, TimeoutError):
            said = b""
    assert not said.startswith((b"HTTP/1.1 2", b"HTTP/1.1 3"))
    process_of(ways).assert_calm()
    assert raw_client.exchange(ways.proxy, ways.request("GET", MODELS)).status == 200
