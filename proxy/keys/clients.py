"""Who may ask with the provider's key: clients, the keys that the operator gave them, and what each of them may."""

import hashlib
import json
import re
import secrets
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation
from fnmatch import fnmatchcase

from proxy.accounts import money
from proxy.accounts.money import PARTS
from proxy.errors import ClientsError
from proxy.headers import Fields

KEY_PREFIX = "sk-askonce-"
"""What every key of ours begins with: some SDKs refuse a key that does not begin with ``sk-``."""

KEY_BYTES = 32

SCHEMA = 1

CREDENTIALS = (b"authorization", b"api-key", b"x-api-key")
"""Where a client's key stands: OpenAI and most others, Azure, Anthropic."""

SUBPROTOCOLS = b"sec-websocket-protocol"
KEY_SUBPROTOCOL = b"openai-insecure-api-key."
"""How a browser, which cannot set a header field, names its key when it opens a WebSocket."""

SAFE = frozenset({b"GET", b"HEAD", b"OPTIONS"})
"""Methods that buy nothing: lists of models and the like."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """One client, as the operator wrote it down."""

    name: str
    team: str = ""
    digest: str = field(default="", repr=False)
    """SHA-256 of its key, in hexadecimal. Keys are random and long: no salt makes them harder to guess."""
    budget: int | None = None
    """What it may spend in a day of UTC, in parts of a dollar; None where nothing limits it."""
    models: tuple[str, ...] = ()
    """Patterns of which a model must fit one; none means any model."""
    issued: str = ""
    revoked: str = ""
    """When its key was taken back; empty while it is good."""

    def may_use(self, *models: str) -> bool:
        """Whether it may ask for every one of *models*; the empty text stands for one that nobody could read."""
        return not self.models or all(any(fnmatchcase(model, each) for each in self.models) for model in models)


ANYBODY = Client(name="")
"""Whoever comes without a key, where the operator lets them in."""


def new_key() -> str:
    """A key that nobody else has."""
    return KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)


def digest(key: bytes) -> str:
    """What is written down of *key*."""
    return hashlib.sha256(key).hexdigest()


def presented(fields: Fields) -> list[bytes]:
    """Every key that a request with *fields* presents."""
    found = []
    for name in CREDENTIALS:
        for value in fields.all(name):
            scheme, space, key = value.strip().partition(b" ")
            if name == b"authorization" and space and scheme.lower() == b"bearer":
                found.append(key.strip())
            elif name != b"authorization":
                found.append(value.strip())
    for value in fields.all(SUBPROTOCOLS):
        for part in value.split(b","):
            if part.strip().startswith(KEY_SUBPROTOCOL):
                found.append(part.strip().removeprefix(KEY_SUBPROTOCOL))
    return [key for key in found if key]


@dataclass(frozen=True, slots=True)
class Roster:
    """All clients, in the order in which they were written down. A name stands once among those whose keys are good."""

    clients: tuple[Client, ...] = ()

    def __iter__(self) -> Iterator[Client]:
        return iter(self.clients)

    def good(self) -> Mapping[str, Client]:
        """The clients whose keys are good, by what is written down of their keys."""
        return {client.digest: client for client in self.clients if not client.revoked}

    def with_new(self, client: Client) -> "Roster":
        """These and *client*.

        Raises:
            ClientsError: the name is taken, or is none.
        """
        _check_name(client.name, {each.name for each in self.clients if not each.revoked})
        return Roster((*self.clients, client))

    def without(self, name: str, *, at: str) -> "Roster":
        """These, with the key of *name* taken back.

        Raises:
            ClientsError: nobody of that name has a good key.
        """
        if not any(client.name == name and not client.revoked for client in self.clients):
            raise ClientsError(f"nobody called {name} has a key that is good")
        return Roster(
            tuple(
                replace(client, revoked=at) if client.name == name and not client.revoked else client
                for client in self.clients
            )
        )


def _check_name(name: str, taken: Container[str]) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", name):
        raise ClientsError(f"{name!r} is no name: letters, digits and ._@- are, 64 at most")
    if name in taken:
        raise ClientsError(f"there is a key for {name} already; revoke it first, or take another name")


def dollars(text: str) -> int:
    """*text* as parts of a dollar.

    Raises:
        ClientsError: it is no amount.
    """
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise ClientsError(f"{text!r} is no amount of dollars") from None
    if not (amount.is_finite() and 0 <= amount <= money.MOST):
        raise ClientsError(f"{text!r} is no amount of dollars that anybody can spend")
    return int(amount * PARTS)


def write(roster: Roster) -> str:
    """*roster* as the text of its file."""
    rows = [
        {
            "name": client.name,
            "team": client.team,
            "sha256": client.digest,
            "budget_usd": money.text(client.budget) if client.budget is not None else None,
            "models": list(client.models),
            "issued": client.issued,
            "revoked": client.revoked or None,
        }
        for client in roster
    ]
    return json.dumps({"schema": SCHEMA, "clients": rows}, indent=2) + "\n"


def read(text: str) -> Roster:
    """The roster whose file has *text*.

    Raises:
        ClientsError: it is none; says where.
    """
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ClientsError(f"not JSON: {error}") from None
    rows = tree.get("clients") if isinstance(tree, dict) else None
    if not isinstance(tree, dict) or tree.get("schema") != SCHEMA or not isinstance(rows, list):
        raise ClientsError(f"not a list of clients of schema {SCHEMA}")
    listed: list[Client] = []
    taken: set[str] = set()
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise ClientsError(f"clients[{number}] is no object")
        client = _client(row, number)
        if not client.revoked:
            _check_name(client.name, taken)
            taken.add(client.name)
        listed.append(client)
    return Roster(tuple(listed))


def _client(row: Mapping[str, object], number: int) -> Client:
    texts = {name: _text(row, name, number) for name in ("name", "team", "sha256", "issued", "revoked", "budget_usd")}
    if not re.fullmatch(r"[0-9a-f]{64}", texts["sha256"]):
        raise ClientsError(f"clients[{number}].sha256 is no SHA-256 in hexadecimal")
    models = row.get("models") or []
    if not isinstance(models, list) or not all(isinstance(model, str) for model in models):
        raise ClientsError(f"clients[{number}].models is no list of texts")
    return Client(
        name=texts["name"],
        team=texts["team"],
        digest=texts["sha256"],
        budget=dollars(texts["budget_usd"]) if texts["budget_usd"] else None,
        models=tuple(models),
        issued=texts["issued"],
        revoked=texts["revoked"],
    )


def _text(row: Mapping[str, object], name: str, number: int) -> str:
    value = row.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ClientsError(f"clients[{number}].{name} is no text")
    return value


def table(roster: Iterable[Client]) -> str:
    """*roster* for people."""
    rows = [("name", "team", "budget a day", "models", "issued", "revoked")]
    for client in roster:
        budget = f"${money.text(client.budget)}" if client.budget is not None else "-"
        rows.append(
            (client.name, client.team or "-", budget, ",".join(client.models) or "any", client.issued, client.revoked)
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n" for row in rows
    )
