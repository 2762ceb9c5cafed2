"""The programs of the demonstration as processes: the engine, the provider of last resort, the proxy."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).resolve().parent.parent
READY = re.compile(rb"listening on (http://127\.0\.0\.1:[0-9]+)")
ENGINE_PARTS = ("xllamacpp", "gguf")
LOOK_AGAIN_S = 0.02

ATTEMPTS = 2
"""To start the engine: on a busy machine it has been seen to say where it listens and not to listen there."""

# A proxy of the machine's, or settings of ours that lie in its environment, are not part of the demonstration.
NOT_INHERITED = re.compile(r"(?i)(https?|all|no)_proxy|ASKONCE_.*|OPENAI_.*")

_straight = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class NotStartedError(RuntimeError):
    """A child ended, or said nothing, before it was ready."""


class Child:
    """A program of ours as a process: ready when it says where it listens, ended by id, never left behind."""

    def __init__(
        self,
        name: str,
        module: Sequence[str],
        log: Path,
        *,
        environment: Mapping[str, str] | None = None,
        ready_within_s: float = 30.0,
    ) -> None:
        self.name = name
        self.log = log
        kept = {name: value for name, value in os.environ.items() if not NOT_INHERITED.fullmatch(name)}
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "demo.leash", str(os.getpid()), *module],
                cwd=ROOT,
                env={**kept, "PYTHONUNBUFFERED": "1", **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            self.url = self._ready(ready_within_s)
        except BaseException:
            self.stop()
            raise

    def __repr__(self) -> str:
        return f"<Child {self.name} {self._process.pid}, exit {self._process.poll()}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def said(self) -> bytes:
        """Everything it has written so far."""
        return self.log.read_bytes()

    def stop(self, within_s: float = 10.0) -> int:
        """Its exit code, after SIGTERM, or SIGKILL where that was not enough."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait(within_s)

    def _ready(self, within_s: float) -> str:
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            if found := READY.search(self.said()):
                return found[1].decode()
            if not self.alive():
                raise NotStartedError(f"{self.name} ended at once: {self._last_words()}")
            time.sleep(LOOK_AGAIN_S)
        raise NotStartedError(f"{self.name} was not ready within {within_s:.0f} s: {self._last_words()}")

    def _last_words(self) -> str:
        lines = self.said().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


class Engine(Child):
    """llama.cpp on random weights, and what its own counters say."""

    def __init__(self, log: Path, *, ready_within_s: float = 30.0) -> None:
        for attempt in range(ATTEMPTS):
            super().__init__("the engine", ["demo.engine", "--port", "0"], log, ready_within_s=ready_within_s)
            try:
                self._healthy(ready_within_s)
                return
            except NotStartedError:
                self.stop()
                if attempt + 1 == ATTEMPTS:
                    raise
            except BaseException:
                self.stop()
                raise

    def requests(self) -> int:
        """How many answers it was asked for: each takes a slot, and its log says so."""
        return self.said().count(b"| processing task, ")

    def generated_tokens(self) -> int:
        """How many tokens it has generated, by its own `/metrics`."""
        page = fetch(f"{self.url}/metrics").decode()
        found = re.search(r"^llamacpp:tokens_predicted_total (\S+)", page, re.MULTILINE)
        if found is None:
            raise RuntimeError(f"no tokens_predicted_total at {self.url}/metrics")
        return round(float(found[1]))

    def _healthy(self, within_s: float) -> None:
        # The socket listens before the model is loaded; until then it answers 503.
        deadline = time.monotonic() + within_s
        while True:
            try:
                fetch(f"{self.url}/health")
                return
            except OSError as error:
                if time.monotonic() > deadline or not self.alive():
                    raise NotStartedError(f"{self!r} is not well: {error}; {self._last_words()}") from error
            time.sleep(LOOK_AGAIN_S)


def engine_lacks() -> str:
    """What is missing for the engine, in one line; empty when nothing is."""
    missing = [part for part in ENGINE_PARTS if importlib.util.find_spec(part) is None]
    return f"{' and '.join(missing)} not installed: pip install '.[demo]'" if missing else ""


def start_proxy(upstream: str, log: Path) -> Child:
    """Our proxy in front of *upstream*, with its defaults but two.

    An engine of one's own bills no tokens, and a machine that starts everything at once may be slow to compare.
    """
    module = ["proxy", "serve", "--upstream", upstream, "--host", "127.0.0.1", "--port", "0"]
    module += ["--set", "accounting.flat_rate=true", "--set", "semantic.deadline_s=2"]
    # A home of its own, but for the sentence model that `make setup` brought.
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Child("the proxy", module, log, environment={"HOME": str(log.parent), "XDG_CACHE_HOME": cache})


def start_scripted_provider(log: Path) -> Child:
    """The stand-in where the engine cannot be had; it thinks as long as a small model would."""
    return Child("the scripted provider", ["tests.scripted_provider", "--port", "0", "--latency-ms", "150"], log)


def fetch(url: str, timeout_s: float = 10.0) -> bytes:
    """The body at *url*, past any proxy of the environment; OSError if there is none."""
    with _straight.open(url, timeout=timeout_s) as answer:
        body: bytes = answer.read()
        return body


def fetch_json(url: str) -> dict[str, object]:
    """The JSON object at *url*."""
    parsed: dict[str, object] = json.loads(fetch(url))
    return parsed
