"""A recorded answer given again."""

import gzip
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import headers
from proxy.model import Entry, Form, Key, RawFields, Reason
from proxy.replay import Replayed, replay, with_fresh_id
from proxy.settings import ReplaySettings
from tests.plain_dialect import PlainDialect

STREAM = Form(stream=True)
WHOLE = Form()
BODY = b'{"id":"chatcmpl-abc123XYZ","choices":[]}'
FIELDS: RawFields = (
    (b"Date", b"Mon, 01 Jan 2026 00:00:00 GMT"),
    (b"Content-Type", b"application/json; charset=utf-8"),
    (b"x-request-id", b"req_1"),
    (b"x-ratelimit-remaining-requests", b"59"),
    (b"Content-Length", b"%d" % len(BODY)),
    (b"ETag", b'"1"'),
)
ZIPPED = gzip.compress(BODY, mtime=0)


def entry(
    body: bytes = BODY,
    *fields: tuple[bytes, bytes],
    encoding: str = "",
    chunked: bool = False,
    form: Form = WHOLE,
) -> Entry:
    """A recorded answer."""
    return Entry(
        key=Key("k"),
        dialect="plain",
        status=200,
        phrase=b"OK",
        head=headers.lines(fields or FIELDS),
        body=body,
        encoding=encoding,
        chunked=chunked,
        form=form,
        created=0.0,
    )


def zipped(form: Form = WHOLE, *, chunked: bool = False) -> Entry:
    """A recorded answer in gzip."""
    body = ZIPPED if form == WHOLE else gzip.compress(b"data: " + BODY + b"\n\n")
    fields = ((b"Content-Encoding", b"gzip"), (b"Content-Length", b"%d" % len(body)), (b"X-A", b"1"))
    return entry(body, *fields, encoding="gzip", form=form, chunked=chunked)


def again(
    recorded: Entry,
    *,
    form: Form = WHOLE,
    accept_encoding: tuple[bytes, ...] = (),
    renders: bool = True,
    settings: ReplaySettings = ReplaySettings(),  # noqa: B008  (frozen)
) -> Replayed:
    """*recorded*, given again."""
    given_again = replay(
        recorded, form=form, accept_encoding=accept_encoding, dialect=PlainDialect(renders=renders), settings=settings
    )
    assert isinstance(given_again, Replayed), given_again
    return given_again


def refused(
    recorded: Entry, *, form: Form = WHOLE, accept_encoding: tuple[bytes, ...] = (), renders: bool = True
) -> Reason:
    """Why *recorded* cannot be given again."""
    reason = replay(
        recorded,
        form=form,
        accept_encoding=accept_encoding,
        dialect=PlainDialect(renders=renders),
        settings=ReplaySettings(),
    )
    assert isinstance(reason, Reason), reason
    return reason


def fields_of(given_again: Replayed) -> dict[bytes, bytes]:
    """The fields by lower-case name; there is no name twice."""
    pairs = headers.parse_lines(given_again.head)
    by_name = {name.lower(): value for name, value in pairs}
    assert len(by_name) == len(pairs)
    return by_name


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("form", [WHOLE, STREAM])
def test_the_form_that_was_recorded_is_given_octet_for_octet(form: Form, chunked: bool) -> None:
    recorded = entry(form=form, chunked=chunked)
    assert again(recorded, form=form) == Replayed(recorded.head, BODY, chunked, Reason.FOUND, exact=True)


def test_an_encoded_answer_is_given_as_it_is_to_who_takes_it() -> None:
    recorded = zipped()
    assert again(recorded, accept_encoding=(b"gzip",)) == Replayed(
        recorded.head, ZIPPED, False, Reason.FOUND, exact=True
    )


def test_an_encoded_answer_is_decoded_for_who_does_not_take_it() -> None:
    given_again = again(zipped())
    assert (given_again.body, given_again.reason, given_again.exact) == (BODY, Reason.FOUND, False)


def test_a_decoded_answer_no_longer_says_it_is_encoded() -> None:
    assert fields_of(again(zipped())) == {b"x-a": b"1", b"content-length": b"%d" % len(BODY)}


