"""The sentence model in numpy: tokens as the reference makes them, states that do what they should, broken files."""

import asyncio
import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.embedders.local import LocalModel
from proxy.encoder import encoder as encoding
from proxy.encoder import places, weights
from proxy.encoder.encoder import Encoder
from proxy.encoder.wordpiece import WordPiece
from proxy.errors import EmbedderError, ModelError

tokenizers = pytest.importorskip("tokenizers", reason="the reference tokenizer is not installed")


@pytest.fixture(scope="module")
def directory() -> Path:
    """Where the model lies."""
    found = places.find("")
    if found is None:
        pytest.skip("the model is not here: `askonce model fetch` brings it")
    return found


@pytest.fixture(scope="module")
def model(directory: Path) -> Encoder:
    """The model, loaded once."""
    return encoding.load(directory)


def long_known(char: str) -> bool:
    """Whether *char* is what it was in the Unicode of 2002."""
    return unicodedata.ucd_3_2_0.category(char) == unicodedata.category(char)


@settings(max_examples=300, deadline=None)
@given(
    st.text(
        # What newer editions of Unicode have added or changed is something else in the reference's older tables.
        st.characters(codec="utf-8", exclude_categories=("Cn", "Cs", "Co", "Mn", "Cf")).filter(long_known)
        | st.characters(min_codepoint=0x300, max_codepoint=0x36F),
        max_size=80,
    )
)
def test_any_text_is_cut_as_the_reference_cuts_it(text: str) -> None:
    found = places.find("")
    if found is None:
        pytest.skip("the model is not here: `askonce model fetch` brings it")
    ours = _pieces(found).tokens(text, limit=10_000)
    assert list(ours.ids) == _reference(found).encode(text, add_special_tokens=False).ids


_LOADED: dict[Path, tuple[WordPiece, Any]] = {}


def _pieces(directory: Path) -> WordPiece:
    if directory not in _LOADED:
        reference = tokenizers.Tokenizer.from_file(str(directory / "tokenizer.json"))
        reference.no_padding()
        reference.no_truncation()
        _LOADED[directory] = (WordPiece(weights.vocabulary(directory / "tokenizer.json")), reference)
    return _LOADED[directory][0]


def _reference(directory: Path) -> Any:
    _pieces(directory)
    return _LOADED[directory][1]


@pytest.mark.parametrize(
    "text",
    [
        "How do I reset my password?",
        "naïve café ΣΑΣ İstanbul",
        "你好 world",
        "مرحبا بالعالم",
        "a" * 300,
        "tabs\tand\nlines\r\x00\ufffd\u200b",
        "$5+3=8`~^|<>_",
        "👨‍👩‍👧 emoji",
        "",
    ],
)
def test_a_text_is_cut_as_the_reference_cuts_it(text: str, directory: Path) -> None:
    assert (
        list(_pieces(directory).tokens(text, limit=10_000).ids)
        == _reference(directory).encode(text, add_special_tokens=False).ids
    )


def test_a_script_that_the_model_has_never_seen_shows_as_unknown_tokens(directory: Path) -> None:
    tokens = _pieces(directory).tokens("ᚠᚢᚦ ᛒᛖᚱ ᛚᚾ", limit=50)
    assert tokens.unknown == len(tokens.ids) > 0


def test_a_text_alone_has_the_vector_that_it_has_among_others(model: Encoder) -> None:
    texts = ["short", "a somewhat longer question about something else entirely, is it not?", "what is the time"]
    together = model.vectors([f"{text} " for text in texts])
    alone = np.stack([model.vectors([text])[0] for text in texts])
    assert np.abs(together - alone).max() < 2e-4


def test_a_hundred_thousand_characters_are_read_to_the_limit_only(model: Encoder) -> None:
    reading = model.read(["word " * 20_000])[0]
    assert reading.tokens.cut
    assert len(reading.tokens.ids) == encoding.MAX_TOKENS


def test_readings_are_remembered_within_their_bound(model: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "MAX_REMEMBERED_BYTES", 100_000)
    model.read([f"question number {number}" for number in range(64)])
    assert model._bytes <= 100_000


def test_a_file_that_is_not_the_model_is_refused_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match=r"model\.safetensors: its SHA-256 is .*askonce model fetch"):
        encoding.load(tmp_path)


TOO_SHORT = json.dumps({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 8]}}).encode()


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"\xff" * 8,
        b"\x02\0\0\0\0\0\0\0[]",
        b"\x02\0\0\0\0\0\0\0{",
        len(TOO_SHORT).to_bytes(8, "little") + TOO_SHORT,
    ],
)
def test_a_broken_file_is_a_model_error_and_nothing_else(octets: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(octets)
    with pytest.raises(ModelError):
        weights.tensors(path)


def test_a_network_that_gives_one_vector_for_everything_is_found_out(model: Encoder) -> None:
    flat = Encoder(model.network, model.pieces)
    constant = model.read(["anything"])[0]
    flat.read = lambda texts: [constant for _ in texts]  # type: ignore[method-assign]
    with pytest.raises(ModelError, match="damaged"):
        encoding.check(flat)


async def _at_once(model: LocalModel, count: int) -> list[np.ndarray]:
    try:
        await model.start()
        return list(await asyncio.gather(*[model.embed([f"question {number}"]) for number in range(count)]))
    finally:
        await model.close()


def test_texts_that_come_at_once_are_embedded_each_as_itself(directory: Path, model: Encoder) -> None:
    rows = asyncio.run(_at_once(LocalModel(directory), 40))
    for number, row in enumerate(rows):
        assert np.abs(row[0] - model.vectors([f"question {number}"])[0]).max() < 2e-4


def test_more_texts_than_may_wait_are_refused_not_queued(directory: Path) -> None:
    with pytest.raises(EmbedderError, match="wait to be embedded"):
        asyncio.run(_at_once(LocalModel(directory, max_waiting=8), 40))


def test_without_a_model_every_text_is_refused_and_the_reason_is_told(tmp_path: Path) -> None:
    async def ask() -> str:
        model = LocalModel(tmp_path)
        for _ in range(2):
            with pytest.raises(ModelError, match="No such file"):
                await model.embed(["hello"])
        await model.close()
        return model.missing

    assert "No such file" in asyncio.run(ask())
