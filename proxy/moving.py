"""Entries on their way from one store to another: a file with a line of JSON for each."""

import asyncio
import base64
import binascii
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TextIO

from proxy.errors import AskonceError, CacheError, Unreadable
from proxy.model import Entry, Key
from proxy.storage import TENANTS, Storage
from proxy.stores.codec import Codec

VERSION = 1

AT_ONCE = 256
"""So many entries are put away together."""

Told = Callable[[int], None]
"""Is told how many lines are done."""

CODEC = Codec()
"""Neither the settings of the one store nor its keys matter to the other: what lies in the file is not sealed."""


@dataclass(frozen=True, slots=True)
class Moved:
    """What a file came to."""

    kept: int = 0
    expired: int = 0
    refused: int = 0
    """There was no room, or the store failed for this one."""
    unreadable: int = 0
    other_tenants: bool = False
    """The store tells tenants apart by another secret: nobody finds what was kept for a tenant of the old one."""


async def take_out(storage: Storage, file: TextIO, told: Told) -> int:
    """Write every live entry of *storage* to *file*; how many there were.

    Raises:
        CacheError: the store failed.
    """
    secret = await storage.shelf.read(TENANTS)
    head: dict[str, object] = {"askonce": "entries", "version": VERSION}
    if secret is not None:
        head["secret"] = base64.b64encode(secret).decode()
    file.write(f"{json.dumps(head)}\n")
    count = 0
    async for entry in storage.store.entries():
        file.write(f"{_line(entry)}\n")
        count += 1
        told(count)
    return count


async def bring_in(
    storage: Storage, lines: Iterable[str], told: Told, *, now: Callable[[], float] = time.time
) -> Moved:
    """Put the entries in *lines* into *storage*.

    Raises:
        AskonceError: these are not lines that ``take_out`` wrote.
        CacheError: the store failed for all of them.
    """
    coming = iter(lines)
    other_tenants = await _same_tenants(storage, next(coming, ""))
    done = kept = expired = refused = unreadable = 0
    fault: CacheError | None = None
    batch: list[Entry] = []

    async def put(batch: list[Entry]) -> None:
        nonlocal kept, refused, fault
        for outcome in await asyncio.gather(*map(storage.store.put, batch), return_exceptions=True):
            if isinstance(outcome, CacheError):
                fault, refused = outcome, refused + 1
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                kept, refused = kept + outcome, refused + (not outcome)

    for line in coming:
        done += 1
        try:
            entry = _entry(line)
        except Unreadable:
            unreadable += 1
            continue
        if entry.expires <= now():
            expired += 1
            continue
        batch.append(entry)
        if len(batch) >= AT_ONCE:
            await put(batch)
            batch = []
            told(done)
    await put(batch)
    told(done)
    if fault is not None and not kept:
        raise fault
    return Moved(kept, expired, refused, unreadable, other_tenants)


async def _same_tenants(storage: Storage, head: str) -> bool:
    """Take over the secret of the old store; True where the new one had another already."""
    try:
        told = json.loads(head)
        ours = told["askonce"] == "entries" and told["version"] == VERSION
        secret = base64.b64decode(told["secret"]) if ours and "secret" in told else None
    except (ValueError, TypeError, KeyError, binascii.Error) as error:
        raise AskonceError("this is no file that `askonce export` wrote") from error
    if not ours:
        raise AskonceError(f"this file is of version {told.get('version')}, not {VERSION}")
    return secret is not None and await storage.shelf.create(TENANTS, secret) != secret


def _line(entry: Entry) -> str:
    """*entry* as a line: a few words for whoever looks into the file, and all of it."""
    packed = base64.b64encode(CODEC.pack(entry)).decode()
    said = {"key": entry.key, "model": entry.model, "created": entry.created, "packed": packed}
    return json.dumps(said, separators=(",", ":"))


def _entry(line: str) -> Entry:
    try:
        told = json.loads(line)
        return CODEC.unpack(base64.b64decode(told["packed"], validate=True), Key(told["key"]))
    except (ValueError, TypeError, KeyError, binascii.Error) as error:
        raise Unreadable("a line is no entry") from error
