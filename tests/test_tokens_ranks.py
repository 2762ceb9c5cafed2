"""The vocabularies: right to the byte, found offline, and missed without harm."""

import hashlib
import json
import lzma
import os
import random
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import tiktoken
import tiktoken_ext.openai_public as published  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st

from proxy.accounts.usage import Method
from proxy.tokens.counter import TokenCounter
from proxy.tokens.encodings import PATTERNS, PIECE_CHARACTERS, EncodingName, Tokenizers
from proxy.tokens.estimate import estimate_text
from proxy.tokens.ranks import (
    DATA,
    RANK_FILES,
    RankFile,
    cache_directory,
    load_ranks,
    pack,
    packed_path,
    parse_tiktoken,
    unpack,
    write_tiktoken,
)

ROOT = Path(__file__).resolve().parents[1]
R50K_SHA256 = "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930"

SMALL = {b"a": 0, b"b": 1, b" ": 2, b"ab": 4}
"""A vocabulary of four tokens; rank 3 is left free, as p50k_base leaves one."""


@pytest.fixture(scope="module")
def tokenizers() -> Tokenizers:
    return Tokenizers()


def small_file(data: Path, ranks: Mapping[bytes, int] = SMALL) -> RankFile:
    blob = pack(ranks)
    file = RankFile(
        name="small",
        cache_name="cached",
        sha256=hashlib.sha256(write_tiktoken(ranks)).hexdigest(),
        packed_sha256=hashlib.sha256(blob).hexdigest(),
    )
    packed_path(file, data).write_bytes(lzma.compress(blob))
    return file


@pytest.mark.parametrize("name", RANK_FILES)
def test_a_packed_vocabulary_is_the_published_one(name: str) -> None:
    file = RANK_FILES[name]
    blob = lzma.decompress(packed_path(file).read_bytes())
    assert hashlib.sha256(blob).hexdigest() == file.packed_sha256
    assert hashlib.sha256(write_tiktoken(unpack(blob))).hexdigest() == file.sha256


def test_the_first_vocabulary_is_the_second_without_its_spaces() -> None:
    ranks = load_ranks(RANK_FILES["p50k_base"])
    assert ranks is not None
    r50k = {token: rank for token, rank in ranks.items() if rank < 50256}
    assert hashlib.sha256(write_tiktoken(r50k)).hexdigest() == R50K_SHA256


@pytest.mark.parametrize("name", EncodingName)
def test_patterns_and_hashes_are_those_of_tiktoken(name: EncodingName, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str | None]] = []

    def no_download(url: str, expected_hash: str | None = None) -> dict[bytes, int]:
        asked.append((url, expected_hash))
        return {}

    monkeypatch.setattr(published, "load_tiktoken_bpe", no_download)
    theirs: dict[str, Any] = published.ENCODING_CONSTRUCTORS[name.value]()
    assert theirs["pat_str"] == PATTERNS[name]
    ((url, sha256),) = asked
    if name is EncodingName.R50K:
        assert sha256 == R50K_SHA256
    else:
        file = RANK_FILES[name]
        assert (sha256, hashlib.sha1(url.encode()).hexdigest()) == (file.sha256, file.cache_name)


def test_harmony_has_the_ranks_and_the_pattern_of_o200k(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "load_tiktoken_bpe", lambda _url, expected_hash: {b"": expected_hash})
    harmony: dict[str, Any] = published.ENCODING_CONSTRUCTORS["o200k_harmony"]()
    assert harmony["pat_str"] == PATTERNS[EncodingName.O200K]
    assert harmony["mergeable_ranks"] == {b"": RANK_FILES["o200k_base"].sha256}


# Counts by gpt-tokenizer 3, an implementation in JavaScript, for the same texts.
@pytest.mark.parametrize(
    ("name", "text", "tokens"),
    [
        (EncodingName.CL100K, "hello world", 2),
        (EncodingName.O200K, "hello world", 2),
        (EncodingName.CL100K, "<|endoftext|>", 7),
        (EncodingName.O200K, "<|endoftext|>", 7),
        (EncodingName.R50K, "        x", 8),
        (EncodingName.P50K, "        x", 2),
        (EncodingName.O200K, "", 0),
    ],
)
def test_known_texts_have_their_known_counts(
    tokenizers: Tokenizers, name: EncodingName, text: str, tokens: int
) -> None:
    assert tokenizers.count(text, name) == tokens


