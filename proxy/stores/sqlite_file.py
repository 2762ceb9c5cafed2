"""The file of the sqlite store: its schema, its connections, and what is done with a file that is damaged. Synchronous.

Every process that has the file open holds a shared lock on ``FILE.lock``. A damaged file is renamed only under an
exclusive one, for whoever still had it open would go on to delete the journal of its successor.
"""

import fcntl
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from proxy.errors import CacheError

log = logging.getLogger(__name__)

SCHEMA = (
    # 1
    """
    -- AUTOINCREMENT: whoever has seen a number has seen what came before it.
    CREATE TABLE entry (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        key BLOB NOT NULL UNIQUE,
        gone REAL NOT NULL,
        size INTEGER NOT NULL,
        rate REAL NOT NULL,
        uses INTEGER NOT NULL,
        priority REAL NOT NULL,
        asked INTEGER NOT NULL,
        tenant TEXT NOT NULL,
        model TEXT NOT NULL,
        tag TEXT NOT NULL DEFAULT ''
    );
    CREATE INDEX entry_gone ON entry (gone);
    CREATE INDEX entry_priority ON entry (priority);
    CREATE INDEX entry_tag ON entry (tag) WHERE tag <> '';
    -- Apart from the rest, so that counting a use does not write the answer again.
    CREATE TABLE content (id INTEGER PRIMARY KEY, octets BLOB NOT NULL);
    CREATE TABLE total (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        entries INTEGER NOT NULL DEFAULT 0,
        bytes INTEGER NOT NULL DEFAULT 0,
        clock REAL NOT NULL DEFAULT 0,
        evicted INTEGER NOT NULL DEFAULT 0,
        expired INTEGER NOT NULL DEFAULT 0
    );
    INSERT INTO total (one) VALUES (1);
    CREATE TRIGGER entry_came AFTER INSERT ON entry BEGIN
        UPDATE total SET entries = entries + 1, bytes = bytes + new.size;
    END;
    CREATE TRIGGER entry_went AFTER DELETE ON entry BEGIN
        UPDATE total SET entries = entries - 1, bytes = bytes - old.size;
        DELETE FROM content WHERE id = old.id;
    END;
    -- What was withdrawn, for the other processes; no key: everything.
    CREATE TABLE withdrawal (id INTEGER PRIMARY KEY AUTOINCREMENT, key BLOB);
    CREATE TABLE shelf (name TEXT PRIMARY KEY, octets BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE tally_page (page TEXT PRIMARY KEY, lapses REAL NOT NULL) WITHOUT ROWID;
    CREATE TABLE tally (page TEXT, name TEXT, count INTEGER NOT NULL, PRIMARY KEY (page, name)) WITHOUT ROWID;
    """,
    # 2
    "CREATE TABLE lease (name TEXT PRIMARY KEY, token BLOB NOT NULL, lapses REAL NOT NULL) WITHOUT ROWID;",
)
"""What leads from each version of the file to the next; ``PRAGMA user_version`` says where a file stands."""

DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})

CHECKED_BYTES = 16 * 1024 * 1024
"""A file up to this size is checked whole when it is opened; a larger one shows its damage when it is read."""

JOURNAL_BYTES = 16 * 1024 * 1024

CACHE_KIB = 8192

BUSY_S = 1.0
"""How long one process waits for another's write."""

APPLICATION = 0x61736B31
"""Ours among the files of sqlite."""

DAMAGED_NOW = ".damaged-now"
"""What stands beside a file that was found damaged until it is renamed."""


class _Held:
    """A thread's connection, of a time between taking hold of the file and letting go of it."""

    __slots__ = ("busy", "connection", "round")

    def __init__(self, connection: sqlite3.Connection, round: int) -> None:
        self.connection = connection
        self.round = round
        self.busy = threading.Lock()


