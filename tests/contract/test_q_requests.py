"""Q1-Q34: what the client sends reaches the provider as it was sent."""

import gzip
import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import zstandard

from tests import answers, raw_client
from tests.comparison import Passage, Ways, assert_alike, request_fields
from tests.raw_client import DroppedError, Headers, RawAnswer
from tests.scripted_provider import Framing, Gate, steps

CHAT = "/v1/chat/completions"
FILES = "/v1/files"
JSON_TYPE = ("Content-Type", "application/json")
# A path whose answers may be cached, where the body is read first, and one that only passes through.
BOTH_KINDS = pytest.mark.parametrize("path", [CHAT, FILES])
REFUSALS = frozenset({400, 411, 413, 414, 417, 431, 501, 505})

SDK_HEADERS: Headers = (
    ("Accept", "application/json"),
    ("Content-Type", "application/json"),
    ("User-Agent", "OpenAI/Python 1.99.1"),
    ("X-Stainless-Lang", "python"),
    ("X-Stainless-Package-Version", "1.99.1"),
    ("X-Stainless-OS", "Linux"),
    ("X-Stainless-Arch", "x64"),
    ("X-Stainless-Runtime", "CPython"),
    ("X-Stainless-Runtime-Version", "3.11.7"),
    ("X-Stainless-Async", "false"),
    ("x-stainless-retry-count", "0"),
    ("x-stainless-read-timeout", "600"),
    ("Authorization", "Bearer sk-test-0123456789"),
    ("OpenAI-Organization", "org-abc"),
    ("OpenAI-Project", "proj_def"),
    ("OpenAI-Beta", "assistants=v2"),
    ("Idempotency-Key", "stainless-python-retry-7f0c"),
    ("Cookie", "__cf_bm=abc; _cfuvid=def"),
    ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ("tracestate", "vendor=1"),
    ("Accept-Encoding", "gzip, deflate, br, zstd"),
    ("Accept-Language", "*"),
    ("Origin", "https://app.example"),
    ("Referer", "https://app.example/chat?x=1"),
    ("X-Repeated", "first"),
    ("X-Other", "between"),
    ("X-Repeated", "second"),
    ("x-repeated", "first"),
    ("Date", "Tue, 04 Nov 2025 10:20:30 GMT"),
    ("If-None-Match", '"etag"'),
)

TARGETS = (
    b"/v1/models/a%2Fb%2fc?x=%e2%82%ac&y=%E2%82%AC",
    b"/v1/models?a=1&a=2&a=&b&=c&&",
    b"/v1/models?plus=a+b%2Bc%20d",
    b"/v1/models?",
    b"/v1/models?a=b?c=d",
    b"/v1/models/?limit=5",
    b"/v1/models/ft:gpt-4o-mini:org::id;v=1",
    b"/v1/models/~x!$&'()*,=@:",
    b"/v1/models/%7Euser%41%zz%",
    b'/v1/models?filter={"a":[1,2]}|x^y`z\\w<>"',
    b"/v1/models?redirect=https://a.example/b?c#d",
    b"/",
    b"/?",
    b"/v1/files/file-1/content?%00=%0d%0a",
)

JSON_BODIES = {
    "whitespace": b' {\r\n\t"model" : "m" ,\n "messages":[ ] }  ',
    "key-order": b'{"z":1,"messages":[],"a":2,"model":"m"}',
    "duplicate-keys": b'{"model":"a","messages":[],"model":"b","temperature":0,"temperature":1}',
    "escapes": b'{"model":"m","messages":[{"role":"user","content":"\\u00e9\\u0041\\/\\n\\ud83d\\ude00"}]}',
    "raw-unicode": '{"model":"m","messages":[{"role":"user","content":"é😀\u2028"}]}'.encode(),
    "number-spellings": b'{"model":"m","messages":[],"temperature":0.0,"top_p":1.0,"n":1,"x":1e2,"y":-0,"z":1E+2}',
    "big-integers": b'{"model":"m","messages":[],"seed":123456789012345678901234567890,"x":9007199254740993}',
    "long-fractions": b'{"model":"m","messages":[],"temperature":0.10000000000000000555,"x":1e400,"y":1e-400}',
    "lone-surrogates": b'{"model":"m","messages":[{"role":"user","content":"\\ud800 and \\udc00"}]}',
    "trailing-newline": b'{"model":"m","messages":[],"temperature":0}\n',
    "byte-order-mark": b'\xef\xbb\xbf{"model":"m","messages":[]}',
    "stream-spelled-oddly": b'{"model":"m","messages":[],"stream" :\nfalse}',
}

ODD_BODIES = {
    "cut-off": b'{"model":"gpt-4o","messages":[{"role":"us',
    "not-json": b"model=gpt-4o&messages=hello",
    "not-utf8": b'{"model":"m","messages":[{"role":"user","content":"\xff\xfe\xc3"}]}',
    "empty": b"",
    "list": b'[{"model":"m"}]',
    "string": b'"model"',
    "null": b"null",
    "number": b"42",
    "nan": b'{"model":"m","temperature":NaN,"messages":[]}',
    "deep-list": b'{"model":"m","messages":' + b"[" * 3000 + b"]" * 3000 + b"}",
    "deep-object": b'{"a":' * 3000 + b"1" + b"}" * 3000,
    "wrong-types": b'{"model":7,"messages":"hello","temperature":"zero","stream":"yes"}',
    "messages-null": b'{"model":null,"messages":null}',
    "nul-bytes": b"\x00\x00\x00",
    "two-values": b'{"model":"m"}{"model":"m"}',
}

