"""How the proxy speaks to the provider: where it connects, whom it trusts, what it never sends twice."""

import base64
import contextlib
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

import pytest
import trustme

from tests import answers, raw_client
from tests.answers import EVENTS, JSON, chunk
from tests.comparison import answer_differences
from tests.conftest import StartProxy
from tests.raw_client import DroppedError, Ending, RawAnswer, RawConnection
from tests.scripted_provider import End, Gate, ScriptedProvider, steps

pytestmark = pytest.mark.proxy_only

CHAT = "/v1/chat/completions"
FILES = "/v1/files"
BOTH_KINDS = pytest.mark.parametrize("path", [CHAT, FILES])
GOOD = answers.whole(answers.chat_body("Yes."))


def assert_bad_gateway(answer: RawAnswer, code: str) -> str:
    """The answer is our own 502 in the shape that an OpenAI SDK reads; its message."""
    assert answer.status == 502, (answer.status_line, answer.body)
    assert answer.get("content-type") == "application/json"
    error = json.loads(answer.body)["error"]
    assert (error["type"], error["code"], error["param"]) == ("askonce_error", code, None)
    assert error["message"]
    if answer.get("x-cache") is not None:
        assert (answer.get("x-cache"), answer.get("x-cache-reason")) == ("ERROR", code)
    return str(error["message"])


class Listener:
    """A server of a test's own: one thread for each connection, which *talk* may do with as it likes."""

    def __init__(self, talk: Callable[[socket.socket], None], family: socket.AddressFamily = socket.AF_INET) -> None:
        self._talk = talk
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.bind(("::1" if family is socket.AF_INET6 else "127.0.0.1", 0))
        self._socket.listen(64)
        self.port: int = self._socket.getsockname()[1]
        self.accepted = 0
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, name="listener", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for connection in self._open:
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            connection.settimeout(15)
            self.accepted += 1
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), name="talk", daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            self._talk(connection)


def read_head(connection: socket.socket) -> bytes:
    """A message head from *connection*, with what came behind it."""
    octets = b""
    while b"\r\n\r\n" not in octets:
        more = connection.recv(65536)
        if not more:
            raise ConnectionError(f"the head ended after {octets!r}")
        octets += more
    return octets


def pass_on(source: socket.socket, target: socket.socket) -> None:
    """Everything from *source* to *target*, its end too."""
    with contextlib.suppress(OSError):
        while octets := source.recv(65536):
            target.sendall(octets)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