def test_a_decoded_answer_keeps_its_content_type() -> None:
    recorded = entry(ZIPPED, (b"Content-Type", b"application/json;x=y"), encoding="gzip")
    assert fields_of(again(recorded))[b"content-type"] == b"application/json;x=y"


def test_a_decoded_answer_that_came_in_chunks_goes_in_chunks() -> None:
    recorded = entry(ZIPPED, (b"X-A", b"1"), encoding="gzip", chunked=True)
    given_again = again(recorded)
    assert given_again.chunked
    assert fields_of(given_again) == {b"x-a": b"1"}


def test_an_answer_in_identity_needs_no_consent() -> None:
    recorded = entry(encoding="identity")
    assert again(recorded, accept_encoding=(b"br",)).exact


def test_an_answer_in_an_unknown_coding_is_given_to_who_takes_it() -> None:
    assert again(entry(encoding="secret"), accept_encoding=(b"secret",)).exact


@pytest.mark.parametrize("encoding", ["secret", "gzip,br", "br"])
def test_an_answer_that_cannot_be_decoded_is_not_given_to_who_does_not_take_it(encoding: str) -> None:
    assert refused(entry(encoding=encoding)) is Reason.OTHER_ENCODING


def test_a_coding_is_not_undone_for_who_refuses_identity() -> None:
    assert refused(zipped(), accept_encoding=(b"br", b"identity;q=0")) is Reason.OTHER_ENCODING


def test_the_other_form_is_rendered() -> None:
    given_again = again(entry(), form=STREAM)
    assert (given_again.body, given_again.reason) == (b"data: " + BODY + b"\n\n", Reason.TRANSCODED)
    assert not given_again.exact


def test_a_rendered_stream_is_framed_and_typed_as_one() -> None:
    given_again = again(entry(), form=STREAM)
    fields = fields_of(given_again)
    assert given_again.chunked
    assert fields[b"content-type"] == b"text/event-stream; charset=utf-8"
    assert b"content-length" not in fields


def test_a_whole_made_of_a_stream_is_framed_and_typed_as_one() -> None:
    stream = b"data: " + BODY + b"\n\n"
    recorded = entry(stream, (b"Content-Type", b"text/event-stream"), (b"X-A", b"1"), chunked=True, form=STREAM)
    given_again = again(recorded)
    assert given_again.body == BODY
    assert not given_again.chunked
    assert fields_of(given_again) == {
        b"content-type": b"application/json",
        b"content-length": b"%d" % len(BODY),
        b"x-a": b"1",
    }


@pytest.mark.parametrize("name", [b"ETag", b"Content-MD5", b"Digest", b"Content-Length", b"content-encoding"])
def test_what_described_the_recorded_octets_is_not_said_of_others(name: bytes) -> None:
    recorded = entry(ZIPPED, (name, b"x"), (b"X-A", b"1"), encoding="gzip", chunked=True)
    assert headers.parse_lines(again(recorded, form=STREAM).head) == (
        (b"Content-Type", b"text/event-stream; charset=utf-8"),
        (b"X-A", b"1"),
    )


def test_everything_else_is_said_in_its_order() -> None:
    kept = [pair for pair in FIELDS if pair[0] in (b"Date", b"x-request-id", b"x-ratelimit-remaining-requests")]
    given_again = headers.parse_lines(again(entry(), form=STREAM).head)
    assert [pair for pair in given_again if pair[0] != b"Content-Type"] == kept


def test_a_form_that_would_need_inventing_is_not_given() -> None:
    assert refused(entry(), form=STREAM, renders=False) is Reason.OTHER_FORM


def test_an_encoded_answer_is_decoded_before_it_is_rendered() -> None:
    given_again = again(zipped(STREAM), accept_encoding=(b"gzip",))
    assert given_again.body == BODY
    assert b"content-encoding" not in fields_of(given_again)


def test_an_encoded_answer_that_is_damaged_has_no_other_form() -> None:
    recorded = entry(ZIPPED[:-2], encoding="gzip")
    assert refused(recorded, form=STREAM, accept_encoding=(b"gzip",)) is Reason.OTHER_ENCODING


DROPS = ReplaySettings(drop_rate_limits=True)


