"""R1-R25: what the provider answers reaches the client as it was answered."""

import gzip
import json
import zlib
from hashlib import sha256

import brotli
import pytest
import zstandard

from tests import answers
from tests.answers import JSON, Fields
from tests.comparison import Ways, answer_fields, assert_alike
from tests.raw_client import Ending, Framing
from tests.scripted_provider import End, Generate, LastWords, Pause, steps

CHAT = "/v1/chat/completions"
MODELS = "/v1/models"

STATUS_CODES = (
    *(200, 201, 202, 203, 204, 205, 206, 207, 226),
    *(300, 301, 302, 303, 304, 305, 307, 308),
    *(
        400,
        401,
        402,
        403,
        404,
        405,
        406,
        408,
        409,
        410,
        411,
        412,
        413,
        415,
        417,
        418,
        421,
        422,
        424,
        425,
        429,
        451,
        499,
    ),
    *(500, 501, 502, 503, 504, 507, 520, 521, 524, 529, 530),
)
WITHOUT_BODY = frozenset({204, 205, 304})

PROVIDER_FIELDS: Fields = (
    ("Date", "Tue, 04 Nov 2025 10:20:30 GMT"),
    ("Content-Type", "application/json"),
    ("access-control-expose-headers", "X-Request-ID"),
    ("openai-organization", "user-abc"),
    ("openai-processing-ms", "512"),
    ("openai-version", "2020-10-01"),
    ("openai-project", "proj_x"),
    ("x-envoy-upstream-service-time", "530"),
    ("x-ratelimit-limit-requests", "10000"),
    ("x-ratelimit-remaining-tokens", "199980"),
    ("x-ratelimit-reset-requests", "8.64s"),
    ("x-request-id", "req_0123456789abcdef"),
    ("X-Content-Type-Options", "nosniff"),
    ("Strict-Transport-Security", "max-age=31536000; includeSubDomains; preload"),
    ("CF-Cache-Status", "DYNAMIC"),
    ("CF-RAY", "9a0b1c2d3e4f-AMS"),
    ("alt-svc", 'h3=":443"; ma=86400'),
    ("Vary", "Accept-Encoding"),
    ("Vary", "Origin"),
    ("Link", "</a>; rel=preload"),
    ("Link", "</b>; rel=preload"),
    ("Cache-Control", "no-transform, private"),
    ("ETag", 'W/"abc"'),
    ("Last-Modified", "Tue, 04 Nov 2025 10:00:00 GMT"),
    ("Expires", "0"),
    ("Pragma", "no-cache"),
    ("X-Robots-Tag", "none"),
    ("Server", "cloudflare"),
)

JSON_BODIES = {
    "indented": b'{\n  "id": "chatcmpl-1",\n\t"object" : "chat.completion" }',
    "key-order": b'{"usage":{"total_tokens":3},"object":"x","id":"1","choices":[]}',
    "duplicate-keys": b'{"id":"a","id":"b","choices":[],"choices":[1]}',
    "escapes": b'{"text":"\\u00e9\\/\\ud83d\\ude00 \\u0000 \xc3\xa9"}',
    "lone-surrogate": b'{"text":"\\ud800"}',
    "number-spellings": b'{"a":1.0,"b":1e2,"c":-0.0,"d":1E+400,"e":0.10000000000000001}',
    "big-integers": b'{"created":123456789012345678901234567890}',
    "trailing-blanks": b'{"id":"1"}  \r\n\n',
    "leading-blanks": b'\r\n\n\n{"id":"1"}',
    "byte-order-mark": b'\xef\xbb\xbf{"id":"1"}',
}

ODD_BODIES = {
    "cut-object": (b'{"id":"chatcmpl-1","choices":[{"message":{"content":"Hel', "application/json"),
    "html": (b"<!DOCTYPE html><html><body>It works</body></html>\n", "text/html; charset=UTF-8"),
    "empty": (b"", "application/json"),
    "not-json": (b"upstream connect error or disconnect/reset before headers", "application/json"),
    "not-utf8": (b'{"text":"\xff\xfe"}', "application/json"),
    "two-values": (b'{"id":"1"}\n{"id":"2"}', "application/json"),
    "null": (b"null", "application/json"),
}

