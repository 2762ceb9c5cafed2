"""What is measured: each case plays the same requests against ours and nginx in turns."""

import json
import statistics
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from bench import load, processes, wire
from bench.load import Job, Result
from bench.processes import Server
from bench.wire import Ask

SETTLE_S = 0.15
"""After the last answer: what a server still does for the requests belongs to them."""

OURS, NGINX = "ours", "nginx"

L2_OFF = "semantic.policy=off"
"""What these cases cost is the proxy's own; what comparing questions costs is measured in ``bench.semantic``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One kind of work."""

    name: str
    told: str
    ask: Ask
    nginx_port: int
    """Which port of nginx does the same work: 0 its cache, 1 its plain proxy, 2 the one that does not buffer."""
    requests: int
    connections: int = 8
    fetches: bool
    """Every request reaches the provider; else none does."""
    events: bool = False
    """Cost is told by event, not by request."""
    most_ratio: float | None = None
    """The mark: ours may take so many times what nginx takes."""


CASES = (
    Case(
        name="hit",
        told="exact hit, repeated bytes",
        ask=Ask(tag="hit"),
        nginx_port=0,
        requests=6000,
        fetches=False,
        most_ratio=5,
    ),
    Case(
        name="hit-varied",
        told="exact hit, a traceparent that changes",
        ask=Ask(tag="hit-varied", unique_trace=True),
        nginx_port=0,
        requests=6000,
        fetches=False,
        most_ratio=5,
    ),
    Case(
        name="hit-stream",
        told="streamed hit",
        ask=Ask(tag="hit-stream", answer="stream"),
        nginx_port=0,
        requests=6000,
        fetches=False,
        most_ratio=5,
    ),
    Case(
        name="miss",
        told="miss, recorded and stored",
        ask=Ask(tag="miss", unique_body=True),
        nginx_port=1,
        requests=3000,
        fetches=True,
        most_ratio=9,
    ),
    Case(
        name="forwarded",
        told="forwarded, a path that is not cached",
        ask=Ask(tag="forwarded", path=wire.UNCACHED),
        nginx_port=1,
        requests=3000,
        fetches=True,
    ),
    Case(
        name="relay",
        told="stream relay, recorded, per event",
        ask=Ask(tag="relay", answer="paced", unique_body=True),
        nginx_port=2,
        requests=40,
        fetches=True,
        events=True,
        most_ratio=3,
    ),
)

LATENCY, MEMORY = "latency", "memory"
NAMES = (*(case.name for case in CASES), LATENCY, MEMORY)

MOST_ADDED_P50_S = 0.0015
MOST_BYTES_PER_ANSWER = 4096
LATENCY_REQUESTS = 500
MEMORY_ANSWERS = 20_000


@dataclass(slots=True)
class Costs:
    """What one server took in each round."""

    cpu_s: list[float] = field(default_factory=list)
    """Per request or event."""
    merged: list[float] = field(default_factory=list)
    """Share of the events that came in one read with the one before."""
    lag_p50_s: list[float] = field(default_factory=list)
    lag_p99_s: list[float] = field(default_factory=list)
    client_cpu_s: list[float] = field(default_factory=list)

    @property
    def least_s(self) -> float:
        """The round that was disturbed least."""
        return min(self.cpu_s)

    @property
    def median_s(self) -> float:
        """The usual round."""
        return statistics.median(self.cpu_s)