@given(st.dictionaries(st.binary(min_size=1, max_size=200), st.none(), min_size=1, max_size=40), st.randoms())
def test_packing_loses_nothing(tokens: dict[bytes, None], chance: random.Random) -> None:
    rank = 0
    ranks: dict[bytes, int] = {}
    for token in tokens:
        rank += chance.choice((1, 1, 1, 2))
        ranks[token] = rank
    if len(set(range(rank + 1)) - set(ranks.values())) > 255:
        return
    assert list(unpack(pack(ranks)).items()) == list(ranks.items())
    assert parse_tiktoken(write_tiktoken(ranks)) == ranks


def test_packed_ranks_come_before_the_cache(tmp_path: Path) -> None:
    file = small_file(tmp_path)
    assert load_ranks(file, data=tmp_path, cache=tmp_path / "nonexistent") == SMALL


@pytest.mark.parametrize("damage", [b"", b"garbage", lzma.compress(b"other"), None])
def test_a_damaged_data_file_sends_to_the_cache(tmp_path: Path, damage: bytes | None) -> None:
    file = small_file(tmp_path)
    packed = packed_path(file, tmp_path)
    packed.write_bytes(packed.read_bytes()[:-20] if damage is None else damage)
    assert load_ranks(file, data=tmp_path) is None
    (tmp_path / "cached").write_bytes(write_tiktoken(SMALL))
    assert load_ranks(file, data=tmp_path, cache=tmp_path) == SMALL


def test_a_blob_cut_short_is_refused() -> None:
    with pytest.raises(ValueError, match="cut short"):
        unpack(pack(SMALL)[:-1])


def test_a_wrong_cache_file_is_neither_used_nor_deleted(tmp_path: Path) -> None:
    file = small_file(tmp_path)
    packed_path(file, tmp_path).unlink()
    assert load_ranks(file, data=tmp_path, cache=tmp_path) is None
    (tmp_path / "cached").write_bytes(b"YQ== 0\n")
    assert load_ranks(file, data=tmp_path, cache=tmp_path) is None
    assert (tmp_path / "cached").read_bytes() == b"YQ== 0\n"


def test_the_cache_directory_is_that_of_tiktoken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TIKTOKEN_CACHE_DIR", raising=False)
    monkeypatch.delenv("DATA_GYM_CACHE_DIR", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert cache_directory() == tmp_path / "data-gym-cache"
    monkeypatch.setenv("DATA_GYM_CACHE_DIR", "/gym")
    assert cache_directory() == Path("/gym")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "/cache")
    assert cache_directory() == Path("/cache")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")
    assert cache_directory() is None


def test_without_ranks_everything_is_estimated(tmp_path: Path) -> None:
    counter = TokenCounter(Tokenizers(data=tmp_path, cache=tmp_path))
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "How are you?"}]}
    assert not counter.loaded("gpt-4o")
    assert not counter.load("gpt-4o")
    assert counter.loaded("gpt-4o")
    count = counter.count_prompt("/v1/chat/completions", body)
    assert (count.method, count.tokens) == (Method.ESTIMATED, 3 + 4 + estimate_text("How are you?"))
    assert "no o200k_base" in repr(counter)


def test_what_is_loaded_is_known_and_said(tokenizers: Tokenizers) -> None:
    counter = TokenCounter()
    assert not counter.loaded("gpt-4o")
    assert "none loaded" in repr(counter)
    assert counter.load("gpt-4o")
    assert counter.loaded("gpt-5")
    assert not counter.loaded("gpt-4")
    assert "o200k_base" in repr(counter)


