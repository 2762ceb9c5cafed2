"""What the pass needs from the outside, by shape: anything that fits may stand in."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from proxy.model import Entry, Finding, Form, Json, Judgement, Key, Neighbour, Reason

Vectors = NDArray[np.float32]
"""One row for each text, or a single row."""


class Dialect(Protocol):
    """What differs between the endpoints. Pure: no I/O, no clock, no exception on any input."""

    @property
    def name(self) -> str:
        """A word for logs and entries: ``chat``."""
        ...

    @property
    def left_out(self) -> frozenset[str]:
        """Top-level request fields that cannot change the answer and so stay out of the exact key."""
        ...

    @property
    def deterministic(self) -> bool:
        """True where the same request always has the same answer (embeddings), whatever its temperature."""
        ...

    def form(self, request: Json) -> Form:
        """The form that *request* asks for."""
        ...

    def refuses(self, request: Json) -> Reason | None:
        """Why *request* must never be answered from a cache (a side effect, provider-side state), or None."""
        ...

    def examine(self, body: bytes, form: Form) -> Finding:
        """Judge a finished answer, already decoded from its content encoding, recorded in *form*."""
        ...

    def render(self, body: bytes, have: Form, want: Form) -> bytes | None:
        """*body*, recorded in form *have*, in form *want*; None where that would need something invented."""
        ...


class Store(Protocol):
    """Where entries live. Every fault is a ``CacheError``; expiry and foreign keys are never returned."""

    async def get(self, key: Key) -> Entry | None:
        """The live entry under *key*; counts a hit towards its worth."""
        ...

    async def get_even_stale(self, key: Key) -> Entry | None:
        """As :meth:`get`, but also where it has expired and is kept for its ``grace_s``."""
        ...

    async def put(self, entry: Entry) -> bool:
        """Keep *entry* in place of what was there; False where it has no room or is not worth it."""
        ...

    async def drop(self, key: Key) -> bool:
        """Forget the entry under *key*; False where there was none."""
        ...

    async def clear(self) -> int:
        """Forget every entry of ours; how many there were."""
        ...

    def asked(self) -> AsyncIterator[Entry]:
        """Every live entry that has a ``scope``, in any order; not counted as a use."""
        ...

    def arriving(self) -> AsyncIterator[Entry]:
        """Every entry with a ``scope`` that is put from now on, by other processes too; ends where there are none."""
        ...

    def entries(self) -> AsyncIterator[Entry]:
        """Every live entry, in any order; not counted as a use."""
        ...

    def watch(self, gone: Callable[[Key], None]) -> None:
        """Call *gone*, on the loop, with the key of each entry that is kept no longer, as far as this process knows."""
        ...

    async def close(self) -> None:
        """Let go of whatever the store holds open."""
        ...


class Shelf(Protocol):
    """Small named values that are kept beside the entries and last as they do. Every fault is a ``CacheError``."""

    async def read(self, name: str) -> bytes | None:
        """What was written under *name*, or None."""
        ...

    async def write(self, name: str, octets: bytes) -> None:
        """Keep *octets* under *name*, in place of what was there."""
        ...

    async def create(self, name: str, octets: bytes) -> bytes:
        """Keep *octets* under *name* unless something is there already; what is there now, the same for all who ask."""
        ...

    async def replace(self, name: str, octets: bytes, *, instead_of: bytes | None) -> bool:
        """Keep *octets* under *name* where there is just *instead_of* (None: nothing); False where there is not."""
        ...


class Tallies(Protocol):
    """Pages of named whole numbers that many processes add to. Every fault is a ``CacheError``."""

    async def add(self, page: str, counts: Mapping[str, int], *, keep_s: float) -> None:
        """Add *counts* to the numbers of *page*, all or none; the page is forgotten *keep_s* seconds after its last."""
        ...

    async def read(self, pages: Sequence[str]) -> Sequence[Mapping[str, int]]:
        """The numbers of each of *pages*, in their order; none where there is no such page."""
        ...


class Embedder(Protocol):
    """Text to vectors of length 1. Every fault is a ``CacheError``; nothing of it runs on the event loop."""

    @property
    def identity(self) -> str:
        """What made a vector: model, its hash, backend. Vectors of two identities are never compared."""
        ...

    @property
    def dimension(self) -> int:
        """How long a vector is; 0 where that is not known before the first."""
        ...

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """One row of length 1 for each of *texts*, in order."""
        ...

    async def close(self) -> None:
        """Let go of threads and connections."""
        ...


class VectorIndex(Protocol):
    """Vectors by key, compared within one scope only."""

    def add(self, scope: str, key: Key, vector: Vectors) -> bool:
        """Hold *vector* (of length 1) under *key*, in place of what was there; False where there is no room."""
        ...

    def drop(self, scope: str, key: Key) -> bool:
        """Forget the vector under *key*; False where there was none."""
        ...

    async def nearest(self, scope: str, vector: Vectors, k: int) -> list[tuple[Key, float]]:
        """The *k* nearest keys of *scope* with their cosine, nearest first."""
        ...

    def clear(self) -> None:
        """Forget every vector."""
        ...

    @property
    def bytes_used(self) -> int:
        """Octets in use in this process."""
        ...

    @property
    def shared(self) -> bool:
        """Vectors that other processes added are found, too, under keys that may not be known here."""
        ...


class Verifier(Protocol):
    """Whether the answer to one text may serve another. Every fault is a ``CacheError``."""

    @property
    def identity(self) -> str:
        """What made a score: scores of two identities are never compared, nor calibrated together."""
        ...

    async def judge(self, asked: str, neighbours: Sequence[Neighbour]) -> tuple[Judgement, ...]:
        """A judgement on each of *neighbours*, in their order; the dearest stage looks at the best one only."""
        ...


class Leases(Protocol):
    """Names that one process at a time may hold, among all that share a store. Every fault is a ``CacheError``."""

    async def take(self, name: str, token: bytes, *, keep_s: float) -> bool:
        """Hold *name* as *token* for *keep_s*, if nobody holds it; whether it is held so now."""
        ...

    async def renew(self, name: str, token: bytes, *, keep_s: float) -> bool:
        """Hold it for *keep_s* from now; False where *token* does not hold it any more."""
        ...

    async def release(self, name: str, token: bytes) -> None:
        """Let go of it, if *token* holds it."""
        ...


class Upload(Protocol):
    """A request body that is still arriving."""

    @property
    def chunked(self) -> bool:
        """It is framed by chunks; else by the Content-Length among the fields."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The octets, as they arrive. Raises where the client breaks off."""
        ...


class Sink(Protocol):
    """Where the octets of a reply go: the client's connection."""

    def write(self, octets: bytes) -> bool:
        """Send some; False where the client is slow and ``drained`` should be waited for. Raises ConnectionError."""
        ...

    def flush(self) -> None:
        """Send what is held back to go out with the first octets, for these may be long in coming."""
        ...

    async def drained(self) -> None:
        """Wait until the client has taken most of what was sent."""
        ...


class Body(Protocol):
    """A reply's body that is still coming."""

    @property
    def poured_bytes(self) -> int:
        """How much of it has gone out."""
        ...

    async def pour(self, sink: Sink) -> None:
        """Send all of it, as it comes. Raises where it breaks off."""
        ...