PLAIN = json.dumps({"choices": [{"message": {"content": "encoded " * 200}, "finish_reason": "stop"}]}).encode()
ENCODED = {
    "gzip": gzip.compress(PLAIN),
    "deflate": zlib.compress(PLAIN),
    "br": brotli.compress(PLAIN),
    "zstd": zstandard.ZstdCompressor().compress(PLAIN),
    "x-mystery": bytes(range(256)) * 3,
    "gzip, br": brotli.compress(gzip.compress(PLAIN)),
    "identity": PLAIN,
}

NUMBERED = b"".join(b"%07d\n" % number for number in range(1 << 13))


def asks(ways: Ways, method: str, path: str = CHAT) -> bytes:
    """A cacheable chat request, or a request that only passes through."""
    return ways.chat(path=path) if method == "POST" else ways.request(method, path)


BOTH_KINDS = pytest.mark.parametrize(("method", "path"), [("POST", CHAT), ("GET", MODELS)])
BOTH_FRAMINGS = pytest.mark.parametrize("framing", ["length", "chunked"])


def framed(framing: str, body: bytes, fields: Fields = JSON, *, status: int = 200) -> bytes:
    """An answer with *body*, framed one way or the other."""
    if framing == "chunked":
        return answers.chunked(body, fields, status=status, size=1000)
    return answers.whole(body, fields, status=status)


def test_r01_the_list_of_status_codes_has_51() -> None:
    assert len(set(STATUS_CODES)) == len(STATUS_CODES) == 51


@pytest.mark.parametrize("status", STATUS_CODES)
@BOTH_KINDS
def test_r01_a_status_code_comes_back_with_its_body(ways: Ways, method: str, path: str, status: int) -> None:
    body = b'{"status":%d,"said":"by the provider"}' % status
    fields: Fields = (*JSON, ("Location", f"http://127.0.0.1:{ways.provider.port}/elsewhere"))
    answer = answers.head(status, fields) if status in WITHOUT_BODY else answers.whole(body, fields, status=status)
    if status == 205:
        answer = answers.whole(b"", fields, status=status)
    _, through = ways.alike(asks(ways, method, path), answer)
    assert through.answer.status == status
    assert bytes(through.answer.body) == (b"" if status in WITHOUT_BODY else body)
    assert through.only.target == path.encode()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@BOTH_KINDS
def test_r01_a_redirect_is_not_followed(ways: Ways, method: str, path: str, status: int) -> None:
    there = f"/v1/moved-{ways.nonce}"
    ways.alike(asks(ways, method, path), answers.whole(b"", (("Location", there),), status=status))
    assert not [request for request in ways.received() if b"moved" in request.target]


@pytest.mark.parametrize("reason", ["Fine By Me", "", "OK (cached elsewhere); really", "caf\xe9"])
@pytest.mark.parametrize("status", [200, 404, 529])
@BOTH_KINDS
def test_r02_the_reason_phrase_is_kept(ways: Ways, method: str, path: str, status: int, reason: str) -> None:
    _, through = ways.alike(asks(ways, method, path), answers.whole(b"{}", status=status, reason=reason), spelling=True)
    assert through.answer.reason == reason.encode("latin-1")


@BOTH_FRAMINGS
@BOTH_KINDS
def test_r03_every_end_to_end_header_comes_back(ways: Ways, method: str, path: str, framing: str) -> None:
    _, through = ways.alike(asks(ways, method, path), framed(framing, b"{}", PROVIDER_FIELDS))
    assert through.answer.values("vary") == [b"Accept-Encoding", b"Origin"]


@BOTH_FRAMINGS
@BOTH_KINDS
def test_r03_no_header_is_invented(ways: Ways, method: str, path: str, framing: str) -> None:
    _, through = ways.alike(asks(ways, method, path), framed(framing, b"{}", ()))
    assert {name.lower() for name, _ in answer_fields(through.answer)} <= {b"date"}


@BOTH_KINDS
def test_r04_order_and_letter_case_of_header_names_are_kept(ways: Ways, method: str, path: str) -> None:
    odd: Fields = (("x-ZULU", "1"), ("ALPHA", "2"), ("x-zulu", "3"), ("content-TYPE", "application/json"))
    ways.alike(asks(ways, method, path), answers.whole(b"{}", (*odd, *PROVIDER_FIELDS[2:])), spelling=True)


