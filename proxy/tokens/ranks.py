"""Where a tokenizer's merge ranks come from: our data file, or a verified file on this machine. Never a download.

tiktoken's own loader downloads what is missing, without a timeout and on the thread that asked, and deletes a cached
file whose hash is wrong; so it is not used. Its *cached files* are: same name (SHA-1 of the address), same SHA-256.
"""

import binascii
import hashlib
import lzma
import os
import struct
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

DATA = Path(__file__).resolve().parents[1] / "data"

# The largest vocabulary (o200k_base) unpacks to 1.6 MB; whoever swaps a data file cannot make us unpack gigabytes.
MAX_PACKED_BYTES = 8 * 1024 * 1024
MAX_TIKTOKEN_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class RankFile:
    """One vocabulary of OpenAI's tiktoken, and what proves that a file holds it."""

    name: str
    cache_name: str
    """File name in tiktoken's cache directory: the SHA-1 of the address it was published under."""
    sha256: str
    """Of the published ``.tiktoken`` file; the same constant stands in ``tiktoken_ext.openai_public``."""
    packed_sha256: str
    """Of our data file after decompression, so that another xz version may pack it anew."""


RANK_FILES: Mapping[str, RankFile] = {
    file.name: file
    for file in (
        RankFile(
            name="cl100k_base",
            cache_name="9b5ad71b2ce5302211f9c61530b329a4922fc6a4",
            sha256="223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
            packed_sha256="1123c1aa6cec353b4de664f5397f35fa85bdd9f7724aee384b04a42ae040e2e2",
        ),
        RankFile(
            name="o200k_base",
            cache_name="fb374d419588a4632f3f557e76b4b70aebbca790",
            sha256="446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
            packed_sha256="f2cd16d20f62825b9e238cb4990b6779a04e6760e2110dd79ff40f94611def07",
        ),
        RankFile(
            name="p50k_base",
            cache_name="ec7223a39ce59f226a68acc30dc1af2788490e15",
            sha256="94b5ca7dff4d00767bc256fdd1b27e5b17361d7b8a5f968547f9f23eb70d2069",
            packed_sha256="894c131de8c5347abd5f293863e2f9e3992cc889ae10cf00d3aa4ec8c8a26008",
        ),
    )
}


def packed_path(file: RankFile, data: Path = DATA) -> Path:
    """Return where the packed ranks of *file* lie."""
    return data / f"{file.name}.ranks.xz"


def cache_directory() -> Path | None:
    """Return the directory in which tiktoken keeps downloads, by its own rules, or None if its user switched it off."""
    for variable in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"):
        if variable in os.environ:
            return Path(os.environ[variable]) if os.environ[variable] else None
    return Path(tempfile.gettempdir()) / "data-gym-cache"


def load_ranks(file: RankFile, *, data: Path = DATA, cache: Path | None = None) -> dict[bytes, int] | None:
    """Return the ranks of *file*: from *data*, else from tiktoken's *cache*, else None. Takes tens of milliseconds.

    A file with the wrong hash is as good as none; it is neither repaired nor deleted.
    """
    try:
        blob = _unpacked(packed_path(file, data))
        if hashlib.sha256(blob).hexdigest() == file.packed_sha256:
            return unpack(blob)
    except (OSError, lzma.LZMAError, ValueError, struct.error):
        pass
    if cache is None:
        return None
    try:
        with (cache / file.cache_name).open("rb") as stream:
            text = stream.read(MAX_TIKTOKEN_BYTES)
    except (OSError, ValueError):
        return None
    if hashlib.sha256(text).hexdigest() != file.sha256:
        return None
    return parse_tiktoken(text)


def parse_tiktoken(text: bytes) -> dict[bytes, int]:
    """Return the ranks written in a ``.tiktoken`` file: a line is the token in base64 and its rank."""
    pairs = (line.split() for line in text.splitlines() if line)
    return {binascii.a2b_base64(token): int(rank) for token, rank in pairs}


def write_tiktoken(ranks: Mapping[bytes, int]) -> bytes:
    """Return the ``.tiktoken`` file of *ranks*; its SHA-256 proves that packing lost nothing."""
    return b"".join(binascii.b2a_base64(token, newline=False) + b" %d\n" % rank for token, rank in ranks.items())


def pack(ranks: Mapping[bytes, int]) -> bytes:
    """Return *ranks* (in order of rank) as bytes: counts, the unused ranks, every token's length, then the tokens.

    Lengths and tokens apart compress to less than half of what the base64 text does.
    """
    used = set(ranks.values())
    gaps = [rank for rank in range(max(used) + 1) if rank not in used]
    head = struct.pack("<IB", len(ranks), len(gaps)) + struct.pack(f"<{len(gaps)}I", *gaps)
    return head + bytes(len(token) for token in ranks) + b"".join(ranks)


def unpack(blob: bytes) -> dict[bytes, int]:
    """Return the ranks that `pack` wrote."""
    count, gap_count = struct.unpack_from("<IB", blob)
    offset = struct.calcsize("<IB")
    gaps = set(struct.unpack_from(f"<{gap_count}I", blob, offset))
    offset += 4 * gap_count
    lengths = blob[offset : offset + count]
    position = offset + count
    ranks: dict[bytes, int] = {}
    rank = 0
    for length in lengths:
        while rank in gaps:
            rank += 1
        ranks[blob[position : position + length]] = rank
        position += length
        rank += 1
    if position != len(blob) or len(ranks) != count:
        raise ValueError("packed ranks are cut short or hold a token twice")
    return ranks


def _unpacked(path: Path) -> bytes:
    with path.open("rb") as packed:
        unpacker = lzma.LZMADecompressor(format=lzma.FORMAT_XZ)
        blob = unpacker.decompress(packed.read(MAX_PACKED_BYTES), max_length=MAX_PACKED_BYTES)
    if not unpacker.eof:
        raise ValueError(f"{path} is cut short or larger than a vocabulary can be")
    return blob
