"""Header fields: what passes, what stops, and that nothing else changes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import headers
from proxy.headers import HOP_BY_HOP, Fields
from proxy.model import RawFields

TOKEN = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
SPECIAL = HOP_BY_HOP | {b"host"}

names = st.lists(st.sampled_from(TOKEN), min_size=1, max_size=12).map(bytes)
octets = st.binary(max_size=24).map(lambda value: value.replace(b"\r", b"").replace(b"\n", b""))
pairs = st.tuples(names, octets)
passing = pairs.filter(lambda pair: pair[0].lower() not in SPECIAL and not pair[0].lower().startswith(headers.OURS))
known = st.sampled_from([b"Content-Length", b"Cookie", b"ACCEPT", b"content-type", b"Authorization", b"X-Trailer"])
ordinary = st.lists(passing | st.tuples(known, octets), max_size=12).map(tuple)


def sent(*fields: tuple[bytes, bytes], keep: tuple[bytes, ...] = ()) -> list[tuple[bytes, bytes]]:
    """What goes to the provider of *fields*, its Host left aside."""
    written = headers.request_fields(Fields(fields), authority=b"provider", keep=keep)
    return [pair for pair in written if pair[0].lower() != b"host"]


def test_the_first_of_several_values_is_got() -> None:
    assert Fields(((b"A", b"1"), (b"a", b"2"))).get(b"a") == b"1"


def test_what_is_not_there_is_none() -> None:
    assert Fields(()).get(b"a") is None


def test_an_empty_value_is_a_value() -> None:
    assert Fields(((b"A", b""),)).get(b"a") == b""


@given(ordinary)
def test_all_values_of_a_name_are_there_in_order_whatever_their_letter_case(fields: RawFields) -> None:
    found = Fields(fields)
    for name in {name.lower() for name, _ in fields}:
        assert found.all(name) == tuple(value for each, value in fields if each.lower() == name)


def test_a_name_that_is_not_there_has_no_values() -> None:
    assert Fields(((b"A", b"1"),)).all(b"b") == ()


def test_a_name_is_in_fields_whatever_its_letter_case() -> None:
    fields = Fields(((b"X-Name", b""),))
    assert b"x-name" in fields
    assert b"x-other" not in fields


def test_fields_show_their_names_and_keep_their_values_to_themselves() -> None:
    assert repr(Fields(((b"Authorization", b"Bearer sk-secret"), (b"A", b"1")))) == "<Fields authorization, a>"


@pytest.mark.parametrize(
    ("values", "tokens"),
    [
        ([], ()),
        ([b""], ()),
        ([b" , ,"], ()),
        ([b"A"], (b"a",)),
        ([b" a ,B,\tc"], (b"a", b"b", b"c")),
        ([b"a, b", b"c"], (b"a", b"b", b"c")),
        ([b"gzip;q=0.5, *"], (b"gzip;q=0.5", b"*")),
    ],
    ids=str,
)
def test_the_members_of_a_list_field(values: list[bytes], tokens: tuple[bytes, ...]) -> None:
    assert Fields(tuple((b"List", value) for value in values)).tokens(b"list") == tokens


@given(ordinary)
def test_every_end_to_end_request_field_passes_as_it_came(fields: RawFields) -> None:
    written = headers.request_fields(Fields(fields), authority=b"provider")
    assert written == [(b"Host", b"provider"), *fields]


@given(ordinary, st.sampled_from([b"Host", b"host", b"HOST"]), st.integers(0, 12))
def test_the_host_is_exchanged_where_it_stands(fields: RawFields, name: bytes, at: int) -> None:
    before, after = fields[:at], fields[at:]
    written = headers.request_fields(Fields((*before, (name, b"proxy:8080"), *after)), authority=b"provider")
    assert written == [*before, (name, b"provider"), *after]


def test_a_second_host_does_not_pass() -> None:
    fields = Fields(((b"Host", b"one"), (b"A", b"1"), (b"host", b"two")))
    assert headers.request_fields(fields, authority=b"provider") == [(b"Host", b"provider"), (b"A", b"1")]


@pytest.mark.parametrize("name", sorted(HOP_BY_HOP - {b"transfer-encoding"}))
def test_a_hop_by_hop_request_field_stops(name: bytes) -> None:
    assert sent((name.title(), b"x"), (b"A", b"1")) == [(b"A", b"1")]


@pytest.mark.parametrize("name", [b"keep-alive", b"te", b"http2-settings", b"upgrade", b"trailer", b"x-anything"])
def test_a_request_field_named_in_connection_stops(name: bytes) -> None:
    assert sent((name, b"1"), (b"Connection", b"close, " + name.upper())) == []


def test_every_connection_line_counts() -> None:
    fields = ((b"X-A", b"1"), (b"Connection", b"x-a"), (b"X-B", b"2"), (b"connection", b"X-B"), (b"X-C", b"3"))
    assert sent(*fields) == [(b"X-C", b"3")]


@pytest.mark.parametrize("name", [b"Content-Length", b"Transfer-Encoding"])
def test_the_framing_of_a_request_stands_even_where_connection_names_it(name: bytes) -> None:
    # To drop it would make the body the start of another request.
    value = b"chunked" if name == b"Transfer-Encoding" else b"7"
    assert sent((name, value), (b"Connection", name)) == [(name, value)]


def test_the_host_stands_even_where_connection_names_it() -> None:
    fields = Fields(((b"Connection", b"host"), (b"Host", b"proxy")))
    assert headers.request_fields(fields, authority=b"provider") == [(b"Host", b"provider")]


def test_a_chunked_request_stays_chunked_in_its_place() -> None:
    assert sent((b"A", b"1"), (b"transfer-encoding", b"Chunked"), (b"B", b"2")) == [
        (b"A", b"1"),
        (b"transfer-encoding", b"chunked"),
        (b"B", b"2"),
    ]


@pytest.mark.parametrize("name", [b"x-askonce-namespace", b"X-Askonce-TTL", b"x-askonce-anything-new"])
def test_a_field_for_the_proxy_is_not_forwarded(name: bytes) -> None:
    assert sent((name, b"x")) == []


@pytest.mark.parametrize("name", [b"x-ask", b"x-cache", b"askonce", b"via", b"x-forwarded-for"])
def test_a_field_that_only_looks_like_ours_is_forwarded(name: bytes) -> None:
    assert sent((name, b"x")) == [(name, b"x")]


def test_a_hop_by_hop_field_is_kept_where_asked() -> None:
    fields = ((b"Connection", b"Upgrade, X-A"), (b"Upgrade", b"websocket"), (b"X-A", b"1"))
    assert sent(*fields, keep=(b"connection", b"upgrade")) == list(fields[:2])


def test_keeping_a_field_does_not_need_a_connection_field() -> None:
    assert sent((b"Upgrade", b"websocket"), keep=(b"upgrade",)) == [(b"Upgrade", b"websocket")]


@given(ordinary)
def test_every_end_to_end_response_field_comes_back_as_it_was(fields: RawFields) -> None:
    assert headers.block(Fields(fields)) == headers.lines(fields)


@pytest.mark.parametrize("name", sorted(HOP_BY_HOP))
def test_a_hop_by_hop_response_field_stops(name: bytes) -> None:
    assert headers.block(Fields(((name.title(), b"x"), (b"A", b"1")))) == headers.lines(((b"A", b"1"),))


def test_a_response_field_named_in_connection_stops() -> None:
    fields = Fields(((b"X-Hop", b"1"), (b"Connection", b"x-hop"), (b"A", b"1")))
    assert headers.block(fields) == headers.lines(((b"A", b"1"),))


def test_the_length_of_a_response_stands_even_where_connection_names_it() -> None:
    # Without it nobody could tell where the answer ends and the next one begins.
    fields = Fields(((b"Content-Length", b"7"), (b"Connection", b"Content-Length")))
    assert headers.block(fields) == headers.lines(((b"Content-Length", b"7"),))


def test_a_response_field_stops_where_asked() -> None:
    fields = Fields(((b"Set-Cookie", b"a"), (b"A", b"1"), (b"set-cookie", b"b")))
    assert headers.block(fields, without=(b"set-cookie",)) == headers.lines(((b"A", b"1"),))


def test_a_head_is_its_lines_and_a_blank_one() -> None:
    written = headers.head(b"GET / HTTP/1.1", [(b"A", b"1"), (b"B", b"")])
    assert written == b"GET / HTTP/1.1\r\nA: 1\r\nB: \r\n\r\n"


def test_a_head_may_have_no_fields() -> None:
    assert headers.head(b"GET / HTTP/1.1", []) == b"GET / HTTP/1.1\r\n\r\n"


@pytest.mark.parametrize(
    "smuggled", [b"\n", b"\r", b"\r\n", b"\r\n\r\n", b"1\r\nX-Evil: 1", b"1\nX-Evil: 1", b"a\n\rb"]
)
@pytest.mark.parametrize("place", ["start", "name", "value"])
def test_a_line_break_anywhere_in_a_head_is_refused(place: str, smuggled: bytes) -> None:
    start = b"GET / HTTP/1.1" + (smuggled if place == "start" else b"")
    name = b"A" + (smuggled if place == "name" else b"")
    value = b"1" + (smuggled if place == "value" else b"")
    with pytest.raises(ValueError, match="line break"):
        headers.head(start, [(b"Before", b"0"), (name, value), (b"After", b"2")])


@given(st.lists(pairs, max_size=8).map(tuple))
def test_fields_written_as_lines_are_read_back(fields: RawFields) -> None:
    assert headers.parse_lines(headers.lines(fields)) == fields


def test_a_value_with_a_colon_is_read_back() -> None:
    fields = ((b"Date", b"a: b: c"), (b"B", b": "))
    assert headers.parse_lines(headers.lines(fields)) == fields


def test_no_fields_are_no_lines() -> None:
    assert headers.lines([]) == b""
    assert headers.parse_lines(b"") == ()


@pytest.mark.parametrize(
    ("target", "origin"),
    [
        (b"/", b"/"),
        (b"/v1/models", b"/v1/models"),
        (b"/v1//a/../b%2F?x=1&x=&y", b"/v1//a/../b%2F?x=1&x=&y"),
        (b"/go?to=http://elsewhere/x", b"/go?to=http://elsewhere/x"),
        (b"//host/path", b"//host/path"),
        (b"/a?", b"/a?"),
        (b"*", b"*"),
        (b"http://host/v1/models?a=b", b"/v1/models?a=b"),
        (b"HTTPS://host:8080/v1", b"/v1"),
        (b"http://host", b"/"),
        (b"http://host/", b"/"),
        (b"http://host?a=b", b"/?a=b"),
        (b"http://host?a=/b", b"/?a=/b"),
        (b"http://host/a?b=http://c/d", b"/a?b=http://c/d"),
        (b"http://[::1]:80/a", b"/a"),
        (b"host:443", b"host:443"),
        (b"", b""),
    ],
)
def test_the_origin_form_of_a_target(target: bytes, origin: bytes) -> None:
    assert headers.origin_form(target) == origin


@given(st.binary(max_size=20))
def test_a_target_in_origin_form_stays_as_it_is(rest: bytes) -> None:
    assert headers.origin_form(b"/" + rest) == b"/" + rest


@pytest.mark.parametrize(
    ("accept_encoding", "coding", "taken"),
    [
        (b"", b"gzip", False),
        (b"gzip", b"gzip", True),
        (b"GZIP", b"gzip", True),
        (b"gzip", b"br", False),
        (b"x-gzip", b"gzip", True),
        (b"gzip", b"x-gzip", True),
        (b"br, gzip", b"gzip", True),
        (b"gzip;q=1", b"gzip", True),
        (b"gzip;q=0.001", b"gzip", True),
        (b"gzip; q=0.5", b"gzip", True),
        (b"gzip;q=0", b"gzip", False),
        (b"gzip;q=0.", b"gzip", False),
        (b"gzip;q=0.000", b"gzip", False),
        (b"gzip ; q = 0 ", b"gzip", False),
        (b"gzip;Q=0", b"gzip", False),
        (b"*", b"gzip", True),
        (b"*;q=0.1", b"br", True),
        (b"*;q=0", b"gzip", False),
        (b"gzip;q=0, *", b"gzip", False),
        (b"gzip;q=0, *", b"br", True),
        (b"*;q=0, gzip", b"gzip", True),
        (b"*;q=0, gzip", b"br", False),
        (b"identity", b"gzip", False),
        (b"identity;q=0, *;q=0", b"gzip", False),
        (b"gzipped", b"gzip", False),
        (b"gzip;level=0", b"gzip", True),
    ],
)
def test_which_codings_a_client_takes(accept_encoding: bytes, coding: bytes, taken: bool) -> None:
    members = Fields(((b"Accept-Encoding", accept_encoding),)).tokens(b"accept-encoding")
    assert headers.accepts(members, coding) is taken


def test_a_client_that_says_nothing_takes_no_coding() -> None:
    assert not headers.accepts((), b"gzip")


def test_members_over_several_lines_count_together() -> None:
    fields = Fields(((b"Accept-Encoding", b"br"), (b"accept-encoding", b"gzip;q=0")))
    assert headers.accepts(fields.tokens(b"accept-encoding"), b"br")
    assert not headers.accepts(fields.tokens(b"accept-encoding"), b"gzip")


def test_a_block_is_the_lines_of_what_comes_back() -> None:
    fields = Fields(((b"A", b"1"), (b"Connection", b"x-hop"), (b"X-Hop", b"1"), (b"Set-Cookie", b"c"), (b"B", b"")))
    assert headers.block(fields) == b"A: 1\r\nSet-Cookie: c\r\nB: \r\n"


def test_one_set_of_fields_makes_blocks_without_different_fields() -> None:
    fields = Fields(((b"A", b"1"), (b"Set-Cookie", b"c")))
    blocks = [headers.block(fields, without=without) for without in ((), (b"set-cookie",), (b"a",))]
    assert blocks == [b"A: 1\r\nSet-Cookie: c\r\n", b"A: 1\r\n", b"Set-Cookie: c\r\n"]


def test_the_length_stands_in_a_block_even_where_connection_names_it() -> None:
    fields = Fields(((b"Content-Length", b"7"), (b"Connection", b"content-length")))
    assert headers.block(fields) == b"Content-Length: 7\r\n"
