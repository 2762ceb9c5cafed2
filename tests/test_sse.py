"""Event streams: the WHATWG rules, any split, and not a byte lost."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import sse
from proxy.sse import Frame, Reader


def events(stream: bytes) -> list[tuple[str, bytes]]:
    """The events that a client sees: name and data."""
    frames, _ = sse.read(stream)
    return [(frame.name, frame.data) for frame in frames if frame.data is not None]


@pytest.mark.parametrize(
    ("stream", "seen"),
    [
        pytest.param(b"data: a\n\ndata: b\n\n", [("", b"a"), ("", b"b")], id="line-feed"),
        pytest.param(b"data: a\r\n\r\ndata: b\r\n\r\n", [("", b"a"), ("", b"b")], id="crlf"),
        pytest.param(b"data: a\r\rdata: b\r\r", [("", b"a"), ("", b"b")], id="cr"),
        pytest.param(b"data: a\n\r\ndata: b\r\n\n", [("", b"a"), ("", b"b")], id="mixed-line-ends"),
        pytest.param(b"\xef\xbb\xbfdata: a\n\n", [("", b"a")], id="byte-order-mark"),
        pytest.param(b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [("", b"a")], id="a-later-mark-is-part-of-a-field-name"),
        pytest.param(b": note\n\ndata: a\n\n", [("", b"a")], id="comment"),
        pytest.param(b":\n\n:\n\n", [], id="comments-alone"),
        pytest.param(b"data: a\n: note\ndata: b\n\n", [("", b"a\nb")], id="several-data-lines"),
        pytest.param(b"data:a\n\n", [("", b"a")], id="no-space"),
        pytest.param(b"data:  a\n\n", [("", b" a")], id="one-space-is-taken-off"),
        pytest.param(b"data\n\n", [("", b"")], id="data-without-colon"),
        pytest.param(b"data:\ndata:\n\n", [("", b"\n")], id="empty-data-lines"),
        pytest.param(b"event: ping\ndata: {}\n\n", [("ping", b"{}")], id="named"),
        pytest.param(b"event: ping\n\ndata: a\n\n", [("", b"a")], id="a-name-without-data-is-forgotten"),
        pytest.param(b"dates: a\nDATA: b\n\n", [], id="unknown-fields"),
        pytest.param(b"data: a: b\n\n", [("", b"a: b")], id="colon-in-the-value"),
        pytest.param(b"\n\n\ndata: a\n\n\n\n", [("", b"a")], id="blank-lines-around"),
        pytest.param(b"data: a\n\ndata: b\n", [("", b"a")], id="an-unfinished-block-is-no-event"),
        pytest.param(
            "data: a\u2028b\x0b\x85\n\n".encode(), [("", "a\u2028b\x0b\x85".encode())], id="no-other-line-ends"
        ),
        pytest.param(b"", [], id="nothing"),
    ],
)
def test_a_stream_is_read_as_the_rules_say(stream: bytes, seen: list[tuple[str, bytes]]) -> None:
    assert events(stream) == seen


def test_id_and_retry_are_read() -> None:
    frames, _ = sse.read(b"id: 7\nretry: 250\ndata: a\n\nid: a\0b\nretry: soon\ndata: b\n\n")
    assert [(frame.id, frame.retry) for frame in frames] == [("7", 250), (None, None)]


def test_a_delay_beyond_all_reason_is_ignored() -> None:
    frames, _ = sse.read(b"retry: " + b"9" * 5000 + b"\ndata: a\n\n")
    assert frames[0].retry is None


def test_what_an_unfinished_stream_leaves_over_is_given_back() -> None:
    assert sse.read(b"data: a\n\ndata: b")[1] == b"data: b"


def test_an_event_is_given_as_soon_as_its_blank_line_is_there() -> None:
    reader = Reader()
    assert reader.feed(b"data: a\n") == []
    assert [frame.data for frame in reader.feed(b"\ndata: b")] == [b"a"]
    assert repr(reader) == "<Reader 7 bytes pending>"


def test_a_carriage_return_at_the_end_of_a_piece_waits_for_its_other_half() -> None:
    reader = Reader()
    assert reader.feed(b"data: a\r") == []
    assert reader.feed(b"") == []
    assert reader.feed(b"\n\r") == []
    [frame] = reader.feed(b"\n")
    assert (frame.data, frame.raw) == (b"a", b"data: a\r\n\r\n")
    assert reader.finish() == ([], b"")


LINES = st.sampled_from(
    [b"data: a", b"data:", b"data", b": note", b"event: x", b"id: 1", b"\xef\xbb\xbf", b"", b"", "é".encode()]
)
STREAMS = st.lists(st.tuples(LINES, st.sampled_from([b"\n", b"\r\n", b"\r", b""])), max_size=30).map(
    lambda lines: b"".join(line + end for line, end in lines)
) | st.binary(max_size=200)


@given(STREAMS, st.lists(st.integers(0, 300), max_size=8))
def test_any_split_of_a_stream_parses_the_same(stream: bytes, cuts: list[int]) -> None:
    reader = Reader()
    frames: list[Frame] = []
    places = sorted(min(cut, len(stream)) for cut in cuts)
    for start, end in zip([0, *places], [*places, len(stream)], strict=True):
        frames += reader.feed(stream[start:end])
    last, rest = reader.finish()
    assert (frames + last, rest) == sse.read(stream)


@given(STREAMS)
def test_the_frames_and_the_rest_are_the_stream(stream: bytes) -> None:
    frames, rest = sse.read(stream)
    assert b"".join(frame.raw for frame in frames) + rest == stream


@given(STREAMS)
def test_other_data_in_a_frame_changes_nothing_else(stream: bytes) -> None:
    for frame in sse.read(stream)[0]:
        if frame.data is not None:
            [again], rest = sse.read(sse.with_data(frame, b"x\ny"))
            assert (again.data, rest) == (b"x\ny", b"")
            assert (again.name, again.id, again.retry) == (frame.name, frame.id, frame.retry)
            assert sse.comments(again).splitlines() == sse.comments(frame).splitlines()


@given(STREAMS)
def test_a_frame_without_its_event_dispatches_nothing(stream: bytes) -> None:
    for frame in sse.read(stream)[0]:
        frames, rest = sse.read(sse.comments(frame))
        assert [left.data for left in frames] in ([], [None])
        assert rest in (b"", sse.BOM)


def test_comments_and_line_ends_of_a_frame_stay_when_its_data_changes() -> None:
    [frame] = sse.read(b"\xef\xbb\xbf: note\r\nevent: x\r\ndata: a\r\ndata: b\r\nid: 1\r\n\r\n")[0]
    assert sse.with_data(frame, b"c") == b"\xef\xbb\xbf: note\r\nevent: x\r\ndata: c\r\nid: 1\r\n\r\n"
    assert sse.comments(frame) == b"\xef\xbb\xbf: note\r\n\r\n"


def test_a_carriage_return_and_a_line_feed_that_meet_do_not_swallow_the_end_of_a_frame() -> None:
    [frame] = sse.read(b": note\rdata: a\rdata: b\n\n")[0]
    assert sse.with_data(frame, b"c") == b": note\rdata: c\r\r"
    assert sse.comments(frame) == b": note\r\r"


@given(
    st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\r"), max_size=50), st.sampled_from(["", "ping"])
)
def test_a_new_event_is_read_as_it_was_written(data: str, name: str) -> None:
    assert events(sse.event(data.encode(), name)) == [(name, data.encode())]


def test_one_event_of_five_megabytes_takes_time_linear_in_its_length() -> None:
    # Quadratic work in pieces of 1 KB would copy 13 GB, which takes seconds.
    stream = b"data: " + b"x" * 5_000_000 + b"\n\n"
    reader = Reader()
    began = time.process_time()
    frames = [frame for at in range(0, len(stream), 1024) for frame in reader.feed(stream[at : at + 1024])]
    assert time.process_time() - began < 1
    assert [len(frame.data or b"") for frame in frames] == [5_000_000]