@BOTH_KINDS
def test_r05_date_and_server_are_the_providers(ways: Ways, method: str, path: str) -> None:
    fields: Fields = (("Date", "Mon, 03 Feb 1997 01:02:03 GMT"), ("Server", "uvicorn, behind nginx/1.2"), *JSON)
    _, through = ways.alike(asks(ways, method, path), answers.whole(b"{}", fields))
    assert through.answer.values("date") == [b"Mon, 03 Feb 1997 01:02:03 GMT"]
    assert through.answer.values("server") == [b"uvicorn, behind nginx/1.2"]


@BOTH_KINDS
def test_r06_several_set_cookie_lines_stay_several(ways: Ways, method: str, path: str) -> None:
    cookies = [b"__cf_bm=a.b-c; path=/; expires=Tue, 04-Nov-25 10:50:30 GMT; HttpOnly", b"b=2", b"a=1", b"b=2"]
    fields = (*JSON, *(("Set-Cookie", cookie) for cookie in cookies))
    _, through = ways.alike(asks(ways, method, path), answers.whole(b"{}", fields))
    assert through.answer.values("set-cookie") == cookies


@pytest.mark.parametrize("name", JSON_BODIES)
@BOTH_FRAMINGS
@BOTH_KINDS
def test_r07_json_bodies_are_byte_identical(ways: Ways, method: str, path: str, framing: str, name: str) -> None:
    _, through = ways.alike(asks(ways, method, path), framed(framing, JSON_BODIES[name]))
    assert bytes(through.answer.body) == JSON_BODIES[name]


@pytest.mark.parametrize("size", [0, 1, 100, 100_000])
@BOTH_KINDS
def test_r08_content_length_stays_content_length(ways: Ways, method: str, path: str, size: int) -> None:
    _, through = ways.alike(asks(ways, method, path), answers.whole(b"x" * size))
    assert through.answer.framing is Framing.LENGTH
    assert through.answer.values("content-length") == [b"%d" % size]


@pytest.mark.parametrize("accepts", [None, "gzip", "gzip, deflate, br, zstd"])
@pytest.mark.parametrize("coding", ENCODED)
@BOTH_FRAMINGS
@BOTH_KINDS
def test_r09_encoded_bodies_stay_encoded(
    ways: Ways, method: str, path: str, framing: str, coding: str, accepts: str | None
) -> None:
    wish = (("Accept-Encoding", accepts),) if accepts else ()
    octets = ways.chat(headers=wish) if method == "POST" else ways.request(method, path, wish)
    _, through = ways.alike(octets, framed(framing, ENCODED[coding], (*JSON, ("Content-Encoding", coding))))
    assert bytes(through.answer.body) == ENCODED[coding]
    assert through.answer.values("content-encoding") == [coding.encode()]


BODILESS = {
    "204": ("POST", answers.head(204, (("x-kind", "204"),))),
    "204-with-length": ("POST", answers.head(204, (("Content-Length", "0"),))),
    "204-get": ("GET", answers.head(204)),
    "304": ("GET", answers.head(304, (("ETag", '"x"'),))),
    "304-with-length": ("GET", answers.head(304, (("Content-Length", "100"), ("ETag", '"x"')))),
    "304-post": ("POST", answers.head(304)),
    "head": ("HEAD", answers.head(200, (*JSON, ("Content-Length", "5000")))),
    "head-chunked": ("HEAD", answers.head(200, (*JSON, ("Transfer-Encoding", "chunked")))),
    "head-unframed": ("HEAD", answers.head(200, JSON)),
    "head-404": ("HEAD", answers.head(404, (("Content-Length", "9"),))),
}


@pytest.mark.parametrize("name", BODILESS)
def test_r10_an_answer_without_a_body_leaves_the_connection_in_step(ways: Ways, name: str) -> None:
    method, answer = BODILESS[name]
    octets = asks(ways, method, CHAT if method == "POST" else MODELS)
    ways.alike(octets, answer)
    ways.plays(answer, answers.whole(b'{"next":true}'))
    with ways.connect() as connection:
        connection.send(octets)
        first = connection.read_answer(method)
        assert (first.status, bytes(first.body)) == (int(answer.split(b" ")[1]), b"")
        if first.status == 204:
            assert first.values("transfer-encoding") == []
        connection.send(ways.request("GET", MODELS))
        assert bytes(connection.read_answer().body) == b'{"next":true}'


@pytest.mark.parametrize("name", ODD_BODIES)
@BOTH_FRAMINGS
@BOTH_KINDS
def test_r11_a_200_with_an_odd_body_is_delivered_as_it_is(
    ways: Ways, method: str, path: str, framing: str, name: str
) -> None:
    body, kind = ODD_BODIES[name]
    _, through = ways.alike(asks(ways, method, path), framed(framing, body, (("Content-Type", kind),)))
    assert bytes(through.answer.body) == body


