"""The servers under test as processes, and what they take: CPU time and memory, from the kernel's own books."""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

START_LIMIT_S = 20.0
STOP_LIMIT_S = 10.0

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running server."""

    pid: int
    ports: tuple[int, ...]

    def cpu_s(self) -> float:
        """User and system time of the process and everything below it, the waited-for dead included."""
        return sum(_cpu_s(pid) for pid in _tree(self.pid))

    def rss_bytes(self) -> int:
        """Resident memory of the process and everything below it."""
        page = os.sysconf("SC_PAGE_SIZE")
        return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page for pid in _tree(self.pid))


def _tree(root: int) -> list[int]:
    found = [root]
    for pid in found:
        with suppress(FileNotFoundError, ProcessLookupError):
            for thread in Path(f"/proc/{pid}/task").iterdir():
                found += [int(child) for child in (thread / "children").read_text().split()]
    return found


def _cpu_s(pid: int) -> float:
    # The kernel shows the sum of utime and stime in ticks of 10 ms; the process's CPU clock shows the same sum in
    # nanoseconds (see clock_getcpuclockid(3)). Of children that are gone there are only ticks.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    gone = (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")
    return time.clock_gettime_ns((~pid << 3) | 2) / 1e9 + gone


@contextmanager
def origin() -> Iterator[Server]:
    """The scripted provider."""
    with _process([sys.executable, "-m", "bench.origin"]) as process:
        yield Server(pid=process.popen.pid, ports=(process.port(re.compile(rb"^([0-9]+)\n")),))


@contextmanager
def proxy(upstream: int, *settings: str) -> Iterator[Server]:
    """The proxy, as anybody starts it."""
    command = [sys.executable, "-m", "proxy", "serve", "--upstream", f"http://127.0.0.1:{upstream}"]
    command += ["--host", "127.0.0.1", "--port", "0"]
    for setting in settings:
        command += ["--set", setting]
    with _process(command) as process:
        port = process.port(re.compile(rb"listening on http://127\.0\.0\.1:([0-9]+)"))
        yield Server(pid=process.popen.pid, ports=(port,))


@contextmanager
def nginx(upstream: int) -> Iterator[Server]:
    """nginx with one worker; its ports: a cache keyed on the body, a plain proxy, a proxy that does not buffer."""
    memory = Path("/dev/shm")
    parent = memory if memory.is_dir() and os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=parent, prefix="bench-nginx-") as folder:
        ports = _free_ports(3)
        conf = Path(folder, "nginx.conf")
        conf.write_text(_nginx_conf(folder, upstream, ports))
        with _process(["nginx", "-p", folder, "-c", str(conf), "-e", "stderr"]) as process:
            process.until(lambda: 1 if all(_open(port) for port in ports) else None)
            yield Server(pid=process.popen.pid, ports=ports)


def nginx_version() -> str | None:
    """The version of the nginx on this machine, or None."""
    if shutil.which("nginx") is None:
        return None
    told = subprocess.run(["nginx", "-v"], capture_output=True, text=True, timeout=START_LIMIT_S)
    return told.stderr.strip().rpartition("/")[2]


def _nginx_conf(folder: str, upstream: int, ports: Sequence[int]) -> str:
    cached, plain, unbuffered = ports
    # Started by root its worker would become nobody, who may not read the folder.
    user = "user root root;" if os.geteuid() == 0 else ""
    return f"""
{user}
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    error_log stderr error;
    keepalive_requests 100000000;
    keepalive_timeout 3600s;
    client_body_buffer_size 1m;
    client_max_body_size 8m;
    client_body_in_single_buffer on;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_cache_path {folder}/cache levels=1:2 keys_zone=answers:64m max_size=512m inactive=1h use_temp_path=off;
    upstream provider {{
        server 127.0.0.1:{upstream};
        keepalive 64;
        keepalive_requests 100000000;
        keepalive_timeout 3600s;
    }}
    server {{
        listen 127.0.0.1:{cached} backlog=512;
        location / {{
            proxy_cache answers;
            proxy_cache_methods GET HEAD POST;
            proxy_cache_key "$request_method$request_uri$request_body";
            proxy_cache_valid 200 1h;
            proxy_ignore_headers Cache-Control Expires Set-Cookie Vary X-Accel-Expires;
            add_header X-Cache $upstream_cache_status;
            proxy_pass http://provider;
        }}
    }}
    server {{
        listen 127.0.0.1:{plain} backlog=512;
        location / {{ proxy_pass http://provider; }}
    }}
    server {{
        listen 127.0.0.1:{unbuffered} backlog=512;
        location / {{ proxy_buffering off; proxy_pass http://provider; }}
    }}
}}
"""


class _Process:
    """A process of ours, and what it has written so far on standard output and standard error."""

    def __init__(self, command: Sequence[str], told: IO[bytes]) -> None:
        self._name = Path(command[0]).name + " " + " ".join(command[1:3])
        self._told = told
        # The standard input is a pipe that ends when we do.
        self.popen = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=told, stderr=told)

    def __repr__(self) -> str:
        return f"<{self._name}>"

    def told(self) -> bytes:
        """Everything it has written, up to a bound."""
        return os.pread(self._told.fileno(), 65536, 0)

    def until(self, ready: Callable[[], int | None]) -> int:
        """What *ready* finds, as soon as it finds something.

        Raises:
            RuntimeError: the process ended, or was not ready in time.
        """
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline and self.popen.poll() is None:
            if (found := ready()) is not None:
                return found
            time.sleep(0.02)
        raise RuntimeError(f"{self._name} did not start: {self.told().decode(errors='replace')}")

    def port(self, line: re.Pattern[bytes]) -> int:
        """The port that it names in a *line* of its output."""

        def named() -> int | None:
            found = line.search(self.told())
            return int(found.group(1)) if found else None

        return self.until(named)

    def stop(self) -> None:
        """End it, gently first."""
        self.popen.terminate()
        try:
            self.popen.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
        if self.popen.stdin is not None:
            self.popen.stdin.close()


@contextmanager
def _process(command: Sequence[str]) -> Iterator[_Process]:
    with tempfile.TemporaryFile() as told:
        process = _Process(command, told)
        try:
            yield process
        except RuntimeError as error:
            # What a server says of itself is lost with it.
            if said := process.told().decode(errors="replace").strip():
                error.add_note(f"{process} said: {said[-2000:]}")
            raise
        finally:
            process.stop()


def _free_ports(count: int) -> tuple[int, ...]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = tuple(each.getsockname()[1] for each in sockets)
    for each in sockets:
        each.close()
    return ports


def _open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