class OutgoingProxy(Listener):
    """A forward proxy: absolute-form for plain HTTP, CONNECT for anything else."""

    def __init__(self, *, refuses: bytes | None = None) -> None:
        self.heads: list[bytes] = []
        self._refuses = refuses
        super().__init__(self._relay)

    def _relay(self, client: socket.socket) -> None:
        octets = read_head(client)
        head, _, rest = octets.partition(b"\r\n\r\n")
        self.heads.append(head)
        if self._refuses is not None:
            client.sendall(self._refuses)
            return
        method, target, _ = head.split(b"\r\n", 1)[0].split(b" ")
        authority = target if method == b"CONNECT" else target.split(b"/")[2]
        host, _, port = authority.decode().rpartition(":")
        server = socket.create_connection((host, int(port)), timeout=15)
        self._open.append(server)
        if method == b"CONNECT":
            client.sendall(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 tiny\r\n\r\n" + rest)
        else:
            server.sendall(head.replace(b"http://" + authority, b"", 1) + b"\r\n\r\n" + rest)
        threading.Thread(target=pass_on, args=(server, client), daemon=True).start()
        pass_on(client, server)


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that came over TLS."""

    connection: int
    server_name: str | None
    protocol: str | None
    head: bytes

    def values(self, name: str) -> list[bytes]:
        """Every value of the header *name*."""
        pairs = (line.split(b": ", 1) for line in self.head.split(b"\r\n")[1:])
        return [pair[1] for pair in pairs if pair[0].lower() == name.encode()]


class SecureProvider(Listener):
    """A provider that speaks TLS; what it answers are pieces, None for an end without a word."""

    def __init__(self, context: ssl.SSLContext, *pieces: bytes | None) -> None:
        self.asked: list[Asked] = []
        self._pieces = pieces or (GOOD,)
        self._context = context
        self._names: list[str | None] = []
        context.sni_callback = lambda _, name, __: self._names.append(name)
        super().__init__(self._answer)

    def _answer(self, plain: socket.socket) -> None:
        number = self.accepted
        with self._context.wrap_socket(plain, server_side=True) as secure:
            while True:
                head, _, body = read_head(secure).partition(b"\r\n\r\n")
                asked = Asked(number, self._names[-1], secure.selected_alpn_protocol(), head)
                for length in asked.values("content-length"):
                    while len(body) < int(length):
                        body += secure.recv(65536)
                self.asked.append(asked)
                for piece in self._pieces:
                    if piece is None:
                        secure.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        return
                    secure.sendall(piece)


@pytest.fixture
def context(authority: trustme.CA) -> ssl.SSLContext:
    """A provider's side of TLS, known by name and by address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


# Where


@pytest.mark.parametrize(
    ("path", "target", "expected"),
    [
        ("", CHAT, CHAT),
        ("/", CHAT, CHAT),
        ("", "/chat/completions", "/chat/completions"),
        ("/v1", CHAT, CHAT),
        ("/v1/", CHAT, CHAT),
        ("/v1", "/chat/completions", CHAT),
        ("/v1", "/v1?x=/v1", "/v1?x=/v1"),
        ("/v1", "/v1beta/models", "/v1/v1beta/models"),
        ("/v1", "/models/v1/", "/v1/models/v1/"),
        ("/api/v1", CHAT, "/api/v1/chat/completions"),
        ("/api/v1/", "/v1/models?a=b", "/api/v1/models?a=b"),
        ("/api", CHAT, "/api/v1/chat/completions"),
        ("/api", "/v1//models/../x", "/api/v1//models/../x"),
        ("/a%2Fb/v1", "/v1/models", "/a%2Fb/v1/models"),
        ("/v1/v1", "/v1/models", "/v1/v1/models"),
        (
            "/openai/deployments/d",
            "/chat/completions?api-version=1",
            "/openai/deployments/d/chat/completions?api-version=1",
        ),
    ],
)
def test_the_path_of_the_upstream_stands_before_ours_and_v1_is_not_doubled(
    start_proxy: StartProxy, fresh_provider: ScriptedProvider, path: str, target: str, expected: str
) -> None:
    ways = start_proxy(upstream=fresh_provider.origin + path)
    answer = raw_client.exchange(ways.proxy, ways.chat(path=target))
    assert answer.status == 200
    (request,) = ways.received()
    assert request.target == expected.encode()
    assert request.values("host") == [b"127.0.0.1:%d" % fresh_provider.port]


def test_a_provider_on_ipv6(start_proxy: StartProxy) -> None:
    heads: list[bytes] = []

    def talk(connection: socket.socket) -> None:
        while True:
            heads.append(read_head(connection))
            connection.sendall(GOOD)

    try:
        listener = Listener(talk, socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with listener:
        ways = start_proxy(upstream=f"http://[::1]:{listener.port}/v1")
        answer = raw_client.exchange(ways.proxy, ways.request("GET", "/v1/models"))
    assert answer.status == 200
    assert b"\r\nHost: [::1]:%d\r\n" % listener.port in heads[0]


@BOTH_KINDS
def test_a_refused_connection_is_a_bad_gateway_that_says_where(
    start_proxy: StartProxy, closed_port: int, path: str
) -> None:
    ways = start_proxy(upstream=f"http://127.0.0.1:{closed_port}")
    for _ in range(2):
        answer = raw_client.exchange(ways.proxy, ways.chat(path=path))
        assert f"127.0.0.1:{closed_port}" in assert_bad_gateway(answer, "upstream_unreachable")


@BOTH_KINDS
def test_a_name_that_nobody_has_is_a_bad_gateway(start_proxy: StartProxy, path: str) -> None:
    ways = start_proxy(upstream="http://provider.invalid", upstream__connect_timeout_s="3")
    assert_bad_gateway(raw_client.exchange(ways.proxy, ways.chat(path=path)), "upstream_unreachable")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_provider_that_does_not_take_the_connection_is_given_up(start_proxy: StartProxy, scheme: str) -> None:
    """Its queue is full (http), or it accepts and then says nothing to our TLS hello (https)."""
    with contextlib.ExitStack() as held:
        if scheme == "https":
            port = held.enter_context(Listener(lambda _: time.sleep(10))).port
        else:
            full = held.enter_context(socket.socket())
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            port = full.getsockname()[1]
            for _ in range(4):
                waiting = held.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(("127.0.0.1", port))
        ways = start_proxy(upstream=f"{scheme}://127.0.0.1:{port}", upstream__connect_timeout_s="0.4")
        began = time.monotonic()
        answer = raw_client.exchange(ways.proxy, ways.chat())
        took_s = time.monotonic() - began
    assert "0.4 s" in assert_bad_gateway(answer, "upstream_unreachable")
    assert 0.3 < took_s < 5


# Whom to trust


@BOTH_KINDS
def test_a_certificate_of_nobody_we_know_is_a_bad_gateway(
    start_proxy: StartProxy, context: ssl.SSLContext, path: str
) -> None:
    with SecureProvider(context) as secure:
        ways = start_proxy(upstream=f"https://localhost:{secure.port}")
        answer = raw_client.exchange(ways.proxy, ways.chat(path=path))
    assert "certificate" in assert_bad_gateway(answer, "upstream_unreachable").lower()
    assert secure.asked == []


@pytest.mark.parametrize("stream", [False, True])
@BOTH_KINDS
def test_a_known_authority_is_trusted_and_the_connection_is_kept(
    start_proxy: StartProxy, context: ssl.SSLContext, authority_file: str, path: str, stream: bool
) -> None:
    events = [*answers.chat_events(["A ", "stream."]), answers.DONE]
    pieces = [answers.chunked_head(EVENTS), *map(chunk, events), answers.LAST_CHUNK] if stream else [GOOD]
    with SecureProvider(context, *pieces) as secure:
        ways = start_proxy(upstream=f"https://localhost:{secure.port}/v1", upstream__ca_file=authority_file)
        for number in range(5):
            answer = raw_client.exchange(ways.proxy, ways.chat(path=path, stream=stream, turn=number))
            assert (answer.status, answer.ending) == (200, Ending.WHOLE)
            assert not stream or bytes(answer.body) == b"".join(events)
    assert len(secure.asked) == 5
    assert {asked.values("host")[0] for asked in secure.asked} == {b"localhost:%d" % secure.port}
    assert {(asked.connection, asked.server_name, asked.protocol) for asked in secure.asked} == {
        (1, "localhost", "http/1.1")
    }
    assert {asked.head.split(b" ")[1] for asked in secure.asked} == {path.encode()}


def test_a_provider_by_address_is_named_by_its_address(
    start_proxy: StartProxy, context: ssl.SSLContext, authority_file: str
) -> None:
    with SecureProvider(context) as secure:
        ways = start_proxy(upstream=f"https://127.0.0.1:{secure.port}", upstream__ca_file=authority_file)
        assert raw_client.exchange(ways.proxy, ways.chat()).status == 200
    (asked,) = secure.asked
    assert asked.values("host") == [b"127.0.0.1:%d" % secure.port]
    # An address is no server name (RFC 6066 section 3).
    assert asked.server_name is None


def test_a_large_answer_over_tls_is_whole(
    start_proxy: StartProxy, context: ssl.SSLContext, authority_file: str
) -> None:
    body = bytes(range(256)) * 12_000
    with SecureProvider(context, answers.chunked(body, size=70_001)) as secure:
        ways = start_proxy(upstream=f"https://localhost:{secure.port}", upstream__ca_file=authority_file)
        answer = raw_client.exchange(ways.proxy, ways.request("GET", "/v1/files/f/content"))
    assert (answer.ending, bytes(answer.body)) == (Ending.WHOLE, body)


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_tls_that_ends_without_a_word_is_not_a_whole_answer(
    start_proxy: StartProxy, context: ssl.SSLContext, authority_file: str, framing: str
) -> None:
    """Without a close_notify anybody on the way may have cut it (RFC 9112 section 9.8)."""
    head = {
        "length": answers.head(200, (*JSON, ("Content-Length", "100"))),
        "chunked": answers.chunked_head(),
        "close": answers.head(200, JSON),
    }[framing]
    with SecureProvider(context, head + b"1\r\n{\r\n", None) as secure:
        ways = start_proxy(upstream=f"https://localhost:{secure.port}", upstream__ca_file=authority_file)
        try:
            answer = raw_client.exchange(ways.proxy, ways.chat())
        except DroppedError:
            return
    assert answer.status == 502 or answer.ending is not Ending.WHOLE


# Through a proxy of the operator's


def test_plain_http_goes_to_the_outgoing_proxy_in_absolute_form(
    start_proxy: StartProxy, fresh_provider: ScriptedProvider
) -> None:
    with OutgoingProxy() as between:
        ways = start_proxy(upstream__proxy_url=f"http://us%40er:p%3Aass@127.0.0.1:{between.port}")
        answer = raw_client.exchange(
            ways.proxy, ways.chat(headers=(("Proxy-Authorization", "Basic b3duOm93bg=="),), path=CHAT + "?a=%2f")
        )
    assert (answer.status, answer.ending) == (200, Ending.WHOLE)
    (head,) = between.heads
    line, *fields = head.split(b"\r\n")
    assert line == b"POST http://127.0.0.1:%d/v1/chat/completions?a=%%2f HTTP/1.1" % fresh_provider.port
    assert b"Host: 127.0.0.1:%d" % fresh_provider.port in fields
    ours = b"Proxy-Authorization: Basic " + base64.b64encode(b"us@er:p:ass")
    assert [field for field in fields if field.lower().startswith(b"proxy-")] == [ours]


def test_https_goes_through_a_tunnel_that_hides_everything_from_the_outgoing_proxy(
    start_proxy: StartProxy, context: ssl.SSLContext, authority_file: str
) -> None:
    with SecureProvider(context) as secure, OutgoingProxy() as between:
        ways = start_proxy(
            upstream=f"https://localhost:{secure.port}",
            upstream__ca_file=authority_file,
            upstream__proxy_url=f"http://user:secret@127.0.0.1:{between.port}",
        )
        for number in range(3):
            answer = raw_client.exchange(ways.proxy, ways.chat(turn=number))
            assert (answer.status, answer.ending) == (200, Ending.WHOLE)
    (head,) = between.heads
    authority = b"localhost:%d" % secure.port
    line, *fields = head.split(b"\r\n")
    assert line == b"CONNECT " + authority + b" HTTP/1.1"
    assert sorted(fields) == [
        b"Host: " + authority,
        b"Proxy-Authorization: Basic " + base64.b64encode(b"user:secret"),
    ]
    assert len(secure.asked) == 3
    for asked in secure.asked:
        assert (asked.server_name, asked.values("proxy-authorization")) == ("localhost", [])
        assert asked.head.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")


def test_the_certificate_behind_a_tunnel_is_verified_too(start_proxy: StartProxy, context: ssl.SSLContext) -> None:
    with SecureProvider(context) as secure, OutgoingProxy() as between:
        ways = start_proxy(
            upstream=f"https://localhost:{secure.port}", upstream__proxy_url=f"http://127.0.0.1:{between.port}"
        )
        answer = raw_client.exchange(ways.proxy, ways.chat())
    assert_bad_gateway(answer, "upstream_unreachable")
    assert secure.asked == []


def test_no_credentials_no_field(start_proxy: StartProxy, fresh_provider: ScriptedProvider) -> None:
    with OutgoingProxy() as between:
        ways = start_proxy(upstream__proxy_url=f"http://127.0.0.1:{between.port}")
        assert raw_client.exchange(ways.proxy, ways.chat()).status == 200
    assert b"proxy-authorization" not in between.heads[0].lower()


@pytest.mark.parametrize(
    "refusal",
    [
        b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 403 No\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"SSH-2.0-x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"",
        b"x" * 200_000,
    ],
    ids=["407", "403", "not-a-status", "not-http", "half-a-head", "nothing", "endless"],
)
def test_a_tunnel_that_is_refused_is_a_bad_gateway_and_gives_no_credentials_away(
    start_proxy: StartProxy, authority_file: str, closed_port: int, refusal: bytes
) -> None:
    with OutgoingProxy(refuses=refusal) as between:
        ways = start_proxy(
            upstream=f"https://localhost:{closed_port}",
            upstream__ca_file=authority_file,
            upstream__proxy_url=f"http://user:hunter2@127.0.0.1:{between.port}",
            upstream__connect_timeout_s="1",
        )
        answer = raw_client.exchange(ways.proxy, ways.chat())
    message = assert_bad_gateway(answer, "upstream_unreachable")
    assert "hunter2" not in message
    assert ways.process is not None
    assert "hunter2" not in ways.process.said()


def test_an_outgoing_proxy_that_is_down_is_a_bad_gateway(start_proxy: StartProxy, closed_port: int) -> None:
    ways = start_proxy(upstream__proxy_url=f"http://user:hunter2@127.0.0.1:{closed_port}")
    answer = raw_client.exchange(ways.proxy, ways.chat())
    assert "hunter2" not in assert_bad_gateway(answer, "upstream_unreachable")


def test_proxies_of_the_environment_are_ignored_with_tls_too(
    start_proxy: StartProxy, context: ssl.SSLContext, authority_file: str, closed_port: int
) -> None:
    nowhere = f"http://127.0.0.1:{closed_port}"
    named = dict.fromkeys(("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"), nowhere)
    with SecureProvider(context) as secure:
        ways = start_proxy(
            upstream=f"https://localhost:{secure.port}", upstream__ca_file=authority_file, environment=named
        )
        assert raw_client.exchange(ways.proxy, ways.chat()).status == 200


# What the operator adds


def test_added_headers_replace_the_clients_and_never_reach_a_client(
    start_proxy: StartProxy, fresh_provider: ScriptedProvider
) -> None:
    ways = start_proxy(upstream__add_headers='{authorization: "Bearer sk-operator", X-Team: "red"}')
    octets = ways.chat(headers=(("AUTHORIZATION", "Bearer sk-second"), ("x-team", "blue"), ("X-Other", "kept")))
    for _ in range(3):
        answer = raw_client.exchange(ways.proxy, octets)
        assert answer.status == 200
        assert b"sk-operator" not in b"\n".join(answer.header_lines) + bytes(answer.body)
    answer = raw_client.exchange(ways.proxy, ways.request("GET", "/v1/models"))
    assert b"sk-operator" not in b"\n".join(answer.header_lines) + bytes(answer.body)
    chat, models = ways.received()
    for request in (chat, models):
        assert request.values("authorization") == [b"Bearer sk-operator"]
        assert request.values("x-team") == [b"red"]
    assert chat.values("x-other") == [b"kept"]
    assert chat.complete


# What is kept open


@BOTH_KINDS
def test_a_connection_is_used_again(start_proxy: StartProxy, fresh_provider: ScriptedProvider, path: str) -> None:
    ways = start_proxy()
    for number in range(10):
        stream = number % 2 == 1
        assert raw_client.exchange(ways.proxy, ways.chat(path=path, turn=number, stream=stream)).ending is Ending.WHOLE
    assert len(ways.received()) == 10
    assert len(fresh_provider.links()) == 1


@pytest.mark.parametrize(
    "last",
    [
        answers.whole(b"{}", (*JSON, ("Connection", "close"))),
        answers.head(200, (*JSON, ("Content-Length", "2")), version="HTTP/1.0") + b"{}",
        answers.whole(b"{}") + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen",
        answers.whole(b"{}") + b"x",
    ],
    ids=["connection-close", "http-1.0", "a-second-answer", "one-octet-too-many"],
)
@BOTH_KINDS
def test_a_connection_whose_state_is_not_certain_is_not_used_again(
    start_proxy: StartProxy, fresh_provider: ScriptedProvider, path: str, last: bytes
) -> None:
    ways = start_proxy()
    ways.plays(last, answers.whole(b'{"own":1}'))
    assert bytes(raw_client.exchange(ways.proxy, ways.chat(path=path, turn=1)).body) == b"{}"
    assert bytes(raw_client.exchange(ways.proxy, ways.chat(path=path, turn=2)).body) == b'{"own":1}'
    first, second = ways.received()
    assert first.link.number != second.link.number


def test_a_head_answer_leaves_the_connection_in_step(start_proxy: StartProxy, fresh_provider: ScriptedProvider) -> None:
    ways = start_proxy()
    ways.plays(answers.head(200, (*JSON, ("Content-Length", "999"))), answers.whole(b'{"own":1}'))
    with ways.connect() as connection:
        connection.send(ways.request("HEAD", "/v1/models") + ways.request("GET", "/v1/models"))
        assert connection.read_answer("HEAD").get("content-length") == "999"
        assert bytes(connection.read_answer("GET").body) == b'{"own":1}'
    assert len(fresh_provider.links()) == 1


@pytest.mark.parametrize("most", [0, 1, 2])
def test_no_more_connections_are_kept_than_the_setting_says(
    start_proxy: StartProxy, fresh_provider: ScriptedProvider, most: int
) -> None:
    ways = start_proxy(upstream__max_idle_connections=str(most))
    gate = Gate()
    ways.plays(steps(gate, answers.whole(b"{}")))
    with ThreadPoolExecutor(4) as four:
        asked = [
            four.submit(raw_client.exchange, ways.proxy, ways.chat(path=FILES, turn=number)) for number in range(4)
        ]
        fresh_provider.wait_for(ways.nonce, count=4)
        gate.open()
        assert {each.result(10).status for each in asked} == {200}
    assert len(fresh_provider.links()) == 4
    assert fresh_provider.wait_until(lambda: fresh_provider.open_links() == most)


def test_a_connection_is_not_kept_longer_than_the_setting_says(
    start_proxy: StartProxy, fresh_provider: ScriptedProvider
) -> None:
    ways = start_proxy(upstream__keepalive_s="0.3")
    for pause_s in (0.0, 0.0, 0.5):
        time.sleep(pause_s)
        assert raw_client.exchange(ways.proxy, ways.chat(path=FILES)).status == 200
    first, second, third = ways.received()
    assert first.link is second.link
    assert third.link is not second.link
    assert fresh_provider.wait_until(lambda: first.link.closed_at is not None)


@pytest.mark.parametrize("end", [End.CLOSE, End.RESET])
@BOTH_KINDS
def test_a_provider_that_leaves_after_each_answer_is_not_noticed(
    start_proxy: StartProxy, fresh_provider: ScriptedProvider, path: str, end: End
) -> None:
    ways = start_proxy()
    ways.plays(steps(GOOD, end))
    with ways.connect() as connection:
        for number in range(20):
            connection.send(ways.chat(path=path, turn=number))
            (*_, last) = fresh_provider.wait_for(ways.nonce, count=number + 1)
            assert connection.read_answer("POST").status == 200
            assert fresh_provider.wait_until(lambda last=last: last.link.closed_at is not None)  # type: ignore[misc]
    assert len(ways.received()) == 20


def test_idle_connections_that_the_provider_dropped_are_not_noticed(
    start_proxy: StartProxy, fresh_provider: ScriptedProvider
) -> None:
    ways = start_proxy()
    for number in range(5):
        for path in (CHAT, FILES):
            assert raw_client.exchange(ways.proxy, ways.chat(path=path, turn=number)).status == 200
        fresh_provider.drop_idle_links()
    assert len(ways.received()) == 10


@pytest.mark.parametrize("end", [End.CLOSE, End.RESET])
def test_a_get_is_sent_again_where_a_kept_connection_turns_out_dead(
    start_proxy: StartProxy, fresh_provider: ScriptedProvider, end: End
) -> None:
    ways = start_proxy()
    ways.plays(steps(GOOD), steps(end), steps(answers.whole(b'{"own":1}')))
    octets = ways.request("GET", "/v1/models")
    assert raw_client.exchange(ways.proxy, octets).status == 200
    again = raw_client.exchange(ways.proxy, octets)
    assert (again.status, bytes(again.body)) == (200, b'{"own":1}')
    first, second, third = ways.received()
    assert first.link is second.link
    assert third.link is not second.link


@pytest.mark.parametrize("end", [End.CLOSE, End.RESET])
def test_a_get_is_sent_again_but_once(start_proxy: StartProxy, fresh_provider: ScriptedProvider, end: End) -> None:
    ways = start_proxy()
    ways.plays(steps(GOOD), steps(end))
    octets = ways.request("GET", "/v1/models")
    assert raw_client.exchange(ways.proxy, octets).status == 200
    assert_bad_gateway(raw_client.exchange(ways.proxy, octets), "upstream_broke")
    assert len(ways.received()) == 3


def test_a_get_on_a_connection_of_its_own_is_not_sent_again(
    start_proxy: StartProxy, fresh_provider: ScriptedProvider
) -> None:
    ways = start_proxy()
    ways.plays(steps(End.CLOSE))
    assert_bad_gateway(raw_client.exchange(ways.proxy, ways.request("GET", "/v1/models")), "upstream_broke")
    assert len(ways.received()) == 1


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "QUERY", "GET"])
@pytest.mark.parametrize("where", ["before-the-head", "in-the-head", "in-the-body"])
def test_what_may_have_been_acted_upon_is_never_sent_twice(
    start_proxy: StartProxy, fresh_provider: ScriptedProvider, method: str, where: str
) -> None:
    """A GET with a body counts among them: the body makes it something else than a plain read."""
    ways = start_proxy()
    half = answers.head(200, (*JSON, ("Content-Length", "100")))
    ways.plays(
        steps(GOOD),
        {
            "before-the-head": steps(End.CLOSE),
            "in-the-head": steps(half[:30], End.CLOSE),
            "in-the-body": steps(half + b"{", End.CLOSE),
        }[where],
    )
    path = CHAT if method == "POST" else FILES
    assert raw_client.exchange(ways.proxy, ways.chat(path=path, turn=1)).status == 200
    octets = ways.chat(path=path, turn=2).replace(b"POST", method.encode(), 1)
    try:
        answer = raw_client.exchange(ways.proxy, octets)
    except DroppedError:
        pass
    else:
        assert answer.status == 502 or answer.ending is not Ending.WHOLE
    assert len(ways.received()) == 2


