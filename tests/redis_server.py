"""A real redis-server of the tests' own, on a free port of this machine."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import TracebackType

import pytest

ROOT = Path(__file__).resolve().parent.parent
REDIS_8_SCRIPT = ROOT.parent / "shared" / "tools" / "redis8.sh"
"""Unpacks a Redis 8 without touching the system; where it cannot be had its tests are skipped."""
UNPACKED = ROOT / ".cache" / "redis8"


def redis_7() -> str:
    """The redis-server of this machine; skips where there is none."""
    found = shutil.which("redis-server")
    if found is None:
        pytest.skip("no redis-server here: apt-get install redis-server")
    return found


@cache
def _redis_8() -> str | None:
    if not (UNPACKED / "redis-server").exists():
        if not REDIS_8_SCRIPT.exists():
            return None
        done = subprocess.run(["bash", str(REDIS_8_SCRIPT), str(UNPACKED)], capture_output=True, timeout=120)
        if done.returncode:
            shutil.rmtree(UNPACKED, ignore_errors=True)
            return None
    return str(UNPACKED / "redis-server")


def redis_8() -> str:
    """A Redis 8 with vector sets; skips where it cannot be had."""
    found = _redis_8()
    if found is None:
        pytest.skip("no Redis 8 here: ../shared/tools/redis8.sh could not unpack one")
    return found


class RedisServer:
    """A running redis-server, ours to stop, pause and start again; it keeps nothing on disk."""

    def __init__(self, binary: str, *, config: Path | None = None, options: Sequence[str] = ()) -> None:
        self._binary = binary
        self._config = config
        self._options = list(options)
        self._directory = tempfile.mkdtemp(prefix="askonce-redis-")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def __repr__(self) -> str:
        return f"<RedisServer at {self.url}>"

    def __enter__(self) -> "RedisServer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Run it, and wait until it answers."""
        command = [self._binary, *([str(self._config)] if self._config is not None else [])]
        command += ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", self._directory, "--loglevel", "warning"]
        if self._config is None:
            command += ["--save", "", "--appendonly", "no"]
        command += self._options
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        until = time.monotonic() + 10
        while True:
            with contextlib.suppress(OSError):
                if b"PONG" in self.says("PING"):
                    return
            assert self._process.poll() is None, f"redis-server ended with {self._process.returncode}"
            assert time.monotonic() < until, "redis-server does not answer"
            time.sleep(0.02)

    def says(self, *words: str) -> bytes:
        """What it answers to a command, as it stands on the wire (the beginning of it)."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            octets = b"*%d\r\n" % len(words)
            for word in words:
                octets += b"$%d\r\n%b\r\n" % (len(word.encode()), word.encode())
            connection.sendall(octets)
            return connection.recv(1 << 20)

    def stop(self) -> None:
        """End it at once: what it held is gone."""
        if self._process is not None:
            self.resume()
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def pause(self) -> None:
        """Let it take connections and answer nothing."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGCONT)
