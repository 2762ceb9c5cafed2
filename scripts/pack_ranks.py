"""Pack OpenAI's tokenizer vocabularies into proxy/data, from any source whose SHA-256 is right.

    python scripts/pack_ranks.py SOURCE [SOURCE ...] [--into DIRECTORY]

A SOURCE is a directory (searched in depth), a wheel or another zip file: tiktoken's cache directory, or what
``pip download --no-deps llama-index-core litellm`` brings (both carry the files as tiktoken caches them). Names do not
matter, the hash decides. Prints the hash of each packed blob, which belongs into proxy/tokens/ranks.py.
"""

import argparse
import hashlib
import lzma
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

from proxy.tokens.ranks import (
    DATA,
    MAX_TIKTOKEN_BYTES,
    RANK_FILES,
    pack,
    packed_path,
    parse_tiktoken,
    unpack,
    write_tiktoken,
)


def candidates(source: Path) -> Iterator[bytes]:
    """Yield the contents of every file in *source* that could be a vocabulary."""
    if source.is_dir():
        for path in sorted(source.rglob("*")):
            if path.is_file() and (zipfile.is_zipfile(path) or path.stat().st_size <= MAX_TIKTOKEN_BYTES):
                yield from candidates(path)
    elif zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as archive:
            for member in archive.infolist():
                if not member.is_dir() and 500_000 < member.file_size <= MAX_TIKTOKEN_BYTES:
                    yield archive.read(member)
    else:
        yield source.read_bytes()


def main() -> int:
    """Pack what is found; fail if a vocabulary is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="+", type=Path)
    parser.add_argument("--into", type=Path, default=DATA)
    options = parser.parse_args()
    wanted = {file.sha256: file for file in RANK_FILES.values()}
    for source in options.source:
        for text in candidates(source):
            file = wanted.pop(hashlib.sha256(text).hexdigest(), None)
            if file is None:
                continue
            blob = pack(parse_tiktoken(text))
            if write_tiktoken(unpack(blob)) != text:
                raise SystemExit(f"{file.name}: the packed form loses something")
            target = packed_path(file, options.into)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(lzma.compress(blob, format=lzma.FORMAT_XZ, preset=9 | lzma.PRESET_EXTREME))
            blob_hash = hashlib.sha256(blob).hexdigest()
            state = "as in ranks.py" if blob_hash == file.packed_sha256 else "NEW: write it into ranks.py"
            print(f"{target}: {target.stat().st_size} bytes, packed_sha256 {blob_hash} ({state})")
    for file in wanted.values():
        print(f"{file.name}: no file with SHA-256 {file.sha256} in the sources", file=sys.stderr)
    return 1 if wanted else 0


if __name__ == "__main__":
    raise SystemExit(main())
