"""A call as it came in, and the reply as it goes out."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from proxy.accounts.receipts import Receipt
from proxy.headers import Fields
from proxy.keys.clients import ANYBODY, Client
from proxy.model import Apart, Entry, Form, Key, Outcome, RawFields, Reason, TenantId
from proxy.policy import Control, Plan
from proxy.ports import Body, Dialect, Upload
from proxy.providers.routing import Route, Way
from proxy.semantic.question import Question
from proxy.values import value


@value
class Call:
    """A request, verbatim."""

    method: bytes
    target: bytes
    """Path and query in origin form, octet for octet, as the provider knows them."""
    fields: Fields
    body: bytes | Upload | None = field(repr=False)
    """Whole where it may be a candidate for the cache, else as it arrives; None where there is none."""
    dialect: Dialect | None = None
    """None: not a cached path."""
    peer: str = ""
    """The address that the connection comes from."""
    controls: RawFields = ()
    """What its body asked of the cache, as header fields of ours: the provider sees none of it."""
    way: Way = Way()
    """Where its path leads; which of several providers that is may hang on its body."""
    client: Client | None = None
    """Whose key it carried, where the proxy holds the provider's; None where clients bring their own."""

    @property
    def asker(self) -> Client:
        """Under whose name it is counted."""
        return self.client if self.client is not None else ANYBODY


@value
class Candidate:
    """A call of which the cache knows enough to decide."""

    model: str
    """The model that the request names, as a label."""
    asked: Control
    plan: Plan
    form: Form
    tenant: TenantId
    identity: Key | None
    """The exact key; None where the call cannot be told from others."""
    route: Route
    """The provider that it goes to."""
    question: Question | Apart = Apart.OFF
    """What may be compared with others by meaning, or why it may not."""
    unasked: bool = False
    """It follows an answer that was given though it had expired; nobody waits for it."""
    fallbacks: tuple[str, ...] = ()
    """Further models that the request names, to be tried in place of the first."""
    inputs: int = 0
    """How many embeddings it asks for, where it can be taken apart."""
    pieces: tuple[Key, ...] = ()
    """Where these are several, the exact key of each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """What it takes to give the same hit again without the pass."""

    entry: Entry
    head_at: Callable[[float], bytes]
    """The head as of a moment, for it tells the age of the answer."""
    receipt_at: Callable[[float], Receipt]
    """What the ledger is told of one more, as of a moment, for prices change."""
    generation: int
    """What was known of keys when the entry was looked up."""


@value
class Reply:
    """What the client gets. How it is framed is for the server to decide."""

    status: int
    phrase: bytes
    head: bytes = field(repr=False)
    """Field lines, CRLF after each, without Transfer-Encoding; a Content-Length among them is true."""
    body: bytes | Body = field(repr=False)
    sized: bool
    """*head* says the Content-Length, or the reply has no body by its nature."""
    outcome: Outcome | None = None
    """None: not on a cached path."""
    reason: Reason | None = None
    repeat: Repeat | None = None
    """Set on a hit that any request with the same octets may be given."""


Page = Callable[[Call], Awaitable[Reply]]
"""One of the proxy's own pages: takes a request whose body is whole, gives what it shows."""

Deliver = Callable[[Reply], Awaitable[None]]
"""Sends a reply to the client, its body as it comes; raises what breaks either side off."""