@dataclass(slots=True, kw_only=True)
class Added:
    """Latency that a server adds to the provider's own, per round."""

    p50_s: list[float] = field(default_factory=list)
    p99_s: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What cached answers take."""

    answers: int
    stored_bytes: float
    """Head and body, per answer."""
    accounted_bytes: float
    """What the store counts against its budget, per answer."""
    grown_bytes: float
    """Growth of the process, per answer."""


class Bench:
    """The servers under test with their provider, and numbers that make requests unlike all before."""

    def __init__(self, origin: Server, ours: Server, nginx: Server | None) -> None:
        self._origin = origin.ports[0]
        self._ours = ours
        self._nginx = nginx
        self._number = 1

    def _job(self, ports: tuple[int, ...], ask: Ask, requests: int, connections: int) -> Result:
        first, self._number = self._number, self._number + requests
        return load.run(Job(ports=ports, ask=ask, requests=requests, connections=connections, first=first))

    def asked(self) -> int:
        """How many requests the provider has answered."""
        return int(_get(self._origin, "/asked"))

    def measure(self, case: Case, *, rounds: int, effort: float) -> dict[str, Costs]:
        """The costs of *case* for each server; *effort* scales the number of requests.

        Raises:
            RuntimeError: a server did not do the work that the case is about.
        """
        servers = {OURS: (self._ours, self._ours.ports[0])}
        if self._nginx is not None:
            servers[NGINX] = (self._nginx, self._nginx.ports[case.nginx_port])
        requests = max(case.connections, round(case.requests * effort))
        costs = {name: Costs() for name in servers}
        for _, port in servers.values():
            self._job((port,), case.ask, max(1, requests // 5), 1 if not case.fetches else case.connections)
        for _ in range(rounds):
            for name, (server, port) in servers.items():
                time.sleep(SETTLE_S)
                asked, before_s = self.asked(), server.cpu_s()
                result = self._job((port,), case.ask, requests, case.connections)
                time.sleep(SETTLE_S)
                spent_s, fetched = server.cpu_s() - before_s, self.asked() - asked
                if fetched != (requests if case.fetches else 0):
                    raise RuntimeError(f"{case.name}: {name} fetched {fetched} times for {requests} requests")
                _note(costs[name], case, requests, spent_s, result)
        return costs

    def latency(self, *, rounds: int, effort: float) -> dict[str, Added]:
        """What each server adds to the time of a miss, one request at a time, in turns with the provider itself."""
        ports = {"direct": self._origin, OURS: self._ours.ports[0]}
        if self._nginx is not None:
            ports[NGINX] = self._nginx.ports[1]
        added = {name: Added() for name in ports if name != "direct"}
        ask = Ask(tag="latency", unique_body=True)
        requests = max(50, round(LATENCY_REQUESTS * effort))
        for turn in range(rounds + 1):
            result = self._job(tuple(ports.values()), ask, requests, 1)
            if turn == 0:
                continue
            direct, *others = result.seconds
            for each, seconds in zip(added.values(), others, strict=True):
                each.p50_s.append(_share(seconds, 0.5) - _share(direct, 0.5))
                each.p99_s.append(_share(seconds, 0.99) - _share(direct, 0.99))
        return added


def memory(*, effort: float) -> Memory:
    """What a fresh proxy grows by for each distinct answer of a kilobyte that it keeps."""
    with processes.origin() as origin, processes.proxy(origin.ports[0], L2_OFF) as ours:
        bench = Bench(origin, ours, None)
        port = ours.ports[0]
        ask = Ask(tag="memory", unique_body=True)
        answers = max(1000, round(MEMORY_ANSWERS * effort))
        # The first requests pay for code and pools that are there once.
        bench._job((port,), ask, 1000, 8)
        time.sleep(SETTLE_S)
        before, stored_before = ours.rss_bytes(), _store(port)
        bench._job((port,), ask, answers, 8)
        time.sleep(SETTLE_S)
        stored = _store(port)
        kept = stored["entries"] - stored_before["entries"]
        if kept != answers:
            raise RuntimeError(f"memory: {kept} of {answers} answers were kept")
        return Memory(
            answers=answers,
            stored_bytes=len(wire.whole_answer()),
            accounted_bytes=(stored["bytes"] - stored_before["bytes"]) / answers,
            grown_bytes=(ours.rss_bytes() - before) / answers,
        )


@contextmanager
def bench() -> Iterator[Bench]:
    """Everything started, and stopped again at the end."""
    with ExitStack() as stack:
        origin = stack.enter_context(processes.origin())
        ours = stack.enter_context(processes.proxy(origin.ports[0], L2_OFF))
        there = processes.nginx_version() is not None
        nginx = stack.enter_context(processes.nginx(origin.ports[0])) if there else None
        yield Bench(origin, ours, nginx)


def _note(costs: Costs, case: Case, requests: int, spent_s: float, result: Result) -> None:
    count = result.events if case.events else requests
    costs.cpu_s.append(spent_s / count)
    costs.client_cpu_s.append(result.cpu_s / count)
    if case.events:
        costs.merged.append(result.merged / count)
        costs.lag_p50_s.append(_share(result.lags_s, 0.5))
        costs.lag_p99_s.append(_share(result.lags_s, 0.99))


def _share(seconds: list[float], share: float) -> float:
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _store(port: int) -> dict[str, int]:
    told = json.loads(_get(port, "/stats"))["store"]
    return {name: int(told[name]) for name in ("entries", "bytes")}


def _get(port: int, path: str) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        told: bytes = answer.read()
    return told
