"""Who may see a page or press a button: everybody, or the operator."""

import hmac
from urllib.parse import urlsplit

from proxy.call import Call, Page, Reply
from proxy.headers import Fields
from proxy.pages import answers

TOKEN_FIELD = b"x-askonce-admin-token"
"""Where the operator's token goes when ``Authorization`` is taken by a key for the provider."""

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
"""What a browser on this machine calls it. Any other name may be a stranger's that points here (DNS rebinding)."""


RELAYED = frozenset({b"forwarded", b"x-forwarded-for", b"x-real-ip", b"via", b"cf-connecting-ip"})
"""What a proxy or a tunnel says of whom it speaks for: anybody's request, though it comes from this machine."""


class Doors:
    """Guards the pages that show more than sums, and everything that changes something.

    With a *token* whoever sends it may enter. Without one they stay shut, unless the server is bound to a loopback
    address: then whoever is on this machine may, but for pages in a browser that come from somewhere else.
    """

    def __init__(self, *, token: str, on_loopback: bool) -> None:
        self._token = token.encode()
        self._on_loopback = on_loopback

    def __repr__(self) -> str:
        return f"<Doors, {'by token' if self._token else 'open on loopback' if self._on_loopback else 'shut'}>"

    def operators(self, page: Page) -> Page:
        """*page*, for the operator alone."""

        async def guarded(call: Call) -> Reply:
            refusal = self.refusal(call)
            return refusal if refusal is not None else await page(call)

        return guarded

    def refusal(self, call: Call) -> Reply | None:
        """Why *call* may not enter; None where it may."""
        if self._token:
            if any(hmac.compare_digest(token, self._token) for token in _tokens(call.fields)):
                return None
            return answers.refused(
                401, f"this needs the operator's token (admin.token): send it as {TOKEN_FIELD.decode()}", "admin_token"
            )
        if not self._on_loopback:
            return answers.refused(
                403,
                "this is for the operator: set admin.token, or bind server.host to a loopback address",
                "admin_only",
            )
        if not _from_here(call.fields):
            return answers.refused(
                403,
                "this is for programs and pages of this machine, and the request comes from elsewhere; set admin.token",
                "foreign_origin",
            )
        return None


def _tokens(fields: Fields) -> list[bytes]:
    bearers = [value[7:].strip() for value in fields.all(b"authorization") if value[:7].lower() == b"bearer "]
    return [*(value.strip() for value in fields.all(TOKEN_FIELD)), *bearers]


def _from_here(fields: Fields) -> bool:
    """Whether a request comes from a program of this machine, or from a page that this server gave itself."""
    host = (fields.get(b"host") or b"").decode("latin-1").lower()
    if _name(host) not in LOOPBACK_NAMES or fields.has_any(RELAYED):
        return False
    if any(value.strip().lower() not in (b"same-origin", b"none") for value in fields.all(b"sec-fetch-site")):
        return False
    return all(value.decode("latin-1").lower() == f"http://{host}" for value in fields.all(b"origin"))


def _name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