@pytest.mark.parametrize(
    ("status", "kind", "body"),
    [
        (502, "text/html; charset=UTF-8", b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n</html>\r\n"),
        (520, "text/html", b"<!DOCTYPE html><!--[if lt IE 7]> <![endif]--><title>520: unknown error</title>"),
        (503, "text/plain", b"no healthy upstream"),
        (403, "application/problem+json", b'{"type":"about:blank","title":"Forbidden","status":403}'),
        (429, "application/problem+json; charset=utf-8", b'{"title":"Too Many"}'),
    ],
)
@BOTH_KINDS
def test_r12_error_pages_pass_unchanged(
    ways: Ways, method: str, path: str, status: int, kind: str, body: bytes
) -> None:
    fields: Fields = (("Server", "cloudflare"), ("Content-Type", kind), ("CF-RAY", "abc"))
    _, through = ways.alike(asks(ways, method, path), answers.whole(body, fields, status=status))
    assert through.answer.values("content-type") == [kind.encode()]


@pytest.mark.parametrize(
    "kind",
    [
        "application/json; charset=utf-8",
        "Application/JSON;Charset=UTF-8",
        "text/event-stream",
        "multipart/mixed; boundary=\"a b\"; x='y'",
        "audio/mpeg",
        "nonsense",
        "",
    ],
)
@BOTH_KINDS
def test_r13_the_content_type_is_untouched(ways: Ways, method: str, path: str, kind: str) -> None:
    _, through = ways.alike(asks(ways, method, path), answers.whole(b"{}", (("Content-Type", kind),)))
    assert through.answer.values("content-type") == [kind.encode()]


@pytest.mark.parametrize("status", [200, 404])
@pytest.mark.parametrize("body", [b"{}", b""])
@BOTH_KINDS
def test_r13_no_content_type_is_invented(ways: Ways, method: str, path: str, body: bytes, status: int) -> None:
    _, through = ways.alike(asks(ways, method, path), answers.whole(body, (), status=status))
    assert through.answer.values("content-type") == []


@BOTH_FRAMINGS
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/v1/audio/speech"), ("GET", "/v1/files/file-1/content"), ("POST", CHAT)]
)
def test_r14_binary_bodies_are_byte_identical(ways: Ways, method: str, path: str, framing: str) -> None:
    body = bytes(range(256)) * 8192
    fields: Fields = (("Content-Type", "application/octet-stream"),)
    _, through = ways.alike(asks(ways, method, path), framed(framing, body, fields))
    assert bytes(through.answer.body) == body


@pytest.mark.parametrize(
    "value", [b"caf\xe9", "naïve 文".encode(), b"\xff\x80", b"", b"a\tb", b"x" * 12 * 1024, b'"q\\" ; ,']
)
@BOTH_KINDS
def test_r15_odd_header_values_come_back_unchanged(ways: Ways, method: str, path: str, value: bytes) -> None:
    fields: Fields = (*JSON, ("x-odd", value), ("x-after", "1"))
    _, through = ways.alike(asks(ways, method, path), answers.whole(b"{}", fields))
    assert through.answer.values("x-odd") == [value]


INTERIM = {
    "102": answers.head(102),
    "103": answers.head(103, (("Link", "</style.css>; rel=preload"),)),
    "100": answers.head(100),
    "several": answers.head(102) + answers.head(103, (("Link", "</a>"),)) + answers.head(102),
}


@pytest.mark.parametrize("name", INTERIM)
@BOTH_KINDS
def test_r16_interim_answers_do_not_confuse_the_proxy(ways: Ways, method: str, path: str, name: str) -> None:
    final = answers.whole(b'{"final":true}')
    octets = asks(ways, method, path)
    for script in (steps(INTERIM[name] + final), steps(INTERIM[name], Pause(0.05), final)):
        ways.plays(script)
        with ways.connect() as connection:
            for _ in range(2):
                connection.send(octets)
                answer = connection.read_answer(method)
                assert (answer.status, bytes(answer.body)) == (200, b'{"final":true}')
                assert answer.values("link") == []


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
@pytest.mark.parametrize("body", [b'{"closed":true}', b"", NUMBERED], ids=["short", "empty", "64k"])
@BOTH_KINDS
def test_r17_a_close_delimited_answer_arrives_complete(
    ways: Ways, method: str, path: str, body: bytes, version: str
) -> None:
    _, through = ways.alike(asks(ways, method, path), steps(answers.head(200, JSON, version=version), body, End.CLOSE))
    assert through.answer.ending is Ending.WHOLE
    assert bytes(through.answer.body) == body


