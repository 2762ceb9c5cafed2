"""Entries as octets: what was packed is read again, and nothing else is."""

import base64
import json
import math
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.accounts.usage import Method, Usage
from proxy.errors import ConfigError, Unreadable
from proxy.model import Entry, Form, Key, TenantId
from proxy.stores.codec import Codec
from proxy.stores.sealing import Seal, seal_of

PLAIN = Codec(compress_from_bytes=1 << 30)
CODEC = Codec()

KEY_A, KEY_B = bytes(32), bytes(range(32))

texts = st.text(st.characters(), max_size=20)
numbers = st.integers(0, 10**12)
moments = st.floats(allow_nan=False)
usages = st.builds(
    Usage,
    input_tokens=numbers,
    output_tokens=numbers,
    cached_tokens=numbers,
    method=st.sampled_from(Method),
    lower_bound=st.booleans(),
)
entries = st.builds(
    Entry,
    # A digest: ASCII.
    key=st.builds(Key, st.text(st.characters(codec="ascii"), max_size=20)),
    dialect=texts,
    status=st.integers(0, 999),
    phrase=st.binary(max_size=20),
    head=st.binary(max_size=200),
    body=st.binary(max_size=200) | st.binary(max_size=20).map(lambda octets: octets * 300),
    encoding=texts,
    chunked=st.booleans(),
    form=st.builds(
        Form, stream=st.booleans(), include_usage=st.booleans(), obfuscation=st.booleans(), other_options=texts
    ),
    model=texts,
    service_tier=texts,
    usage=st.none() | usages,
    created=moments,
    expires=moments,
    fetch_s=moments,
    marks=st.lists(st.tuples(st.integers(0, 1 << 40), moments), max_size=5).map(tuple),
    tenant=st.builds(TenantId, texts),
)


def sample(body: bytes = b"body") -> Entry:
    return Entry(key=Key("k"), dialect="chat", status=200, phrase=b"OK", head=b"A: 1\r\n", body=body, created=1.5)


def seal(*names: str) -> Seal:
    keys = {name: base64.b64encode(name.encode() * 32)[:43].decode() + "=" for name in names}
    made = seal_of([f"{name}:{key}" for name, key in keys.items()])
    assert made is not None
    return made


def framed(payload: bytes, *, version: int = 1, flags: int = 0) -> bytes:
    return struct.pack(">BBI", version, flags, zlib.crc32(bytes((version, flags)) + payload)) + payload


def payload(plain: object, *long: bytes) -> bytes:
    header = json.dumps([plain, [len(octets) for octets in long]]).encode()
    return struct.pack(">I", len(header)) + header + b"".join(long)


@given(entries, st.sampled_from([PLAIN, CODEC, Codec(compress_from_bytes=0)]), st.booleans())
def test_what_was_packed_is_read_again(entry: Entry, codec: Codec, sealed: bool) -> None:
    if sealed:
        codec = Codec(compress_from_bytes=64, seal=seal("a"))
    assert codec.unpack(codec.pack(entry), entry.key) == entry


@given(entries)
def test_any_version_of_the_proxy_reads_what_any_codec_compressed(entry: Entry) -> None:
    assert PLAIN.unpack(CODEC.pack(entry), entry.key) == CODEC.unpack(PLAIN.pack(entry), entry.key) == entry


@settings(max_examples=300)
@given(entries, st.integers(0), st.integers(1, 255), st.booleans())
def test_one_damaged_octet_makes_it_unreadable(entry: Entry, at: int, change: int, sealed: bool) -> None:
    codec = Codec(seal=seal("a") if sealed else None)
    octets = bytearray(codec.pack(entry))
    octets[at % len(octets)] ^= change
    with pytest.raises(Unreadable):
        codec.unpack(bytes(octets), entry.key)


def test_no_damage_to_the_first_octets_goes_unseen() -> None:
    octets = CODEC.pack(sample())
    for at in range(6):
        for bit in range(8):
            with pytest.raises(Unreadable):
                CODEC.unpack(octets[:at] + bytes((octets[at] ^ 1 << bit,)) + octets[at + 1 :], Key("k"))


@given(entries, st.data())
def test_what_is_cut_short_is_unreadable(entry: Entry, data: st.DataObject) -> None:
    octets = CODEC.pack(entry)
    with pytest.raises(Unreadable):
        CODEC.unpack(octets[: data.draw(st.integers(0, len(octets) - 1))], entry.key)