SMUGGLED = b"GET /v1/hidden-%s HTTP/1.1\r\nHost: client.example\r\n\r\n"


def post(ways: Ways, path: str, body: bytes | None, headers: Headers = (JSON_TYPE,)) -> bytes:
    """A POST marked with the test's nonce."""
    return ways.request("POST", path, headers, body)


def raw_post(ways: Ways, path: str, lines: bytes, rest: bytes) -> bytes:
    """A POST whose further header *lines* and everything after the head are spelled by the test."""
    head = f"POST {path} HTTP/1.1\r\nHost: client.example\r\nx-nonce: {ways.nonce}\r\n"
    return head.encode() + lines + b"\r\n" + rest


def chunked_post(ways: Ways, path: str, rest: bytes, lines: bytes = b"") -> bytes:
    """A chunked POST whose chunks are spelled by the test."""
    return raw_post(ways, path, lines + b"Transfer-Encoding: chunked\r\n", rest)


def send_bluntly(ways: Ways, octets: bytes) -> RawAnswer | None:
    """The answer to a request that need not be answered; None where the connection was dropped instead."""
    try:
        answer = raw_client.exchange(ways.proxy, octets)
    except (DroppedError, BrokenPipeError, ConnectionResetError):
        answer = None
    ways.settle()
    return answer


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.decode("latin-1"))
def test_q01_the_request_target_arrives_byte_for_byte(ways: Ways, target: bytes) -> None:
    _, through = ways.alike(ways.request("GET", target))
    assert through.only.target == target


@pytest.mark.parametrize("query", [b"?api-version=2024-10-21&x=%2f%2F&&y", b"?", b"?a=%zz&a=", b"?b=2&a=1&b=1"])
def test_q01_a_query_on_a_cached_path_arrives_byte_for_byte(ways: Ways, query: bytes) -> None:
    octets = ways.chat().replace(b"/v1/chat/completions", b"/v1/chat/completions" + query, 1)
    _, through = ways.alike(octets)
    assert through.only.target == b"/v1/chat/completions" + query


def test_q01_the_method_keeps_its_letters(ways: Ways) -> None:
    ways.alike(ways.request("PATCH", "/v1/models"))
    ways.alike(ways.request("M-SEARCH", "/v1/models"))


@BOTH_KINDS
def test_q02_every_end_to_end_header_arrives(ways: Ways, path: str) -> None:
    body = ways.chat_body()
    _, through = ways.alike(post(ways, path, body, SDK_HEADERS))
    assert through.only.values("x-repeated") == [b"first", b"second", b"first"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("GET", "/v1/models", None), ("POST", CHAT, b'{"temperature":0}'), ("POST", FILES, b"x"), ("DELETE", FILES, None)],
)
def test_q03_no_header_is_invented(ways: Ways, method: str, path: str, body: bytes | None) -> None:
    _, through = ways.alike(ways.request(method, path, (), body))
    assert [name for name, _ in request_fields(through.only)] == [b"x-nonce"]


def test_q03_no_header_is_invented_for_a_stream(ways: Ways) -> None:
    octets = raw_client.request("POST", CHAT, (), ways.chat_body(stream=True))
    _, through = ways.alike(octets, answers.chunked(answers.DONE, answers.EVENTS))
    assert request_fields(through.only) == []


@BOTH_KINDS
def test_q04_order_and_letter_case_of_header_names_are_kept(ways: Ways, path: str) -> None:
    odd: Headers = (("x-ZULU", "1"), ("ALPHA", "2"), ("x-zulu", "3"), ("aUTHORIZATION", "Bearer x"), ("cookie", "a=b"))
    ways.alike(post(ways, path, ways.chat_body(), (*odd, *SDK_HEADERS)), spelling=True)


@pytest.mark.parametrize("name", JSON_BODIES)
@BOTH_KINDS
def test_q05_json_bodies_are_forwarded_byte_for_byte(ways: Ways, path: str, name: str) -> None:
    _, through = ways.alike(post(ways, path, JSON_BODIES[name]))
    assert bytes(through.only.body) == JSON_BODIES[name]


@pytest.mark.parametrize("name", ODD_BODIES)
@BOTH_KINDS
def test_q06_bodies_of_any_shape_go_through_and_the_provider_answers(ways: Ways, path: str, name: str) -> None:
    refusal = answers.whole(b'{"error":{"message":"said by the provider","type":"invalid_request_error"}}', status=400)
    straight, through = ways.alike(post(ways, path, ODD_BODIES[name]), refusal)
    assert through.answer.status == 400
    assert through.answer.body == straight.answer.body