# Uploads


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("path", [FILES, CHAT])
def test_an_answer_that_comes_while_the_upload_runs_reaches_the_client(
    start_proxy: StartProxy, fresh_provider: ScriptedProvider, path: str, framing: str
) -> None:
    ways = start_proxy(cache__max_body_bytes="1000")
    told = answers.whole(b'{"error":{"message":"too large"}}', status=413)
    ways.plays(steps(told, End.CLOSE, wait_for_body=False))
    head = [("x-nonce", ways.nonce), ("Content-Type", "application/json")]
    size = ("Content-Length", "30000000") if framing == "length" else ("Transfer-Encoding", "chunked")
    begun = b"x" * 5000
    with ways.connect() as connection:
        connection.send(raw_client.request("POST", path, [*head, size]))
        connection.send(begun if framing == "length" else chunk(begun))
        # Nothing more is sent: the answer must not wait for the rest.
        answer = connection.read_answer("POST")
        assert (answer.status, answer.ending) == (413, Ending.WHOLE)
        assert bytes(answer.body) == b'{"error":{"message":"too large"}}'
    (request,) = ways.received()
    assert not request.complete
    again = raw_client.exchange(ways.proxy, ways.request("GET", "/v1/models"))
    assert again.status in (200, 413)


def test_an_upload_that_nobody_wants_any_more_still_gets_its_answer(
    start_proxy: StartProxy, fresh_provider: ScriptedProvider
) -> None:
    """The client goes on sending while the answer is on its way, as most do."""
    ways = start_proxy()
    ways.plays(steps(answers.whole(b'{"no":1}', status=413), wait_for_body=False))
    octets = ways.request("POST", FILES, (), b"x" * 3_000_000)
    answer = raw_client.exchange(ways.proxy, octets)
    assert (answer.status, bytes(answer.body)) == (413, b'{"no":1}')
    assert len(ways.received()) == 1


