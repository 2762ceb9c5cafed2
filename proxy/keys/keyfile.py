"""The file of the clients: read whole, written whole or not at all, by one writer at a time."""

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from proxy.errors import ClientsError
from proxy.keys import clients
from proxy.keys.clients import Roster

MAX_BYTES = 16 * 1024 * 1024

Stamp = tuple[int, int, int]
"""What differs between a file and the one that took its place."""


class KeyFile:
    """One file, which need not be there yet."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __repr__(self) -> str:
        return f"<KeyFile {self._path}>"

    def stamp(self) -> Stamp | None:
        """Changes when the file does; None where there is none."""
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def read(self) -> Roster:
        """Who stands in it; nobody where there is no file.

        Raises:
            ClientsError: it cannot be read, or is not what it should be.
        """
        try:
            if self._path.stat().st_size > MAX_BYTES:
                raise ClientsError(f"{self._path}: too long for a file of clients")
            text = self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return Roster()
        except (OSError, UnicodeDecodeError) as error:
            raise ClientsError(f"{self._path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
        try:
            return clients.read(text)
        except ClientsError as error:
            raise ClientsError(f"{self._path}: {error}") from error

    def change(self, change: Callable[[Roster], Roster]) -> None:
        """Put what *change* makes of those who stand in it in their place.

        Raises:
            ClientsError: *change* does, or the file cannot be read or written.
        """
        try:
            with self._locked():
                self._write(clients.write(change(self.read())))
        except OSError as error:
            raise ClientsError(f"{self._path}: cannot be written: {error.strerror or error}") from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        # Not the file itself: it is another one after each change.
        beside = self._path.with_name(f".{self._path.name}.lock")
        with beside.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _write(self, text: str) -> None:
        handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            try:
                # Whoever could read it, say the proxy under an account of its own, still can.
                os.chmod(name, self._path.stat().st_mode & 0o777)
            except FileNotFoundError:
                os.chmod(name, 0o600)
            os.replace(name, self._path)
        except BaseException:
            os.unlink(name)
            raise
