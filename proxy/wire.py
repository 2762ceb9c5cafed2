"""The short way: a request whose very octets were answered before is answered before anybody parses it.

An item is made only after the ordinary way has said "hit" for exactly these octets, and it speaks only while that would
still be so: the entry is the one the store holds, nothing was learned that changes keys, the request is not one whose
answer depends on the time. The ledger hears of each use.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from proxy.accounts.ledger import Ledger
from proxy.accounts.receipts import Receipt
from proxy.call import Repeat
from proxy.model import Entry

ITEM_OVERHEAD_BYTES = 1200

HEAD_END = b"\r\n\r\n"


@dataclass(slots=True)
class _Item:
    entry: Entry
    generation: int
    write: Callable[[float], bytes]
    """The whole answer, head and body, as of a moment: it tells its age."""
    receipt_at: Callable[[float], Receipt]
    """What one more hit is worth as of a moment."""
    receipt: Receipt
    size: int
    second: int = -1
    octets: bytes = b""


@dataclass(slots=True)
class Wire:
    """Requests by their octets, least recently used first out, within *max_bytes*."""

    max_bytes: int
    holds: Callable[[Entry], bool]
    """Whether the store would still answer with this very entry; counts it as a use."""
    generation: Callable[[], int]
    """A number that grows whenever something is learned or withdrawn that may change what these octets mean."""
    ledger: Ledger
    now: Callable[[], float]
    _items: OrderedDict[bytes, _Item] = field(default_factory=OrderedDict)
    _heads: dict[bytes, int] = field(default_factory=dict)
    """How many items begin with a head: many clients send head and body in two writes."""
    _bytes: int = 0

    def __repr__(self) -> str:
        return f"<Wire, {len(self._items)} requests, {self._bytes} of {self.max_bytes} bytes>"

    def __len__(self) -> int:
        return len(self._items)

    def awaits_body(self, octets: bytes) -> bool:
        """Whether *octets* are a head that some remembered request begins with, and nothing more."""
        return octets in self._heads

    def find(self, octets: bytes) -> bytes | None:
        """The whole answer to the request that *octets* are, or None: then the ordinary way decides."""
        item = self._items.get(octets)
        if item is None:
            return None
        now = self.now()
        if item.generation != self.generation() or not self.holds(item.entry):
            self._forget(octets)
            return None
        second = int(now)
        if second != item.second:
            item.second, item.octets = second, item.write(now)
            item.receipt = item.receipt_at(now)
        return item.octets

    def used(self, octets: bytes, *, seconds: float) -> None:
        """The answer to *octets* was written, *seconds* after they had come."""
        item = self._items[octets]
        self._items.move_to_end(octets)
        self.ledger.again(item.receipt, seconds=seconds)

    def remember(self, octets: bytes, repeat: Repeat, write: Callable[[float], bytes]) -> None:
        """*octets*, one whole request, had a hit that may be repeated; *write* would answer them again."""
        # The answer twice: as it was prepared, and the pieces to prepare it from when its age has changed.
        size = 2 * len(octets) + 2 * len(write(self.now())) + ITEM_OVERHEAD_BYTES
        if size > self.max_bytes // 8:
            return
        self._forget(octets)
        head = octets[: octets.find(HEAD_END) + len(HEAD_END)]
        if head != octets:
            self._heads[head] = self._heads.get(head, 0) + 1
        receipt = repeat.receipt_at(self.now())
        self._items[octets] = _Item(repeat.entry, repeat.generation, write, repeat.receipt_at, receipt, size)
        self._bytes += size
        while self._bytes > self.max_bytes:
            self._forget(next(iter(self._items)))

    def _forget(self, octets: bytes) -> None:
        item = self._items.pop(octets, None)
        if item is None:
            return
        self._bytes -= item.size
        head = octets[: octets.find(HEAD_END) + len(HEAD_END)]
        left = self._heads.get(head, 0) - 1
        if left > 0:
            self._heads[head] = left
        else:
            self._heads.pop(head, None)