@pytest.mark.parametrize(
    "name",
    [
        b"x-ratelimit-limit-tokens",
        b"X-RateLimit-Reset",
        b"ratelimit-limit",
        b"anthropic-ratelimit-requests-remaining",
        b"x-ms-ratelimit-remaining",
        b"retry-after",
        b"Retry-After-Ms",
    ],
)
def test_rate_limits_of_long_ago_are_dropped_where_the_operator_says_so(name: bytes) -> None:
    recorded = entry(BODY, (name, b"1"), (b"Content-Length", b"1"))
    assert headers.parse_lines(again(recorded, settings=DROPS).head) == ((b"Content-Length", b"1"),)


def test_dropping_rate_limits_leaves_the_octets_alone() -> None:
    recorded = zipped()
    given_again = again(recorded, accept_encoding=(b"gzip",), settings=DROPS)
    assert given_again == Replayed(recorded.head, ZIPPED, False, Reason.FOUND, exact=True)


def test_what_only_looks_like_a_rate_limit_stays() -> None:
    recorded = entry(BODY, (b"x-my-ratelimit-1", b"1"))
    assert headers.parse_lines(again(recorded, settings=DROPS).head) == ((b"x-my-ratelimit-1", b"1"),)


FRESH = ReplaySettings(fresh_ids=True)


def test_a_fresh_id_changes_the_id_and_nothing_else() -> None:
    given_again = again(entry(), settings=FRESH)
    assert re.fullmatch(rb'\{"id":"chatcmpl-[0-9a-f]{9}","choices":\[\]\}', given_again.body)
    assert given_again.body != BODY
    assert (given_again.reason, given_again.exact) == (Reason.FOUND, False)
    assert fields_of(given_again)[b"content-length"] == b"%d" % len(BODY)


def test_two_replays_have_two_ids() -> None:
    assert again(entry(), settings=FRESH).body != again(entry(), settings=FRESH).body


def test_a_fresh_id_is_put_into_what_was_encoded() -> None:
    given_again = again(zipped(), accept_encoding=(b"gzip",), settings=FRESH)
    assert len(given_again.body) == len(BODY)
    assert b"content-encoding" not in fields_of(given_again)


def test_an_answer_without_an_id_is_given_as_it_is() -> None:
    assert again(entry(b'{"choices":[]}'), settings=FRESH).exact


@pytest.mark.parametrize("prefix", ["chatcmpl-", "cmpl-", "resp_", "msg_", "gen-"])
def test_an_id_keeps_its_prefix_and_its_length(prefix: str) -> None:
    old = f"{prefix}Abc_123-xyz"
    fresh = json.loads(with_fresh_id(json.dumps({"id": old}).encode()))["id"]
    assert fresh.startswith(prefix)
    assert len(fresh) == len(old)
    assert fresh != old


def test_every_chunk_of_a_stream_has_the_same_fresh_id() -> None:
    stream = b"".join(b'data: {"id": "chatcmpl-1234567", "n": %d}\n\n' % n for n in range(3)) + b"data: [DONE]\n\n"
    ids = re.findall(rb'"id": "(chatcmpl-[^"]+)"', with_fresh_id(stream))
    assert len(ids) == 3
    assert len(set(ids)) == 1
    assert ids[0] != b"chatcmpl-1234567"


def test_an_id_that_a_text_speaks_of_is_left_alone() -> None:
    body = json.dumps({"content": '"id": "chatcmpl-1234567"'}).encode()
    assert with_fresh_id(body) == body


def test_the_id_of_a_tool_call_is_left_alone() -> None:
    body = b'{"tool_calls":[{"id":"call_1234567"}]}'
    assert with_fresh_id(body) == body


@given(st.binary(max_size=200))
def test_a_fresh_id_never_changes_the_length(body: bytes) -> None:
    assert len(with_fresh_id(body + b'"id":"chatcmpl-00000000"' + body)) == 2 * len(body) + 24


def test_an_answer_that_says_it_is_not_encoded_still_says_so_in_the_other_form() -> None:
    recorded = entry(BODY, (b"Content-Encoding", b"identity"), encoding="identity")
    assert fields_of(again(recorded, form=STREAM))[b"content-encoding"] == b"identity"