@pytest.mark.parametrize("path", [FILES, "/v1/audio/transcriptions", "/v1/images/edits", CHAT])
def test_q07_multipart_bodies_keep_boundary_and_bytes(ways: Ways, path: str) -> None:
    boundary = b"----=_Part'()+_,-./:=? 7"
    body = b"".join(
        (
            b"--" + boundary + b'\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n',
            b"--" + boundary + b'\r\nContent-Disposition: form-data; name="file"; filename="a \\"q\\" b.bin"\r\n',
            b"Content-Type: application/octet-stream\r\n\r\n" + bytes(range(256)) * 40 + b"\r\n\r\n--\r\n\n\r\r\n",
            b"--" + boundary + b'\r\nContent-Disposition: form-data; name="f"; filename="',
            "naïve-文件.txt".encode() + b"\"; filename*=UTF-8''na%C3%AFve.txt\r\n\r\n\r\n",
            b"--" + boundary + b"--\r\nepilogue",
        )
    )
    kind = b'multipart/form-data; boundary="' + boundary + b'"'
    _, through = ways.alike(post(ways, path, body, (("Content-Type", kind),)))
    assert bytes(through.only.body) == body
    assert through.only.values("content-type") == [kind]


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
@BOTH_KINDS
def test_q08_an_encoded_request_body_stays_encoded(ways: Ways, path: str, coding: str) -> None:
    plain = ways.chat_body()
    body = gzip.compress(plain) if coding == "gzip" else zstandard.ZstdCompressor().compress(plain)
    _, through = ways.alike(post(ways, path, body, (JSON_TYPE, ("Content-Encoding", coding))))
    assert bytes(through.only.body) == body
    assert through.only.values("content-encoding") == [coding.encode()]


@pytest.mark.parametrize("size", [1, 7, 4096])
@BOTH_KINDS
def test_q09_a_chunked_body_arrives_complete_with_one_framing(ways: Ways, path: str, size: int) -> None:
    body = ways.chat_body(padding="x" * 300)
    _, through = ways.alike(chunked_post(ways, path, answers.chunks(body, size)))
    assert through.only.framing in (Framing.LENGTH, Framing.CHUNKED)
    assert bytes(through.only.body) == body


@BOTH_KINDS
def test_q09_an_empty_chunked_body_stays_a_body(ways: Ways, path: str) -> None:
    _, through = ways.alike(chunked_post(ways, path, answers.LAST_CHUNK))
    assert through.only.framing in (Framing.LENGTH, Framing.CHUNKED)


@pytest.mark.parametrize("path", [FILES, "/v1/audio/transcriptions", "/v1/uploads/upload_1/parts"])
def test_q10_the_first_part_of_an_upload_arrives_before_the_last_is_sent(ways: Ways, path: str) -> None:
    ways.plays(ways.fixed())
    with ways.connect() as connection:
        connection.send(chunked_post(ways, path, answers.chunk(b"first part")))
        (request,) = ways.provider.wait_for(ways.nonce)
        assert ways.provider.wait_until(lambda: bytes(request.body) == b"first part", 2)
        connection.send(answers.chunk(b", last part") + answers.LAST_CHUNK)
        assert connection.read_answer("POST").status == 200
    assert bytes(request.body) == b"first part, last part"


@BOTH_KINDS
def test_q11_the_client_is_told_to_continue_before_it_sends_the_body(ways: Ways, path: str) -> None:
    final = b'{"said":"by the provider"}'
    ways.plays(answers.whole(final, status=202))
    body = ways.chat_body()
    head, _, _ = post(ways, path, body, (JSON_TYPE, ("Expect", "100-continue"))).partition(body)
    with ways.connect() as connection:
        connection.send(head)
        assert connection.read_head().startswith(b"HTTP/1.1 100 ")
        connection.send(body)
        answer = connection.read_answer("POST")
    assert (answer.status, bytes(answer.body), answer.interim) == (202, final, [])
    (request,) = ways.received()
    assert bytes(request.body) == body


def test_q11_a_client_that_does_not_wait_for_100_is_served(ways: Ways) -> None:
    ways.plays(ways.fixed())
    octets = post(ways, CHAT, ways.chat_body(), (JSON_TYPE, ("Expect", "100-continue")))
    passage = ways.through(octets)
    assert passage.answer.status == 200
    assert bytes(passage.only.body) == ways.chat_body()


@BOTH_KINDS
def test_q12_an_empty_post_keeps_its_length_of_zero(ways: Ways, path: str) -> None:
    _, through = ways.alike(post(ways, path, b""))
    assert through.only.values("content-length") == [b"0"]
    assert through.only.framing is Framing.LENGTH


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS"])
def test_q12_a_request_without_a_body_gets_no_framing(ways: Ways, method: str) -> None:
    _, through = ways.alike(ways.request(method, "/v1/models"), answers.head(200, (("Content-Length", "0"),)))
    assert through.only.framing is Framing.NONE


@pytest.mark.parametrize("target", ["/v1/models", CHAT, "/v1/files/file-1/content"])
def test_q13_head_is_forwarded_and_answered_without_a_body(ways: Ways, target: str) -> None:
    answer = answers.head(200, (("Content-Type", "application/json"), ("Content-Length", "12345"), ("ETag", '"x"')))
    _, through = ways.alike(ways.request("HEAD", target), answer)
    assert through.only.method == "HEAD"
    assert through.answer.get("content-length") == "12345"
    ways.plays(answer)
    with ways.connect() as connection:
        connection.send(ways.request("HEAD", target))
        assert connection.read_answer("HEAD").get("content-length") == "12345"
        ways.plays(ways.fixed())
        connection.send(ways.request("GET", target))
        assert connection.read_answer().status == 200


