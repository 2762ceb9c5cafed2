"""Where the provider is: its origin, the path prefix in front of ours, and how a target is joined to it."""

from dataclasses import dataclass
from functools import cached_property
from urllib.parse import urlsplit


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Scheme, host and port of a server, with the path prefix under which its API lives."""

    secure: bool
    host: str
    port: int
    prefix: bytes = b""
    """Without a trailing slash; empty for none."""

    @cached_property
    def authority(self) -> bytes:
        """What ``Host`` says: the port only where it is not the scheme's own (RFC 9110 section 4.2.3)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = 443 if self.secure else 80
        return (host if self.port == default else f"{host}:{self.port}").encode(
            "idna" if not host.isascii() else "ascii"
        )

    @cached_property
    def identity(self) -> bytes:
        """The part of the exact key that says which provider was asked."""
        return (b"https://" if self.secure else b"http://") + self.authority + self.prefix

    def target(self, target: bytes) -> bytes:
        """*target* under the prefix. A prefix that ends in ``/v1`` is not doubled."""
        prefix = self.prefix
        if prefix.endswith(b"/v1") and (target == b"/v1" or target.startswith((b"/v1/", b"/v1?"))):
            prefix = prefix[: -len(b"/v1")]
        return target if target == b"*" else prefix + target


def origin(url: str) -> Origin:
    """The origin that *url* (already checked by the config) names."""
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    return Origin(
        secure=secure,
        host=parts.hostname or "",
        port=parts.port or (443 if secure else 80),
        prefix=parts.path.rstrip("/").encode("utf-8"),
    )
