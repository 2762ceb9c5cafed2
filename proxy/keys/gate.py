"""The door in shared-key mode: who comes with a key that is good, while the operator gives keys and takes them back."""

import asyncio
import hmac
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from proxy.errors import ClientsError
from proxy.headers import Fields
from proxy.keys import clients
from proxy.keys.clients import ANYBODY, KEY_PREFIX, Client, Roster
from proxy.keys.keyfile import KeyFile, Stamp

log = logging.getLogger(__name__)

EVERY_S = 0.5
"""How often the file of the clients is looked at: how long a key that was taken back may still open."""


class Gate:
    """Knows the clients. *changed* is called when they are others than before."""

    def __init__(self, file: KeyFile, *, anonymous: bool, changed: Callable[[], None]) -> None:
        self._file = file
        self._anonymous = anonymous
        self._changed = changed
        self._stamp: Stamp | None = file.stamp()
        self._good = file.read().good()
        self._broken = False
        self._staying: dict[object, tuple[Client, Callable[[], None]]] = {}

    def __repr__(self) -> str:
        return f"<Gate, {len(self._good)} clients, {len(self._staying)} staying>"

    def admit(self, fields: Fields, target: bytes) -> Client | None:
        """Whose key a request for *target* with *fields* carries; None where it may not enter."""
        keys = clients.presented(fields)
        for key in keys:
            written = clients.digest(key)
            client = self._good.get(written)
            # Found by a digest that nobody can steer, and compared once more without telling how far it fits.
            if client is not None and hmac.compare_digest(client.digest, written):
                # A key in the address would go up with it.
                return client if key not in target else None
        # SDKs insist on a key and are given any; one of ours that is no longer good is a key that was taken back.
        if self._anonymous and not any(key.startswith(KEY_PREFIX.encode()) for key in keys):
            return ANYBODY
        return None

    @contextmanager
    def staying(self, client: Client, leave: Callable[[], None]) -> Iterator[None]:
        """*client* stays for as long as this lasts; *leave* is called as soon as its key is no longer good."""
        stay = object()
        self._staying[stay] = client, leave
        try:
            # It may have been taken back since it opened.
            if not self._still_good(client):
                leave()
            yield
        finally:
            del self._staying[stay]

    def _still_good(self, client: Client) -> bool:
        return client == ANYBODY or client.digest in self._good

    async def watch(self) -> None:
        """Follow the file for ever. While it cannot be read, those who could enter still can."""
        while True:
            await asyncio.sleep(EVERY_S)
            await self.look()

    async def look(self) -> None:
        """Read the file again if it has changed."""
        stamp = await asyncio.to_thread(self._file.stamp)
        if stamp == self._stamp:
            return
        try:
            roster: Roster = await asyncio.to_thread(self._file.read)
        except ClientsError as error:
            if not self._broken:
                log.error("the clients stay as they were: %s", error)
            self._broken = True
            return
        self._stamp, self._broken = stamp, False
        good = roster.good()
        if good != self._good:
            log.info("the clients changed: %d may enter", len(good))
            self._good = good
            self._changed()
            for client, leave in list(self._staying.values()):
                if not self._still_good(client):
                    leave()