@pytest.mark.parametrize("path", [CHAT, "/v1/models", "/v1/realtime/sessions", "/anything"])
def test_q14_a_preflight_reaches_the_provider_and_its_answer_comes_back(ways: Ways, path: str) -> None:
    asked: Headers = (
        ("Origin", "https://app.example"),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "authorization,content-type"),
    )
    policy = answers.head(
        204,
        (
            ("Access-Control-Allow-Origin", "https://app.example"),
            ("Access-Control-Allow-Methods", "POST"),
            ("Access-Control-Max-Age", "7"),
            ("Vary", "Origin"),
        ),
    )
    _, through = ways.alike(ways.request("OPTIONS", path, asked), policy, spelling=True)
    assert through.only.method == "OPTIONS"


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "GET", "QUERY", "PROPFIND", "POST", "SUMMARIZE"])
@pytest.mark.parametrize("path", [CHAT, "/v1/vector_stores/vs_1"])
def test_q15_every_method_is_forwarded_with_its_body(ways: Ways, path: str, method: str) -> None:
    body = ways.chat_body()
    _, through = ways.alike(ways.request(method, path, (JSON_TYPE,), body))
    assert through.only.method == method
    assert bytes(through.only.body) == body


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "QUERY", "PROPFIND", "SUMMARIZE"])
def test_q15_every_method_is_forwarded_without_a_body(ways: Ways, method: str) -> None:
    ways.alike(ways.request(method, "/v1/vector_stores/vs_1"))