@pytest.mark.parametrize("how", ["fin", "rst", "bad-chunk"])
@pytest.mark.parametrize("path", [FILES, CHAT])
def test_an_upload_that_the_client_abandons_does_not_look_whole_upstream(
    start_proxy: StartProxy, fresh_provider: ScriptedProvider, path: str, how: str
) -> None:
    ways = start_proxy(cache__max_body_bytes="1000")
    fields = [("x-nonce", ways.nonce), ("Transfer-Encoding", "chunked")]
    with ways.connect() as connection:
        connection.send(raw_client.request("POST", path, fields))
        for _ in range(3):
            connection.send(chunk(b"x" * 800))
        (request,) = fresh_provider.wait_for(ways.nonce)
        assert fresh_provider.wait_until(lambda: request.body_size >= 2400)
        if how == "bad-chunk":
            connection.send(b"no chunk\r\n")
            assert fresh_provider.wait_until(lambda: request.link.closed_at is not None, 2)
        elif how == "rst":
            connection.reset()
    assert fresh_provider.wait_until(lambda: request.link.closed_at is not None, 2)
    assert not request.complete
    assert raw_client.exchange(ways.proxy, ways.chat()).status == 200


# Interim answers


@pytest.mark.parametrize("statuses", [(103,), (102, 103, 103), (100,), (100, 103) * 20], ids=str)
@BOTH_KINDS
def test_interim_answers_pass_by(
    start_proxy: StartProxy, fresh_provider: ScriptedProvider, path: str, statuses: tuple[int, ...]
) -> None:
    ways = start_proxy()
    early = [answers.head(status, (("Link", "</a.css>; rel=preload"),)) for status in statuses]
    ways.plays(steps(*early, GOOD))
    with ways.connect() as connection:
        for number in range(3):
            octets = ways.chat(path=path, turn=number)
            connection.send(octets)
            answer = connection.read_answer("POST")
            assert answer_differences(raw_client.exchange(ways.direct, octets), answer) == []
            assert answer.values("link") == []
    assert len({request.link.number for request in ways.received()}) == 4


@pytest.mark.timed
def test_an_interim_answer_does_not_hold_up_a_stream(start_proxy: StartProxy, fresh_provider: ScriptedProvider) -> None:
    ways = start_proxy()
    gate = Gate()
    first = answers.chat_events(["one"])[0]
    ways.plays(
        steps(
            answers.head(103), answers.chunked_head(EVENTS), chunk(first), gate, chunk(answers.DONE), answers.LAST_CHUNK
        )
    )
    with ways.connect() as connection:
        connection.send(ways.chat(stream=True))
        answer = connection.start_answer("POST")
        answer.read_until(first)
        gate.open()
        assert answer.finish().ending is Ending.WHOLE


@BOTH_KINDS
def test_a_switch_of_protocols_that_nobody_asked_for_is_a_bad_gateway(
    start_proxy: StartProxy, fresh_provider: ScriptedProvider, path: str
) -> None:
    ways = start_proxy()
    ways.plays(answers.head(101, (("Connection", "Upgrade"), ("Upgrade", "websocket"))) + b"hello")
    with RawConnection(ways.proxy, timeout_s=5) as connection:
        connection.send(ways.chat(path=path))
        answer = connection.read_answer("POST")
    assert answer.status == 502