@BOTH_KINDS
def test_r18_answer_trailers_do_not_break_the_answer(ways: Ways, method: str, path: str) -> None:
    trailed = (
        answers.chunked_head((*JSON, ("Trailer", "X-Checksum, Server-Timing")))
        + answers.chunk(b'{"ok":')
        + answers.chunk(b"true}")
        + b"0\r\nX-Checksum: abc\r\nServer-Timing: total;dur=5\r\n\r\n"
    )
    ways.plays(trailed)
    with ways.connect() as connection:
        for _ in range(2):
            connection.send(asks(ways, method, path))
            answer = connection.read_answer(method)
            assert (answer.status, bytes(answer.body), answer.ending) == (200, b'{"ok":true}', Ending.WHOLE)
            assert answer.trailers in ([], [b"X-Checksum: abc", b"Server-Timing: total;dur=5"])
            assert answer.values("x-checksum") == []


@pytest.mark.parametrize("stream", [False, True])
def test_r19_a_429_comes_back_with_its_advice_and_is_not_retried(ways: Ways, stream: bool) -> None:
    fields: Fields = (
        *JSON,
        ("retry-after", "1"),
        ("retry-after-ms", "500"),
        ("x-should-retry", "true"),
        ("x-ratelimit-limit-tokens", "200000"),
        ("x-ratelimit-remaining-tokens", "0"),
        ("x-ratelimit-reset-tokens", "6ms"),
        ("x-request-id", "req_limited"),
    )
    body = b'{\n  "error": {\n "message": "Rate limit reached", "type": "tokens", "param": null, "code": "x"}}\n'
    _, through = ways.alike(ways.chat(stream=stream), answers.whole(body, fields, status=429), spelling=True)
    assert bytes(through.answer.body) == body
    ways.settle()
    assert len(ways.received()) == 2


@pytest.mark.parametrize("status", [400, 401, 404, 500, 503])
@pytest.mark.parametrize("path", [CHAT, "/v1/embeddings", "/v1/files"])
def test_r20_error_objects_come_back_byte_identical(ways: Ways, path: str, status: int) -> None:
    fields: Fields = (
        *JSON,
        ("WWW-Authenticate", 'Bearer realm="OpenAI API", error="invalid_token"'),
        ("x-should-retry", "false"),
        ("x-request-id", f"req_{status}"),
    )
    body = b'{ "error" : {"message":"No.","type":"invalid_request_error","param":null,"code":"c%d"} }' % status
    _, through = ways.alike(ways.chat(path=path), answers.whole(body, fields, status=status), spelling=True)
    assert bytes(through.answer.body) == body
    ways.settle()
    assert len(ways.received()) == 2


@pytest.mark.parametrize("framing", ["length", "chunked", "multipart"])
def test_r21_ranges_pass_unchanged(ways: Ways, framing: str) -> None:
    asked = ways.request("GET", "/v1/files/file-1/content", (("Range", "bytes=100-199"), ("If-Range", '"etag"')))
    fields: Fields = (
        ("Content-Type", "multipart/byteranges; boundary=B" if framing == "multipart" else "application/octet-stream"),
        ("Content-Range", "bytes 100-199/5000"),
        ("Accept-Ranges", "bytes"),
    )
    _, through = ways.alike(asked, framed(framing, bytes(range(100)), fields, status=206))
    assert through.answer.status == 206
    assert through.only.values("range") == [b"bytes=100-199"]
    refused = answers.whole(b"", (("Content-Range", "bytes */5000"),), status=416)
    ways.alike(asked, refused)


CLOSINGS: dict[str, tuple[Fields, type[LastWords] | type[bytes]]] = {
    "announced": ((("Connection", "close"),), LastWords),
    # Were there time between the answer and its end, a POST might fall into it, and may not be sent again.
    "silent": ((), LastWords),
    "announced-and-left-open": ((("Connection", "close"),), bytes),
}


