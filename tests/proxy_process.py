"""The proxy as its users meet it: a process with a command line, a port and a log."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from tests.raw_client import Address

ROOT = Path(__file__).resolve().parent.parent
READY = re.compile(rb"listening on http://([0-9.]+):([0-9]+)")
# More of these for every proxy a test starts, say ASKONCE_CONTRACT_SET="semantic.policy=off store.kind=redis".
EXTRA_SETTINGS = "ASKONCE_CONTRACT_SET"
NOT_INHERITED = re.compile(r"(?i)(https?|all|no)_proxy|ASKONCE_.*|OPENAI_.*")


class ProxyProcess:
    """A running `askonce serve`, ours to stop; what it prints lies in a file."""

    def __init__(
        self,
        upstream: str,
        log: Path,
        *,
        settings: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        start_within_s: float = 15.0,
    ) -> None:
        self.log = log
        self.address: Address = ("127.0.0.1", 0)
        self._ready = threading.Event()
        command = [sys.executable, "-m", "proxy", "serve", "--upstream", upstream, "--host", "127.0.0.1", "--port", "0"]
        chosen = [f"{name}={value}" for name, value in (settings or {}).items()]
        for setting in os.environ.get(EXTRA_SETTINGS, "").split() + chosen:
            command += ["--set", setting]
        kept = {name: value for name, value in os.environ.items() if not NOT_INHERITED.fullmatch(name)}
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**kept, "HOME": str(log.parent), "PYTHONUNBUFFERED": "1", **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._reader = threading.Thread(target=self._keep_log, name="proxy-log", daemon=True)
        self._reader.start()
        if not self._ready.wait(start_within_s) or self.address[1] == 0:
            self.stop()
            raise RuntimeError(f"the proxy did not start within {start_within_s} s; it said:\n{self.said()}")

    def __repr__(self) -> str:
        return f"<ProxyProcess {self._process.pid} at {self.address}, exit {self._process.poll()}>"

    def __enter__(self) -> "ProxyProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if kind is None:
            self.assert_calm()

    def said(self) -> str:
        """Everything it printed so far."""
        return self.log.read_text(errors="replace")

    def assert_calm(self) -> None:
        """No exception reached the log."""
        assert "Traceback" not in self.said(), f"the proxy stumbled:\n{self.said()[-6000:]}"

    def terminate(self) -> None:
        """Ask it to stop; returns at once."""
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Stop it without a word, as a power cut would."""
        self._process.kill()
        self._process.wait(10)
        self._reader.join(10)

    @property
    def pid(self) -> int:
        """The process that was started: the only one, or the supervisor of several."""
        return self._process.pid

    def kill_alone(self) -> None:
        """As :meth:`kill`, but do not wait for what it has started."""
        self._process.kill()
        self._process.wait(10)

    def wait(self, timeout_s: float) -> int:
        """Its exit code, once it has ended by itself."""
        code = self._process.wait(timeout_s)
        self._reader.join(10)
        return code

    def stop(self) -> int:
        """Its exit code after SIGTERM, or after SIGKILL where that was not enough."""
        if self._process.poll() is None:
            self.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        self._reader.join(10)
        return self._process.returncode

    def accepts(self) -> bool:
        """Whether it still takes new connections."""
        try:
            socket.create_connection(self.address, timeout=2).close()
        except ConnectionRefusedError:
            return False
        return True

    def resident_bytes(self) -> int:
        """The memory it holds now."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None, status
        return int(found[1]) * 1024

    def open_descriptors(self) -> int:
        """How many files and sockets it holds now."""
        return len(os.listdir(f"/proc/{self._process.pid}/fd"))

    def _keep_log(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines, self.log.open("wb") as file:
            for line in lines:
                file.write(line)
                file.flush()
                if not self._ready.is_set() and (found := READY.search(line)):
                    self.address = (found[1].decode(), int(found[2]))
                    self._ready.set()
        # It ended before it was ready: wake the one who waits, at port 0.
        self._ready.set()