def test_threads_load_a_vocabulary_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[str] = []
    real = load_ranks

    def counted(file: RankFile, *, data: Path, cache: Path | None) -> dict[bytes, int] | None:
        loads.append(file.name)
        return real(file, data=data, cache=cache)

    monkeypatch.setattr("proxy.tokens.encodings.load_ranks", counted)
    shared = Tokenizers()
    results: list[int] = []
    threads = [
        threading.Thread(target=lambda: results.append(shared.count("one two three", EncodingName.P50K)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (results, loads) == ([3] * 8, ["p50k_base"])


def test_long_texts_are_remembered_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.tokens.encodings.MEMO_ITEMS", 4)
    shared = Tokenizers()
    texts = [f"{number} " * 300 for number in range(10)]
    counts = [shared.count(text, EncodingName.O200K) for text in texts]
    assert [shared.count(text, EncodingName.O200K) for text in texts] == counts
    assert "4 counts remembered" in repr(shared)
    assert shared.count(texts[-1], EncodingName.O200K) == counts[-1]


def test_a_remembered_count_belongs_to_its_vocabulary(tokenizers: Tokenizers) -> None:
    text = "Größenänderungsverfahren " * 40
    counts = {tokenizers.count(text, name) for name in (EncodingName.O200K, EncodingName.CL100K) for _ in "twice"}
    assert len(counts) == 2


@pytest.mark.parametrize("unit", ["a", " ", "\n", "!", "中", "a b "])
def test_a_text_without_a_break_is_counted(tokenizers: Tokenizers, unit: str) -> None:
    text = unit * (PIECE_CHARACTERS * 2 // len(unit))
    assert 0 < tokenizers.count(text, EncodingName.O200K) <= len(text)


@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_every_text_but_the_empty_one_has_tokens(text: str) -> None:
    assert (SHARED.count(text, EncodingName.CL100K) == 0) == (not text)
    assert (estimate_text(text) == 0) == (not text)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=400))
def test_a_count_is_that_of_tiktoken(text: str) -> None:
    assert SHARED.count(text, EncodingName.CL100K) == len(REFERENCE.encode_ordinary(text))


SHARED = Tokenizers()
REFERENCE = tiktoken.Encoding(
    "reference",
    pat_str=PATTERNS[EncodingName.CL100K],
    mergeable_ranks=load_ranks(RANK_FILES["cl100k_base"]) or {},
    special_tokens={"<|endoftext|>": 100257},
)

OFFLINE = """
import json, socket, sys
def refuse(*_args, **_kwargs): raise AssertionError("the network was touched")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = socket.create_connection = refuse
from proxy.tokens.counter import TokenCounter
counter = TokenCounter()
for model in ("gpt-4o", "gpt-4", "text-davinci-003", "davinci", "unknown"):
    count = counter.count_prompt("/v1/completions", {"model": model, "prompt": "hello <|endoftext|> world"})
    print(json.dumps([model, count.tokens, count.method]))
"""


def test_counting_works_without_network_cache_or_home() -> None:
    environment = {
        **{name: value for name, value in os.environ.items() if name not in {"HOME", "DATA_GYM_CACHE_DIR"}},
        "TIKTOKEN_CACHE_DIR": "/nonexistent",
    }
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [method for _, _, method in lines] == ["counted", "counted", "counted", "counted", "estimated"]
    assert [tokens for _, tokens, _ in lines] == [9, 8, 9, 9, 9]


def test_the_packing_script_finds_vocabularies_by_their_hash(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    for file in RANK_FILES.values():
        ranks = load_ranks(file)
        assert ranks is not None
        (source / f"any-name-{file.name}").write_bytes(write_tiktoken(ranks))
    (source / "other").write_bytes(b"not a vocabulary")
    shutil.make_archive(str(tmp_path / "wheel"), "zip", source)
    command = [sys.executable, "scripts/pack_ranks.py", str(tmp_path / "wheel.zip"), "--into", str(target)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.count("as in ranks.py")) == (0, 3), done.stderr
    for file in RANK_FILES.values():
        packed = packed_path(file, target).read_bytes()
        assert lzma.decompress(packed) == lzma.decompress(packed_path(file, DATA).read_bytes())