class SqliteFile:
    """The file, its lock, and a connection for each thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.set_aside = 0
        """How often a damaged file was found and renamed."""
        self._lock: int | None = None
        self._round = 0
        self._opening = threading.Lock()
        self._local = threading.local()
        self._all: list[_Held] = []

    def __repr__(self) -> str:
        return f"<SqliteFile {self.path}>"

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """This thread's connection; what sqlite says is told as a ``CacheError``."""
        with self._told():
            held = self._held()
            with held.busy:
                yield held.connection

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """This thread's connection within a transaction: all of it or nothing."""
        with self.reading() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise

    def look_after(self) -> None:
        """Let go of the file where another process found it damaged; called now and then."""
        if self._lock is not None and self._beside(DAMAGED_NOW).exists():
            self.close()

    def close(self) -> None:
        """Let go of the file, when every thread is through with its statement; the next use takes hold of it again."""
        with self._opening:
            for held in self._all:
                with held.busy, suppress(sqlite3.Error):
                    held.connection.close()
            self._all.clear()
            self._round += 1
            if self._lock is not None:
                os.close(self._lock)
                self._lock = None

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF in DAMAGED:
                with suppress(OSError):
                    self._beside(DAMAGED_NOW).touch()
                self.close()
                raise CacheError(f"{self.path} is damaged: {error}") from error
            raise CacheError(f"{self.path}: {error}") from error
        except OSError as error:
            raise CacheError(f"{self.path}: {error.strerror or error}") from error

    def _held(self) -> "_Held":
        with self._opening:
            if self._lock is None:
                self._take_hold()
            held: _Held | None = getattr(self._local, "held", None)
            if held is None or held.round != self._round:
                held = self._local.held = _Held(self._connect(), self._round)
                self._all.append(held)
            return held

    def _take_hold(self) -> None:
        """Lock the file for sharing and bring it to today's schema; a damaged one is renamed first."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._beside(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            alone = _locked(lock, fcntl.LOCK_EX)
            if self._beside(DAMAGED_NOW).exists():
                if not alone:
                    raise CacheError(f"{self.path} was found damaged; waiting for all processes to let go of it")
                self._rename()
            if not alone:
                _wait_for(lock, self.path)
            if not self.path.exists():
                # Answers are nobody's business but the owner's.
                os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))
            connection = self._connect()
            try:
                self._migrate(connection)
            finally:
                connection.close()
            if alone:
                _wait_for(lock, self.path)
        except BaseException:
            os.close(lock)
            raise
        self._lock = lock
        self._round += 1

    def _rename(self) -> None:
        aside = self._beside(".damaged")
        for ending in ("", "-wal"):
            with suppress(FileNotFoundError):
                os.replace(f"{self.path}{ending}", f"{aside}{ending}")
        with suppress(FileNotFoundError):
            os.unlink(f"{self.path}-shm")
        self._beside(DAMAGED_NOW).unlink(missing_ok=True)
        self.set_aside += 1
        log.error("%s was damaged: it lies at %s now, and an empty one is in its place", self.path, aside)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            # A process that ends loses nothing by this; a power cut may take the last seconds.
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(f"PRAGMA journal_size_limit = {JOURNAL_BYTES}")
            connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
            connection.execute("PRAGMA temp_store = MEMORY")
        except BaseException:
            connection.close()
            raise
        return connection

    def _migrate(self, connection: sqlite3.Connection) -> None:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > len(SCHEMA):
            raise CacheError(f"{self.path} was made by a later askonce (schema {version}); give it another store.path")
        if self.path.stat().st_size <= CHECKED_BYTES and connection.execute("PRAGMA quick_check(1)").fetchone() != (
            "ok",
        ):
            raise _damaged("the check found it inconsistent")
        if version == len(SCHEMA):
            return
        if version == 0 and connection.execute("SELECT 1 FROM sqlite_schema").fetchone() is not None:
            raise CacheError(f"{self.path} is a database of another program; give it another store.path")
        if version == 0:
            # Both must be said before there is a table.
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        # Whoever comes second finds the work done.
        connection.execute("BEGIN IMMEDIATE")
        try:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            for number, script in enumerate(SCHEMA[version:], version + 1):
                for statement in _statements(script):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {number}")
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")

    def _beside(self, ending: str) -> Path:
        return self.path.with_name(self.path.name + ending)


def _locked(lock: int, how: int) -> bool:
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _wait_for(lock: int, path: Path) -> None:
    """Hold *lock* together with others, when whoever makes the file now has made it."""
    until = time.monotonic() + BUSY_S
    while not _locked(lock, fcntl.LOCK_SH):
        if time.monotonic() > until:
            raise CacheError(f"{path} is held by another process alone")
        time.sleep(0.01)


def _damaged(message: str) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(message)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def _statements(script: str) -> Iterator[str]:
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
