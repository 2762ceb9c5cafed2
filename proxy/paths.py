"""Which paths are cached, and as what."""

import re
from collections.abc import Mapping

_CACHED = re.compile(
    rb"(?:/v1|/openai/v1|/openai/deployments/[^/]+)?/(chat/completions|completions|responses|embeddings|messages)"
)
"""Anchored at both ends: ``/v1/threads/{id}/messages`` is somebody's data and not one of these."""


_DEPLOYMENT = re.compile(rb"/openai/deployments/([^/]+)(?:/.*)?")


def deployment(path: bytes) -> bytes | None:
    """The deployment that *path* names, as Azure does; None where it names none."""
    found = _DEPLOYMENT.fullmatch(path)
    return found[1] if found is not None else None


def cached_as(method: bytes, path: bytes, more: Mapping[bytes, str]) -> str | None:
    """The path suffix whose dialect ``POST`` to *path* speaks (``/chat/completions``), or None where it is not cached.

    *more* names further paths, each with its suffix.
    """
    if method != b"POST":
        return None
    found = _CACHED.fullmatch(path)
    if found is not None:
        return "/" + found.group(1).decode("ascii")
    return more.get(path)