@pytest.mark.parametrize("megabytes", [2, 7, 20])
def test_q16_a_large_json_body_goes_through_intact(ways: Ways, megabytes: int) -> None:
    image = "data:image/png;base64," + "iVBORw0KGgoAAAANSUhEUg+/" * (megabytes * 1_000_000 // 24)
    content = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": image}}]
    octets = post(ways, CHAT, ways.chat_body(messages=[{"role": "user", "content": content}]))
    _, through = ways.alike(octets)
    assert through.only.body_size > megabytes * 990_000


@BOTH_KINDS
def test_q17_a_header_of_12_kilobytes_is_forwarded(ways: Ways, path: str) -> None:
    _, through = ways.alike(post(ways, path, b"{}", (("X-Long", "abcdefghijkl" * 1024),)))
    assert len(through.only.values("x-long")[0]) == 12 * 1024


@BOTH_KINDS
def test_q17_sixty_headers_of_24_kilobytes_in_all_are_forwarded(ways: Ways, path: str) -> None:
    many = tuple((f"X-Field-{number:02d}", f"{number:02d}" * 200) for number in range(60))
    assert sum(len(name) + len(value) for name, value in many) > 24_000
    ways.alike(post(ways, path, b"{}", many), spelling=True)


@BOTH_KINDS
def test_q18_a_target_of_7_kilobytes_is_forwarded(ways: Ways, path: str) -> None:
    target = f"{path}?q=" + "0123456789abcdef" * 448
    _, through = ways.alike(post(ways, target, b"{}"))
    assert len(through.only.target) > 7 * 1024


@pytest.mark.proxy_only
@BOTH_KINDS
def test_q19_the_host_sent_upstream_is_the_providers(ways: Ways, path: str) -> None:
    passage = ways.through(post(ways, path, b"{}"))
    assert passage.only.values("host") == [b"127.0.0.1:%d" % ways.provider.port]


@pytest.mark.proxy_only
@BOTH_KINDS
def test_q20_hop_by_hop_fields_stop_at_the_proxy(ways: Ways, path: str) -> None:
    hops: Headers = (
        ("Connection", "keep-alive, X-Private, x-other-private"),
        ("Connection", "TE"),
        ("X-Private", "for the proxy only"),
        ("X-Other-Private", "too"),
        ("Keep-Alive", "timeout=5, max=100"),
        ("TE", "trailers, gzip;q=0.5"),
        ("Proxy-Connection", "keep-alive"),
        ("Proxy-Authorization", "Basic c2VjcmV0"),
        ("X-Public", "for all"),
    )
    passage = ways.through(post(ways, path, b"{}", hops))
    fields = {name.lower(): value for name, value in passage.only.headers if name.lower() != b"connection"}
    assert fields.pop(b"x-public") == b"for all"
    stopped = {b"x-private", b"x-other-private", b"keep-alive", b"te", b"proxy-connection", b"proxy-authorization"}
    assert not stopped & fields.keys()
    assert b"private" not in b",".join(passage.only.values("connection")).lower()


@pytest.mark.proxy_only
@BOTH_KINDS
def test_q20_an_upgrade_that_is_no_websocket_stops_at_the_proxy(ways: Ways, path: str) -> None:
    passage = ways.through(post(ways, path, b"{}", (("Connection", "Upgrade"), ("Upgrade", "foo/2"))))
    assert passage.answer.status == 200
    assert passage.only.values("upgrade") == []
    assert b"upgrade" not in b",".join(passage.only.values("connection")).lower()


@pytest.mark.parametrize(
    "credential",
    [
        ("Authorization", "Bearer sk-proj-AbC_123-xyz=="),
        ("authorization", "bearer   two blanks"),
        ("Authorization", "Basic dXNlcjpwYXNz"),
        ("Authorization", "Bearer"),
        ("api-key", "0123456789abcdef0123456789abcdef"),
        ("x-api-key", "sk-ant-api03-abc_def"),
    ],
    ids=lambda pair: "-".join(pair),
)
@BOTH_KINDS
def test_q21_the_credential_arrives_unchanged(ways: Ways, path: str, credential: tuple[str, str]) -> None:
    _, through = ways.alike(post(ways, path, ways.chat_body(), (JSON_TYPE, credential)), spelling=True)
    assert through.only.values(credential[0]) == [credential[1].encode()]


@pytest.mark.parametrize(
    "value", [b"caf\xe9", "naïve 文".encode(), b"\xff\xfe\x80", b"", b"a\tb", b'"quoted; \\" "', b"x" * 5 + b" \x7e"]
)
@BOTH_KINDS
def test_q22_odd_header_values_arrive_unchanged(ways: Ways, path: str, value: bytes) -> None:
    _, through = ways.alike(post(ways, path, b"{}", (("X-Odd", value), ("X-After", "y"))))
    assert through.only.values("x-odd") == [value]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("keep_alive", [False, True])
def test_q23_an_http_1_0_client_gets_no_chunks_and_an_end(ways: Ways, stream: bool, keep_alive: bool) -> None:
    wish: Headers = (("Connection", "keep-alive"),) if keep_alive else ()
    octets = raw_client.request("POST", CHAT, (JSON_TYPE, *wish), ways.chat_body(stream=stream), version="HTTP/1.0")
    with ways.connect() as connection:
        connection.send(octets)
        answer = connection.read_answer("POST")
        assert answer.status == 200
        assert answer.values("transfer-encoding") == []
        assert answer.ending is raw_client.Ending.WHOLE
        if answer.framing is raw_client.Framing.CLOSE or not keep_alive:
            assert connection.ended(5) is raw_client.Ending.TRUNCATED
    assert answer.body.endswith(answers.DONE) if stream else json.loads(answer.body)["object"] == "chat.completion"


@pytest.mark.proxy_only
def test_q23_chunks_of_the_provider_do_not_reach_an_http_1_0_client(ways: Ways) -> None:
    ways.plays(answers.chunked(b'{"a":1}' * 100, size=10))
    answer = raw_client.exchange(ways.proxy, raw_client.request("GET", f"/v1/models/{ways.nonce}", version="HTTP/1.0"))
    assert answer.values("transfer-encoding") == []
    assert bytes(answer.body) == b'{"a":1}' * 100


@BOTH_KINDS
def test_q24_requests_on_one_connection_are_answered_in_order(ways: Ways, path: str) -> None:
    ways.plays(*(answers.whole(b'{"turn":%d}' % turn) for turn in range(4)))
    with ways.connect() as connection:
        for turn in range(2):
            connection.send(post(ways, path, b'{"asked":%d}' % turn))
            assert bytes(connection.read_answer("POST").body) == b'{"turn":%d}' % turn


@pytest.mark.parametrize("kinds", [(CHAT, CHAT), (CHAT, FILES), (FILES, CHAT), (FILES, FILES), (CHAT, "/v1/models")])
def test_q24_pipelined_requests_are_answered_in_order(ways: Ways, kinds: tuple[str, str]) -> None:
    first, second = (f"{ways.nonce}-{word}" for word in ("first", "second"))
    slow = Gate()
    ways.provider.on(first, steps(slow, answers.whole(b'{"turn":"first"}')))
    ways.provider.on(second, steps(answers.whole(b'{"turn":"second"}')))
    both = b"".join(
        raw_client.request("POST", path, (("x-turn", word),), ways.chat_body(turn=word))
        for path, word in zip(kinds, (first, second), strict=True)
    )
    with ways.connect() as connection:
        connection.send(both)
        ways.provider.wait_for(first)
        slow.open()
        assert bytes(connection.read_answer("POST").body) == b'{"turn":"first"}'
        assert bytes(connection.read_answer("POST").body) == b'{"turn":"second"}'
    ways.provider.forget(first)
    ways.provider.forget(second)


TWO_FRAMINGS = {
    "length-then-chunked": b"Content-Length: %(short)d\r\nTransfer-Encoding: chunked\r\n",
    "chunked-then-length": b"Transfer-Encoding: chunked\r\nContent-Length: %(short)d\r\n",
    "length-of-everything": b"Content-Length: %(long)d\r\nTransfer-Encoding: chunked\r\n",
    "upper-case": b"Content-Length: %(long)d\r\nTransfer-Encoding: CHUNKED\r\n",
    "unknown-coding": b"Content-Length: %(long)d\r\nTransfer-Encoding: xchunked\r\n",
    "coding-list": b"Content-Length: %(long)d\r\nTransfer-Encoding: gzip, chunked\r\n",
    "identity": b"Content-Length: %(long)d\r\nTransfer-Encoding: identity\r\n",
    "chunked-not-last": b"Content-Length: %(long)d\r\nTransfer-Encoding: chunked, identity\r\n",
    "twice": b"Content-Length: %(long)d\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
    "tab": b"Content-Length: %(long)d\r\nTransfer-Encoding:\tchunked\r\n",
    "vertical-tab": b"Content-Length: %(long)d\r\nTransfer-Encoding: \x0bchunked\r\n",
    "space-before-colon": b"Content-Length: %(long)d\r\nTransfer-Encoding : chunked\r\n",
    "quoted": b'Content-Length: %(long)d\r\nTransfer-Encoding: "chunked"\r\n',
    "trailing-comma": b"Content-Length: %(long)d\r\nTransfer-Encoding: chunked,\r\n",
    "only-unknown-coding": b"Transfer-Encoding: xchunked\r\n",
    "only-chunked-twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
}


@pytest.mark.proxy_only
@pytest.mark.parametrize("name", TWO_FRAMINGS)
@BOTH_KINDS
def test_q25_a_request_with_two_framings_never_hides_another(ways: Ways, path: str, name: str) -> None:
    hidden = SMUGGLED % ways.nonce.encode()
    rest = answers.LAST_CHUNK + hidden
    lines = TWO_FRAMINGS[name]
    if b"%" in lines:
        lines %= {b"short": len(answers.LAST_CHUNK) + 4, b"long": len(rest)}
    answer = send_bluntly(ways, raw_post(ways, path, lines, rest))
    received = ways.received()
    assert not [request for request in received if b"hidden" in request.target], received
    if answer is None or answer.status in REFUSALS:
        assert not received, f"refused, and yet forwarded: {received}"
    else:
        (request,) = received
        assert request.framing in (Framing.LENGTH, Framing.CHUNKED)
        assert request.complete


BAD_LENGTHS = {
    "two-different": b"Content-Length: 4\r\nContent-Length: 5\r\n",
    "two-in-one": b"Content-Length: 4, 5\r\n",
    "plus": b"Content-Length: +4\r\n",
    "minus": b"Content-Length: -4\r\n",
    "hex": b"Content-Length: 0x4\r\n",
    "fraction": b"Content-Length: 4.0\r\n",
    "blank-within": b"Content-Length: 4 4\r\n",
    "underscore": b"Content-Length: 1_0\r\n",
    "empty": b"Content-Length: \r\n",
    "word": b"Content-Length: four\r\n",
    "exponent": b"Content-Length: 4e0\r\n",
    "other-digits": b"Content-Length: \xd9\xa4\r\n",
    "enormous": b"Content-Length: 99999999999999999999999999\r\n",
}


@pytest.mark.proxy_only
@pytest.mark.parametrize("name", BAD_LENGTHS)
@BOTH_KINDS
def test_q26_a_bad_content_length_is_refused(ways: Ways, path: str, name: str) -> None:
    answer = send_bluntly(ways, raw_post(ways, path, BAD_LENGTHS[name], b"{}  " + b" " * 6))
    assert answer is not None, "dropped without a 400"
    assert answer.status == 400
    assert ways.received() == []


BAD_CHUNKS = {
    "hex-prefix": b"0x2\r\n{}\r\n0\r\n\r\n",
    "minus": b"-2\r\n{}\r\n0\r\n\r\n",
    "plus": b"+2\r\n{}\r\n0\r\n\r\n",
    "not-hex": b"g\r\n{}\r\n0\r\n\r\n",
    "empty-size": b"\r\n{}\r\n0\r\n\r\n",
    "underscore": b"0_2\r\n{}\r\n0\r\n\r\n",
    "too-short-a-size": b"1\r\n{}\r\n0\r\n\r\n",
    "too-large-a-number": b"fffffffffffffffff\r\n{}\r\n0\r\n\r\n",
    "other-digits": b"\xd9\xa2\r\n{}\r\n0\r\n\r\n",
    "leading-blank": b" 2\r\n{}\r\n0\r\n\r\n",
    "second-chunk-bad": b"2\r\n{}\r\nzz\r\n\r\n",
}


@pytest.mark.proxy_only
@pytest.mark.parametrize("name", BAD_CHUNKS)
@BOTH_KINDS
def test_q26_a_bad_chunk_size_is_refused(ways: Ways, path: str, name: str) -> None:
    answer = send_bluntly(ways, chunked_post(ways, path, BAD_CHUNKS[name]))
    assert answer is not None, "dropped without a 400"
    assert answer.status == 400
    # A streamed upload has begun before its bad chunk comes; then it must not look complete.
    assert not [request for request in ways.received() if path == CHAT or request.complete]


MALFORMED_LINES = {
    "space-before-colon": b"X-Bad : value\r\n",
    "tab-before-colon": b"X-Bad\t: value\r\n",
    "folded": b"X-Bad: one\r\n two\r\n",
    "folded-by-tab": b"X-Bad: one\r\n\ttwo\r\n",
    "folded-first": b" X-Bad: value\r\n",
    "bare-cr-in-value": b"X-Bad: a\rX-Hidden: b\r\n",
    "bare-cr-in-name": b"X-\rBad: a\r\n",
    "bare-lf": b"X-Bad: a\nX-Hidden: b\r\n",
    "nul-in-value": b"X-Bad: a\x00b\r\n",
    "nul-in-name": b"X-B\x00ad: a\r\n",
    "no-colon": b"X-Bad value\r\n",
    "empty-name": b": value\r\n",
    "blank-in-name": b"X Bad: value\r\n",
    "control-in-value": b"X-Bad: a\x01b\r\n",
    "non-ascii-name": b"X-B\xe9d: value\r\n",
    "paren-in-name": b"X(Bad): value\r\n",
}


@pytest.mark.proxy_only
@pytest.mark.parametrize("name", MALFORMED_LINES)
@BOTH_KINDS
def test_q27_a_malformed_header_line_is_never_forwarded_raw(ways: Ways, path: str, name: str) -> None:
    line = MALFORMED_LINES[name]
    answer = send_bluntly(ways, raw_post(ways, path, line + b"Content-Length: 2\r\n", b"{}"))
    received = ways.received()
    if answer is None or answer.status == 400:
        assert received == []
        return
    (request,) = received
    # A lone LF ends a line for lenient readers (RFC 9112 2.2), so then the line reads as two plain ones.
    allowed = {b"X-Bad: a", b"X-Hidden: b"} if name == "bare-lf" else set[bytes]()
    for forwarded in request.header_lines:
        label, colon, _ = forwarded.partition(b":")
        assert colon, forwarded
        assert label, forwarded
        assert not set(b" \t") & set(label), forwarded
        assert not set(b"\r\n\x00") & set(forwarded), forwarded
        assert forwarded + b"\r\n" != line or forwarded in allowed or name == "control-in-value", forwarded
        assert name != "bare-cr-in-value" or label.lower() != b"x-hidden", forwarded


@BOTH_KINDS
def test_q28_chunk_extensions_do_not_alter_the_request(ways: Ways, path: str) -> None:
    body = ways.chat_body()
    rest = (
        answers.chunk(body[:10], b";name=value")
        + answers.chunk(body[10:20], b';q="a; b"')
        + answers.chunk(body[20:], b";flag")
        + b"0;last\r\n\r\n"
    )
    _, through = ways.alike(chunked_post(ways, path, rest))
    assert bytes(through.only.body) == body


@BOTH_KINDS
def test_q28_request_trailers_do_not_alter_the_request(ways: Ways, path: str) -> None:
    body = ways.chat_body()
    rest = answers.chunk(body) + b"0\r\nX-Checksum: abc\r\nX-Other: def\r\n\r\n"
    ways.plays(ways.fixed())
    with ways.connect() as connection:
        for _ in range(2):
            connection.send(chunked_post(ways, path, rest, b"Trailer: X-Checksum\r\n"))
            assert connection.read_answer("POST").status == 200
    for request in ways.received():
        assert bytes(request.body) == body
        assert request.values("x-checksum") == []


@pytest.mark.timed
@pytest.mark.timeout(40)
def test_q29_a_body_that_trickles_in_is_not_cut_off(ways: Ways) -> None:
    ways.plays(ways.fixed())
    body = ways.chat_body(temperature=1)

    def trickle(path: str, chunked: bool) -> RawAnswer:
        octets = chunked_post(ways, path, b"") if chunked else post(ways, path, body)[: -len(body)]
        with ways.connect() as connection:
            connection.send(octets)
            for place in range(len(body)):
                if place == 40:
                    time.sleep(2)
                byte = body[place : place + 1]
                connection.send(answers.chunk(byte) if chunked else byte)
                time.sleep(0.02)
            connection.send(answers.LAST_CHUNK if chunked else b"")
            return connection.read_answer("POST")

    with ThreadPoolExecutor(4) as threads:
        running = [threads.submit(trickle, path, chunked) for path in (CHAT, FILES) for chunked in (False, True)]
        assert [answer.result().status for answer in running] == [200] * 4
    assert [bytes(request.body) for request in ways.received()] == [body] * 4


@pytest.mark.parametrize("stream", [False, True])
def test_q30_a_client_that_closed_its_sending_side_gets_its_answer(ways: Ways, stream: bool) -> None:
    whole = answers.chat_body(f"About {ways.nonce}.")
    events = b"".join(answers.chat_events(["one ", "two "])) + answers.DONE
    ways.plays(answers.chunked(events, answers.EVENTS) if stream else answers.whole(whole))
    with ways.connect() as connection:
        connection.send(ways.chat(stream=stream))
        connection.finish_sending()
        answer = connection.read_answer("POST")
    assert answer.ending is raw_client.Ending.WHOLE
    assert bytes(answer.body) == (events if stream else whole)


@pytest.mark.parametrize("path", [CHAT, "/v1/audio/speech"])
def test_q30_a_stream_that_flows_goes_on_after_the_half_close(ways: Ways, path: str) -> None:
    rest = Gate()
    events = [*answers.chat_events(["one ", "two "]), answers.DONE]
    ways.plays(
        steps(
            answers.chunked_head(answers.EVENTS),
            answers.chunk(events[0]),
            rest,
            *(answers.chunk(event) for event in events[1:]),
            answers.LAST_CHUNK,
        )
    )
    with ways.connect() as connection:
        connection.send(ways.chat(path=path, stream=True))
        answer = connection.start_answer("POST")
        answer.read_until(events[0])
        connection.finish_sending()
        rest.open()
        answer.finish()
    assert answer.ending is raw_client.Ending.WHOLE
    assert bytes(answer.body) == b"".join(events)


@pytest.mark.proxy_only
@pytest.mark.parametrize("origin", ["http://client.example", "http://other.example:8080", "HTTP://CLIENT.EXAMPLE"])
def test_q31_an_absolute_target_is_treated_as_its_path(ways: Ways, origin: str) -> None:
    passage = ways.through(ways.request("GET", f"{origin}/v1/models?x=%2f"))
    assert passage.answer.status == 200
    assert passage.only.target == b"/v1/models?x=%2f"
    assert passage.only.values("host") == [b"127.0.0.1:%d" % ways.provider.port]


@pytest.mark.proxy_only
def test_q31_an_absolute_target_of_a_cached_path_is_the_same_request(ways: Ways) -> None:
    plain = ways.chat()
    absolute = plain.replace(b"POST /", b"POST http://client.example/", 1)
    first, second = ways.through(absolute), ways.through(plain)
    assert first.only.target == b"/v1/chat/completions"
    assert bytes(second.answer.body) == bytes(first.answer.body)
    assert second.received == ()


@pytest.mark.parametrize(
    "target",
    [
        "/v1/../v1/models",
        "/v1/./models",
        "/v1/models/..",
        "/v1/models/.",
        "//v1//models",
        "/v1//chat/completions",
        "/v1/%2e%2e/models",
        "/v1%2Fmodels",
        "/v1/models/a%2fb/../c",
        "/v1/models//",
        "/../../etc/passwd",
        "//client.example/v1/models",
        "/v1/chat/./completions",
        "/V1/Chat/Completions",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_q32_the_path_is_not_normalised(ways: Ways, target: str, method: str) -> None:
    octets = ways.request(method, target, (), ways.chat_body() if method == "POST" else None)
    _, through = ways.alike(octets)
    assert through.only.target == target.encode()


@pytest.mark.parametrize("one_connection", [True, False])
def test_q33_no_cookie_is_remembered(ways: Ways, one_connection: bool) -> None:
    cookies = answers.whole(b"{}", (*answers.JSON, ("Set-Cookie", "sid=secret; Path=/"), ("Set-Cookie", "b=2")))
    ways.plays(cookies)
    asked = [ways.request("GET", "/v1/models"), post(ways, CHAT, b"{}"), post(ways, FILES, b"x")]
    connection = ways.connect()
    for octets in asked + asked:
        if not one_connection:
            connection.close()
            connection = ways.connect()
        connection.send(octets)
        assert connection.read_answer().values("set-cookie") == [b"sid=secret; Path=/", b"b=2"]
    connection.close()
    assert [request.values("cookie") for request in ways.received()] == [[]] * 6


def h2c_offer(ways: Ways, method: str, path: str, body: bytes | None) -> tuple[bytes, Passage]:
    """A request with the offer that the JDK client makes, and what became of it."""
    offer: Headers = (
        ("Connection", "Upgrade, HTTP2-Settings"),
        ("HTTP2-Settings", "AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA"),
        ("Upgrade", "h2c"),
        ("User-Agent", "Java-http-client/21.0.2"),
    )
    octets = ways.request(method, path, offer, body)
    ways.plays(ways.fixed())
    return octets, ways.through(octets)


@pytest.mark.parametrize(("method", "path"), [("POST", CHAT), ("POST", FILES), ("GET", "/v1/models")])
def test_q34_an_h2c_offer_is_ignored(ways: Ways, method: str, path: str) -> None:
    body = ways.chat_body() if method == "POST" else None
    _, passage = h2c_offer(ways, method, path, body)
    assert passage.answer.status_line.startswith(b"HTTP/1.1 200")
    assert bytes(passage.only.body) == (body or b"")


@pytest.mark.proxy_only
@pytest.mark.parametrize(("method", "path"), [("POST", CHAT), ("POST", FILES), ("GET", "/v1/models")])
def test_q34_nothing_of_an_h2c_offer_goes_upstream(ways: Ways, method: str, path: str) -> None:
    _, passage = h2c_offer(ways, method, path, ways.chat_body() if method == "POST" else None)
    assert passage.only.values("upgrade") == passage.only.values("http2-settings") == []
    named = b",".join(passage.only.values("connection")).lower()
    assert b"upgrade" not in named
    assert b"settings" not in named


def test_the_comparison_sees_a_changed_body_a_lost_header_and_a_second_fetch(ways: Ways) -> None:
    """The tests above are worth what the comparison sees."""
    ways.plays(ways.fixed())
    plain = ways.straight(post(ways, CHAT, b'{"a":1.0}', (("X-A", "1"), ("X-A", "2"))))
    for altered in (
        post(ways, CHAT, b'{"a":1}', (("X-A", "1"), ("X-A", "2"))),
        post(ways, CHAT, b'{"a":1.0}', (("X-A", "2"), ("X-A", "1"))),
        post(ways, CHAT, b'{"a":1.0}', (("X-A", "1"),)),
        post(ways, CHAT + "?", b'{"a":1.0}', (("X-A", "1"), ("X-A", "2"))),
    ):
        other = ways.straight(altered)
        with pytest.raises(AssertionError, match="the proxy shows"):
            assert_alike(plain, other)
    with pytest.raises(AssertionError, match="upstream requests"):
        assert_alike(plain, Passage(answer=plain.answer, received=plain.received * 2))
