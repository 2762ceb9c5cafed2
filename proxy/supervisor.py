"""Several processes that serve one port: each is replaced when it ends, and all end together."""

import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from proxy.errors import AskonceError
from proxy.providers.hearsay import Line, lines

log = logging.getLogger(__name__)

STOPPING = (signal.SIGTERM, signal.SIGINT)

HEARD = (*STOPPING, signal.SIGCHLD)

LOOK_EVERY_S = 0.1

SHORT_LIFE_S = 2.0
"""A worker that ends sooner is not replaced at once, or one that cannot start would be started for ever."""

MAX_WAIT_S = 5.0
"""How long its successor waits at most."""

GRACE_S = 10.0
"""Beyond the time for draining: then what still runs is killed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """What a worker is given by its supervisor."""

    port: int
    supervisor: int
    """A descriptor that can be read when the supervisor has ended, however it did."""
    tell: int
    line: Line
    """To the other workers."""

    def ready(self, line: str) -> None:
        """The worker takes connections; *line* is what the user is told when all do."""
        os.write(self.tell, line.encode() + b"\n")


@dataclass(slots=True)
class _Worker:
    pid: int
    started: float
    place: int


class Supervisor:
    """Keeps *workers* processes running, each of which does *work* until it is told to stop by SIGTERM."""

    def __init__(self, work: Callable[[Post], None], *, workers: int, host: str, port: int, drain_s: float) -> None:
        self._work = work
        self._count = workers
        self._host, self._port = host, port
        self._drain_s = drain_s
        self._workers: dict[int, _Worker] = {}
        self._wait_s = 0.0
        self._next_start = 0.0
        self._told = b""
        self._announced = False
        self._alive = self._ready = -1
        self._posts: list[Post] = []

    def __repr__(self) -> str:
        return f"<Supervisor, {len(self._workers)} of {self._count} workers>"

    def run(self) -> None:
        """Start the workers, replace those that end, and return when all have ended after SIGTERM or SIGINT.

        Raises:
            AskonceError: the address cannot be listened on, or the workers cannot start.
        """
        with _reserved(self._host, self._port) as reserved, lines(self._count) as between:
            # Nobody writes to the one: it ends when the supervisor does. Workers write to the other.
            ended, self._alive = os.pipe()
            self._ready, tell = os.pipe()
            os.set_blocking(self._ready, False)
            port = reserved.getsockname()[1]
            self._posts = [Post(port=port, supervisor=ended, tell=tell, line=line) for line in between]
            signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
            while True:
                self._start_missing()
                heard = signal.sigtimedwait(HEARD, LOOK_EVERY_S)
                self._bury()
                self._listen()
                if heard is not None and heard.si_signo in STOPPING:
                    return self._stop()

    def _start_missing(self) -> None:
        while len(self._workers) < self._count and time.monotonic() >= self._next_start:
            place = min({*range(self._count)} - {worker.place for worker in self._workers.values()})
            pid = os.fork()
            if pid == 0:
                self._be_worker(place)
            self._workers[pid] = _Worker(pid, time.monotonic(), place)

    def _be_worker(self, place: int) -> None:
        """Never returns."""
        status = 1
        try:
            os.close(self._alive)
            os.close(self._ready)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, HEARD)
            self._work(self._posts[place])
            status = 0
        except AskonceError as error:
            sys.stderr.write(f"askonce: {error}\n")
        except BaseException:
            log.exception("a worker failed")
        finally:
            with suppress(OSError, ValueError):
                sys.stderr.flush()
            # Not by SystemExit: what the supervisor has open or registered is its own to close.
            os._exit(status)

    def _bury(self) -> None:
        """See which workers have ended."""
        for worker in list(self._workers.values()):
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if pid == 0:
                continue
            del self._workers[worker.pid]
            lived_s = time.monotonic() - worker.started
            how = os.waitstatus_to_exitcode(status)
            ended = f"by signal {-how}" if how < 0 else f"with status {how}"
            if not self._announced and lived_s < SHORT_LIFE_S and how > 0:
                self._stop()
                raise AskonceError(f"a worker could not start: it ended {ended}")
            log.warning("worker %d ended %s; another takes its place", worker.pid, ended)
            self._wait_s = min(2 * self._wait_s + 0.1, MAX_WAIT_S) if lived_s < SHORT_LIFE_S else 0.0
            self._next_start = time.monotonic() + self._wait_s

    def _listen(self) -> None:
        """Tell the user, once all workers take connections."""
        with suppress(BlockingIOError):
            self._told = (self._told + os.read(self._ready, 65536))[-65536:]
        lines = self._told.splitlines()
        if not self._announced and len(lines) >= self._count:
            self._announced = True
            sys.stderr.write(f"{lines[0].decode()} ({self._count} workers)\n")
            sys.stderr.flush()
        if self._announced:
            self._told = b""

    def _stop(self) -> None:
        """Let all workers finish what they are at, and wait for it; but not for ever."""
        for pid in self._workers:
            os.kill(pid, signal.SIGTERM)
        until = time.monotonic() + self._drain_s + GRACE_S
        while self._workers:
            for pid in list(self._workers):
                if os.waitpid(pid, os.WNOHANG)[0]:
                    del self._workers[pid]
                elif time.monotonic() > until:
                    log.warning("worker %d does not end; it is killed", pid)
                    os.kill(pid, signal.SIGKILL)
            if self._workers:
                heard = signal.sigtimedwait(HEARD, LOOK_EVERY_S)
                if heard is not None and heard.si_signo in STOPPING:
                    # Whoever asks twice does not want to wait.
                    until = 0.0


def _reserved(host: str, port: int) -> socket.socket:
    """A socket that holds the port for the workers; it takes no connections itself.

    Raises:
        AskonceError: the address cannot be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        reserved = socket.socket(family, kind, protocol)
    except OSError as error:
        raise AskonceError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    try:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            reserved.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        reserved.bind(address)
    except OSError as error:
        reserved.close()
        raise AskonceError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    return reserved