@given(st.binary(max_size=300))
def test_octets_of_anybody_else_are_unreadable_and_nothing_worse(octets: bytes) -> None:
    for raw in (octets, framed(octets), framed(octets, flags=1), framed(payload({"key": "k"}, octets))):
        with pytest.raises(Unreadable):
            PLAIN.unpack(raw, Key("k"))


def test_an_entry_under_a_key_that_is_not_its_own_is_unreadable() -> None:
    with pytest.raises(Unreadable, match="not its own"):
        CODEC.unpack(CODEC.pack(sample()), Key("other"))


def test_another_version_is_unreadable() -> None:
    octets = CODEC.pack(sample())
    with pytest.raises(Unreadable, match="version 2"):
        CODEC.unpack(b"\x02" + octets[1:], Key("k"))


def test_a_field_that_is_not_known_is_passed_over_and_a_missing_one_has_its_default() -> None:
    plain = {"key": "k", "dialect": "chat", "status": 200, "phrase": 0, "head": 1, "body": 2, "created": 1.5}
    octets = framed(payload({**plain, "brand_new": "of another version"}, b"OK", b"A: 1\r\n", b"body"))
    assert PLAIN.unpack(octets, Key("k")) == sample()
    assert sample().expires == math.inf


def test_a_field_of_another_type_is_unreadable() -> None:
    plain = {"key": "k", "dialect": "chat", "status": "200", "phrase": 0, "head": 0, "body": 0, "created": 1.5}
    with pytest.raises(Unreadable):
        PLAIN.unpack(framed(payload(plain, b"")), Key("k"))


def test_a_long_answer_is_compressed_and_a_short_one_is_not() -> None:
    long = sample(b"the same words again and again " * 1000)
    assert len(CODEC.pack(long)) < len(long.body) / 20
    assert b"body" in CODEC.pack(sample())


def test_what_promises_to_decompress_to_more_than_any_answer_is_unreadable() -> None:
    # A zstd frame whose header says 2^40 octets.
    bomb = b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", 1 << 40)
    with pytest.raises(Unreadable, match="larger than any answer"):
        CODEC.unpack(framed(bomb, flags=1), Key("k"))


def test_a_sealed_entry_shows_nothing_of_its_answer() -> None:
    octets = Codec(seal=seal("a")).pack(sample(b"a secret answer"))
    assert b"secret" not in octets
    assert b"chat" not in octets


def test_the_same_entry_is_sealed_differently_each_time() -> None:
    codec = Codec(seal=seal("a"))
    assert codec.pack(sample()) != codec.pack(sample())


def test_a_new_key_seals_and_the_old_one_still_opens() -> None:
    old = Codec(seal=seal("a")).pack(sample())
    both = Codec(seal=seal("b", "a"))
    assert both.unpack(old, Key("k")) == sample()
    new = both.pack(sample())
    assert Codec(seal=seal("b")).unpack(new, Key("k")) == sample()
    with pytest.raises(Unreadable, match="does not name"):
        Codec(seal=seal("a")).unpack(new, Key("k"))


def test_a_sealed_entry_opens_under_no_other_key() -> None:
    codec = Codec(seal=seal("a"))
    with pytest.raises(Unreadable, match="moved"):
        codec.unpack(codec.pack(sample()), Key("other"))


def test_what_is_not_sealed_is_not_taken_where_sealing_is_asked_for() -> None:
    with pytest.raises(Unreadable, match="not sealed"):
        Codec(seal=seal("a")).unpack(CODEC.pack(sample()), Key("k"))
    with pytest.raises(Unreadable, match="is sealed"):
        CODEC.unpack(Codec(seal=seal("a")).pack(sample()), Key("k"))


@pytest.mark.parametrize(
    "key",
    [
        "",
        "a",
        "a:",
        f":{base64.b64encode(KEY_A).decode()}",
        "a:c2hvcnQ=",
        "a:***",
        f"a b:{base64.b64encode(KEY_A).decode()}",
    ],
)
def test_a_key_that_is_none_is_told_without_a_word_of_it(key: str) -> None:
    with pytest.raises(ConfigError, match=r"store\.encryption_keys\[1\]") as raised:
        seal_of([f"good:{base64.b64encode(KEY_B).decode()}", key])
    assert "c2hvcnQ" not in str(raised.value)


def test_two_keys_of_one_name_are_refused() -> None:
    coded = base64.b64encode(KEY_A).decode()
    with pytest.raises(ConfigError, match="another key is called a"):
        seal_of([f"a:{coded}", f"a:{coded}"])


def test_no_keys_seal_nothing() -> None:
    assert seal_of([]) is None
