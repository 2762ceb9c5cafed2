"""Content codings: what they undo, what they refuse, and within which bounds."""

import gzip
import time
import tracemalloc
import zlib
from collections.abc import Callable

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from proxy import codings
from proxy.codings import Undecodable

Encode = Callable[[bytes], bytes]


def raw_deflate(body: bytes) -> bytes:
    """The bare stream that some servers call deflate."""
    encoder = zlib.compressobj(wbits=-15)
    return encoder.compress(body) + encoder.flush()


def brotli_of(body: bytes) -> bytes:
    """Fast enough for thousands."""
    return bytes(brotli.compress(body, quality=4))


def zstd_of(body: bytes) -> bytes:
    """One frame."""
    return zstandard.ZstdCompressor().compress(body)


ENCODERS: list[tuple[str, Encode]] = [
    ("gzip", gzip.compress),
    ("x-gzip", gzip.compress),
    ("deflate", zlib.compress),
    ("deflate", raw_deflate),
    ("br", brotli_of),
    ("zstd", zstd_of),
]
JOINABLE: list[tuple[str, Encode]] = [("gzip", gzip.compress), ("zstd", zstd_of)]
BODY = b'{"choices":[{"message":{"content":"' + bytes(range(32, 127)) * 40 + b'"}}]}'
ROOMY = 1 << 20

every_coding = pytest.mark.parametrize(("name", "encode"), ENCODERS)
every_joinable = pytest.mark.parametrize(("name", "encode"), JOINABLE)


@every_coding
@given(body=st.binary(max_size=3000))
def test_what_was_encoded_is_decoded(name: str, encode: Encode, body: bytes) -> None:
    assert codings.decode(encode(body), name, limit=ROOMY) == body


@pytest.mark.parametrize("name", ["", "identity"])
@given(body=st.binary(max_size=100))
def test_identity_changes_nothing(name: str, body: bytes) -> None:
    assert codings.decode(body, name, limit=ROOMY) is body


@every_joinable
@given(bodies=st.lists(st.binary(max_size=400), max_size=5))
def test_several_members_are_one_body(name: str, encode: Encode, bodies: list[bytes]) -> None:
    assert codings.decode(b"".join(map(encode, bodies)), name, limit=ROOMY) == b"".join(bodies)


def test_a_zstd_frame_of_no_interest_is_skipped() -> None:
    skipped = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"note"
    assert codings.decode(skipped + zstd_of(b"body") + skipped, "zstd", limit=ROOMY) == b"body"


@pytest.mark.parametrize("name", ["gzip", "deflate", "zstd"])
def test_nothing_at_all_is_an_empty_body(name: str) -> None:
    assert codings.decode(b"", name, limit=ROOMY) == b""


@every_coding
@pytest.mark.parametrize("cut", [1, 2, 4, 9, 40])
def test_what_ends_early_is_refused(name: str, encode: Encode, cut: int) -> None:
    with pytest.raises(Undecodable):
        codings.decode(encode(BODY)[:-cut], name, limit=ROOMY)


@every_joinable
def test_a_second_member_that_ends_early_is_refused(name: str, encode: Encode) -> None:
    with pytest.raises(Undecodable):
        codings.decode(encode(BODY) + encode(BODY)[:-3], name, limit=ROOMY)


@every_coding
def test_what_goes_on_behind_its_end_is_refused(name: str, encode: Encode) -> None:
    with pytest.raises(Undecodable):
        codings.decode(encode(BODY) + b"and more of it", name, limit=ROOMY)


@pytest.mark.parametrize(
    ("name", "encode"),
    [
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("zstd", zstandard.ZstdCompressor(write_checksum=True).compress),
    ],
)
def test_a_wrong_checksum_is_refused(name: str, encode: Encode) -> None:
    body = bytearray(encode(BODY))
    body[-5 if name == "gzip" else -1] ^= 1
    with pytest.raises(Undecodable):
        codings.decode(bytes(body), name, limit=ROOMY)


@pytest.mark.parametrize("name", ["gzip", "deflate", "br", "zstd"])
@given(body=st.binary(max_size=200))
def test_arbitrary_octets_are_decoded_or_refused(name: str, body: bytes) -> None:
    try:
        assert len(codings.decode(body, name, limit=ROOMY)) <= ROOMY
    except Undecodable:
        pass


@every_coding
@given(at=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_damage_is_survived(name: str, encode: Encode, at: int, flip: int) -> None:
    body = bytearray(encode(BODY))
    body[at % len(body)] ^= flip
    try:
        assert len(codings.decode(bytes(body), name, limit=ROOMY)) <= ROOMY
    except Undecodable:
        pass


@every_coding
@given(size=st.integers(0, 300))
def test_the_bound_is_on_what_comes_out_and_is_exact(name: str, encode: Encode, size: int) -> None:
    body = b"x" * size
    assert codings.decode(encode(body), name, limit=size) == body
    if size:
        with pytest.raises(Undecodable, match="bound"):
            codings.decode(encode(body), name, limit=size - 1)


def test_the_bound_is_on_all_members_together() -> None:
    with pytest.raises(Undecodable, match="bound"):
        codings.decode(gzip.compress(b"x" * 60) * 2, "gzip", limit=100)


@every_coding
def test_a_bomb_takes_little_memory(name: str, encode: Encode) -> None:
    bomb = encode(bytes(1 << 26))
    tracemalloc.start()
    try:
        with pytest.raises(Undecodable, match="bound"):
            codings.decode(bomb, name, limit=ROOMY)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 12 * ROOMY, f"{peak} bytes for a bound of {ROOMY}"


def test_a_zstd_frame_of_nothing_but_run_lengths_takes_little_memory() -> None:
    # Four octets for each 128 KB: the densest there is. Magic number, a window of 128 KB, then the blocks.
    block = (2 | (1 << 17) << 3).to_bytes(3, "little") + b"x"
    bomb = b"\x28\xb5\x2f\xfd\x00\x38" + block * 4000
    tracemalloc.start()
    try:
        with pytest.raises(Undecodable, match="bound"):
            codings.decode(bomb, "zstd", limit=ROOMY)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 12 * ROOMY, f"{peak} bytes for a bound of {ROOMY}"


@every_joinable
def test_a_great_many_empty_members_are_refused_soon(name: str, encode: Encode) -> None:
    body = encode(b"") * 400_000
    started = time.process_time()
    with pytest.raises(Undecodable, match="members"):
        codings.decode(body, name, limit=ROOMY)
    # Copying the rest of the body for each member would take minutes.
    assert time.process_time() - started < 3


def test_a_zstd_window_larger_than_http_allows_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=24)
    body = zstandard.ZstdCompressor(compression_params=parameters).compressobj().compress(b"x" * 300_000)
    with pytest.raises(Undecodable, match="memory"):
        codings.decode(body, "zstd", limit=ROOMY)


@pytest.mark.parametrize("name", ["compress", "GZIP", "gzip,br", "zip", "*"])
def test_an_unknown_coding_is_refused_by_name(name: str) -> None:
    with pytest.raises(Undecodable, match="unknown coding"):
        codings.decode(b"", name, limit=ROOMY)


@pytest.mark.parametrize("name", ["", "identity", "gzip", "x-gzip", "deflate", "br", "zstd"])
def test_the_known_codings_are_decodable(name: str) -> None:
    assert codings.decodable(name)


@pytest.mark.parametrize("name", ["compress", "GZIP", "gzip,br"])
def test_other_codings_are_not_decodable(name: str) -> None:
    assert not codings.decodable(name)
