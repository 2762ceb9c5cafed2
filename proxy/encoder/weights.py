"""The model's two files: which ones they are, and what is in them. The hash decides, whatever the source."""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from proxy.errors import ModelError

MODEL = "all-MiniLM-L6-v2"

SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
"""The files of sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0), by name."""

MAX_HEADER_BYTES = 16 * 1024 * 1024
CHUNK_BYTES = 1 << 20

Array = NDArray[np.float32]
Tensors = Mapping[str, Array]


def fault(directory: Path) -> str:
    """What is wrong with the model in *directory*; empty where its files are there and are the right ones."""
    for name, wanted in SHA256.items():
        path = directory / name
        try:
            found = sha256(path)
        except OSError as error:
            return f"{path}: {error.strerror}"
        if found != wanted:
            return f"{path}: its SHA-256 is {found[:12]}..., not {wanted[:12]}...: not the file of {MODEL}"
    return ""


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def tensors(path: Path) -> dict[str, Array]:
    """The float32 tensors of a safetensors file, mapped rather than read: several processes share them.

    The format: the length of a JSON header as eight octets, little-endian; the header, with type, shape and place of
    each tensor; the tensors.

    Raises:
        ModelError: the file cannot be read, or is not what it should be.
    """
    try:
        mapped = np.memmap(path, dtype=np.uint8, mode="r")
        length = int.from_bytes(mapped[:8].tobytes(), "little")
        if length > min(MAX_HEADER_BYTES, len(mapped) - 8):
            raise ModelError(f"{path}: not a safetensors file")
        header = json.loads(mapped[8 : 8 + length].tobytes())
        found: dict[str, Array] = {}
        for name, about in header.items():
            if name != "__metadata__" and about["dtype"] == "F32":
                begin, end = about["data_offsets"]
                shape = tuple(about["shape"])
                if (end - begin) != 4 * math.prod(shape):
                    raise ModelError(f"{path}: {name} is not as long as its shape says")
                found[name] = mapped[8 + length + begin : 8 + length + end].view(np.float32).reshape(shape)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path}: cannot be read as safetensors: {error}") from error
    return found


def vocabulary(path: Path) -> dict[str, int]:
    """Piece to id, out of a ``tokenizer.json``.

    Raises:
        ModelError: the file cannot be read, or is not a WordPiece tokenizer.
    """
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
        model = described["model"]
        vocab = {str(piece): int(number) for piece, number in model["vocab"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path}: cannot be read as a WordPiece tokenizer: {error}") from error
    if not {"[UNK]", "[CLS]", "[SEP]"} <= vocab.keys():
        raise ModelError(f"{path}: not a WordPiece tokenizer of BERT's kind")
    return vocab
