"""The commands for what is kept: ``askonce export``, ``import`` and ``purge``."""

import argparse
import asyncio
import json
import os
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode

from proxy import config
from proxy.errors import AskonceError, CacheError, ConfigError
from proxy.moving import bring_in, take_out
from proxy.pages.doors import TOKEN_FIELD
from proxy.purging import SHORTEST_KEY, Wanted, purge
from proxy.storage import Storage, storage

COMMANDS = ("export", "import", "purge")

AT_TIMEOUT_S = 300

SHOW_EVERY_S = 0.2

BAR = 30


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add what this file knows to the command line."""
    told = "write everything that a store keeps to a file, for another store; it is readable to whoever has the file"
    out = commands.add_parser("export", help="write everything that a store keeps to a file", description=told)
    told = "put everything that `askonce export` wrote into a store"
    into = commands.add_parser("import", help=told, description=told)
    told = "remove entries: those that fit everything that is said, without any all there are"
    away = commands.add_parser("purge", help="remove entries", description=told)
    for command in (out, into):
        command.add_argument("file", metavar="FILE|-", help="JSON lines; - for standard input or output")
    away.add_argument("--at", metavar="URL", help="a running proxy, the only way to a memory store; needs admin.token")
    away.add_argument("--key", help="the key, or its beginning as x-cache-key shows it")
    away.add_argument("--model", help="as answers name it; * and ? may stand in it")
    away.add_argument("--tag", help="as requests said x-askonce-tag")
    away.add_argument("--namespace", help="as requests said x-askonce-namespace")
    away.add_argument("--older-than", metavar="SECONDS", type=float, help="answered longer ago than this")
    away.add_argument("--dry-run", action="store_true", help="only count them")
    for command in (out, into, away):
        command.add_argument("--config", type=Path, metavar="FILE", help="settings in YAML, for store")
        command.add_argument("--set", action="append", default=[], metavar="a.b=value", help="one setting; repeatable")


PATIENT_MS = 10_000.0
"""No request waits for these commands, and an entry that the store was too slow to take would be lost."""


def run(given: argparse.Namespace) -> int:
    """Run one of them; the exit status."""
    try:
        settings = config.load(file=given.config, sets=given.set)
        if given.command == "purge" and given.at is not None:
            return _purge_at(given, settings.admin.token)
        if settings.store.kind == "memory":
            way = "name a running proxy with --at URL" if given.command == "purge" else "there is nothing to move"
            raise ConfigError(f"store.kind: a memory store is within the proxy itself; {way}")
        work = {"export": _export, "import": _import, "purge": _purge}[given.command]
        patient = replace(settings.store, deadline_ms=max(settings.store.deadline_ms, PATIENT_MS))
        asyncio.run(_with(storage(patient), work, given))
    except ConfigError as error:
        print(f"askonce: {error}", file=sys.stderr)
        return 2
    except (AskonceError, OSError) as error:
        print(f"askonce: {error}", file=sys.stderr)
        return 1
    return 0


async def _with(
    kept: Storage, work: Callable[[Storage, argparse.Namespace], Awaitable[None]], given: argparse.Namespace
) -> None:
    try:
        await work(kept, given)
    finally:
        await kept.store.close()


async def _export(kept: Storage, given: argparse.Namespace) -> None:
    progress = Progress("entries written")
    to_stdout = given.file == "-"
    with nullcontext(sys.stdout) if to_stdout else open(given.file, "w", encoding="ascii", opener=_private) as file:
        count = await take_out(kept, file, progress.told)
    progress.end()
    print(f"{count} entries written", file=sys.stderr)


async def _import(kept: Storage, given: argparse.Namespace) -> None:
    from_stdin = given.file == "-"
    with nullcontext(sys.stdin) if from_stdin else open(given.file, encoding="ascii", errors="replace") as file:
        size = 0 if from_stdin else os.fstat(file.fileno()).st_size
        progress = Progress("lines read", whole=size, at=None if from_stdin else lambda: file.buffer.tell())
        moved = await bring_in(kept, file, progress.told)
    progress.end()
    others = {"expired": moved.expired, "without room": moved.refused, "unreadable": moved.unreadable}
    told = ", ".join(f"{count} {word}" for word, count in others.items() if count)
    print(f"{moved.kept} entries kept{f'; {told}' if told else ''}", file=sys.stderr)
    if moved.other_tenants:
        print(
            "this store tells its clients apart by another secret: nobody will find what was kept for them; set"
            " cache.secret the same for both before anything is kept, or cache.share to everyone",
            file=sys.stderr,
        )


async def _purge(kept: Storage, given: argparse.Namespace) -> None:
    if given.key is not None and len(given.key) < SHORTEST_KEY:
        raise ConfigError(f"--key: give {SHORTEST_KEY} digits at least")
    wanted = Wanted(
        key=given.key.lower() if given.key is not None else None,
        model=given.model,
        tag=given.tag,
        namespace=given.namespace,
        older_than_s=given.older_than,
    )
    count = await purge(kept.store, wanted, now=time.time, dry_run=given.dry_run)
    print(f"{count} entries {'would be ' if given.dry_run else ''}removed")


def _purge_at(given: argparse.Namespace, token: str) -> int:
    asked = {
        "key": given.key,
        "model": given.model,
        "tag": given.tag,
        "namespace": given.namespace,
        "older_than": int(given.older_than) if given.older_than is not None else None,
        "dry_run": 1 if given.dry_run else None,
    }
    query = urlencode({name: value for name, value in asked.items() if value is not None})
    origin = given.at if "://" in given.at else f"http://{given.at}"
    page = f"{origin.rstrip('/')}/_askonce/cache{f'?{query}' if query else ''}"
    if not page.startswith(("http://", "https://")):
        raise ConfigError(f"--at: {given.at}: expected a URL like http://127.0.0.1:8080")
    fields = {TOKEN_FIELD.decode(): token} if token else {}
    request = urllib.request.Request(page, method="DELETE", headers=fields)  # noqa: S310
    # The proxy is asked straight: HTTP_PROXY and its like are for the world outside.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=AT_TIMEOUT_S) as answer:
            shown: Any = json.loads(answer.read(65536))
        print(f"{shown['removed']} entries {'would be ' if given.dry_run else ''}removed")
    except HTTPError as error:
        with error:
            raise CacheError(f"{page}: {_reason(error.read(65536)) or error.reason}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CacheError(f"{page}: what answers there is no askonce of this version") from error
    return 0


def _reason(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return ""


def _private(path: str, flags: int) -> int:
    """Answers are nobody's business but the owner's."""
    return os.open(path, flags, 0o600)


class Progress:
    """A line on the terminal that tells how far something is; nothing where there is no terminal."""

    def __init__(self, what: str, *, whole: int = 0, at: Callable[[], int] | None = None) -> None:
        self._what = what
        self._whole = whole
        self._at = at
        self._shown = 0.0
        self._began = time.monotonic()
        self._tty = sys.stderr.isatty()

    def told(self, done: int) -> None:
        """So many are done."""
        if not self._tty:
            return
        now = time.monotonic()
        if now - self._shown >= SHOW_EVERY_S:
            self._shown = now
            sys.stderr.write(f"\r{self.line(done, now - self._began)}\x1b[K")
            sys.stderr.flush()

    def line(self, done: int, seconds: float) -> str:
        """What is shown after *seconds*."""
        rate = f"{done:,} {self._what}, {done / seconds:,.0f} a second" if seconds > 0 else f"{done:,} {self._what}"
        if self._at is None or not self._whole:
            return rate
        share = min(1.0, self._at() / self._whole)
        return f"[{'#' * round(BAR * share):<{BAR}}] {share:4.0%}  {rate}"

    def end(self) -> None:
        """It is over: clear the line."""
        if self._tty and self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