@pytest.mark.proxy_only
@pytest.mark.parametrize("name", CLOSINGS)
@BOTH_KINDS
def test_r22_a_provider_that_closes_after_each_answer_does_not_surface(
    ways: Ways, method: str, path: str, name: str
) -> None:
    extra, step = CLOSINGS[name]
    with ways.connect() as connection:
        for turn in range(20):
            body = b'{"turn":%d}' % turn
            ways.plays(steps(step(answers.whole(body, (*JSON, *extra)))))
            octets = ways.chat(turn=turn) if method == "POST" else ways.request(method, path, (("x-turn", str(turn)),))
            connection.send(octets)
            answer = connection.read_answer(method)
            assert (answer.status, bytes(answer.body)) == (200, body)
            assert b"close" not in b",".join(answer.values("connection")).lower()
    assert len(ways.received()) == 20


@BOTH_FRAMINGS
@BOTH_KINDS
def test_r23_a_body_of_30_megabytes_is_delivered_intact(ways: Ways, method: str, path: str, framing: str) -> None:
    times, expected = 480, sha256()
    for number in range(times):
        expected.update(numbered_piece(number))
    total = times * len(NUMBERED)
    assert total > 30_000_000
    if framing == "chunked":
        script = steps(
            answers.chunked_head(JSON),
            Generate(lambda number: answers.chunk(numbered_piece(number)), times),
            answers.LAST_CHUNK,
        )
    else:
        script = steps(answers.head(200, (*JSON, ("Content-Length", str(total)))), Generate(numbered_piece, times))
    ways.plays(script)
    answer = ways.through(asks(ways, method, path), keep=False).answer
    assert (answer.ending, answer.size) == (Ending.WHOLE, total)
    assert answer.body_hash == expected.hexdigest()


def numbered_piece(number: int) -> bytes:
    """64 KiB that no other number has."""
    return b"%08d" % number + NUMBERED[8:]


@pytest.mark.proxy_only
@BOTH_KINDS
def test_r24_hop_by_hop_fields_stop_at_the_proxy(ways: Ways, method: str, path: str) -> None:
    fields: Fields = (
        *JSON,
        ("Connection", "keep-alive, X-Private"),
        ("X-Private", "for the proxy"),
        ("Keep-Alive", "timeout=5, max=99"),
        ("Proxy-Authenticate", 'Basic realm="x"'),
        ("Proxy-Connection", "keep-alive"),
        ("Upgrade", "h2c"),
        ("X-Public", "for all"),
    )
    ways.plays(answers.whole(b"{}", fields))
    answer = ways.through(asks(ways, method, path)).answer
    assert answer.values("x-public") == [b"for all"]
    for name in ("x-private", "proxy-authenticate", "proxy-connection", "upgrade"):
        assert answer.values(name) == [], name
    # A Keep-Alive of the proxy's own would be allowed; the provider's is not.
    assert b"timeout=5, max=99" not in answer.values("keep-alive")
    assert b"private" not in b",".join(answer.values("connection")).lower()


@pytest.mark.parametrize("stream", [False, True])
@BOTH_KINDS
def test_r25_no_server_field_is_invented(ways: Ways, method: str, path: str, stream: bool) -> None:
    answer = answers.chunked(answers.DONE, answers.EVENTS) if stream else answers.whole(b"{}")
    _, through = ways.alike(asks(ways, method, path), answer)
    assert through.answer.values("server") == []


def test_the_comparison_sees_a_changed_answer(ways: Ways) -> None:
    """The tests above are worth what the comparison sees."""
    octets = ways.request("GET", MODELS)
    ways.plays(answers.whole(b'{"a":1}', (*JSON, ("X-A", "1"), ("X-A", "2"))))
    plain = ways.straight(octets)
    for altered in (
        answers.whole(b'{"a":1} ', (*JSON, ("X-A", "1"), ("X-A", "2"))),
        answers.whole(b'{"a":1}', (*JSON, ("X-A", "2"), ("X-A", "1"))),
        answers.whole(b'{"a":1}', (*JSON, ("X-A", "1, 2"))),
        answers.whole(b'{"a":1}', (*JSON, ("X-A", "1"), ("X-A", "2"), ("Server", "aiohttp"))),
        answers.whole(b'{"a":1}', (*JSON, ("X-A", "1"), ("X-A", "2")), status=201),
    ):
        ways.plays(altered)
        other = ways.straight(octets)
        with pytest.raises(AssertionError, match="the proxy shows"):
            assert_alike(plain, other)
