"""``/metrics`` for Prometheus: the books as they stand when they are asked, nothing counted twice."""

import re
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from proxy.accounts.books import Axis, Books, Line
from proxy.accounts.latency import Latency
from proxy.accounts.money import PARTS
from proxy.accounts.usage import Method
from proxy.call import Call, Page, Reply
from proxy.model import Outcome
from proxy.pages import answers
from proxy.semantic.bars import Level

OTHER = "other"
"""The label of every model that the price list does not name."""

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,79}")
"""What the name of a model looks like that may become a label; names come from requests and so from strangers."""

CLASSES_STEP = 6
"""One bucket in six of the ledger's classes: each three times as wide as the one before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauges:
    """What stands beside the ledger, now."""

    version: str
    entries: int
    bytes_used: int
    max_bytes: int
    evicted: int
    expired: int
    in_flight: int
    connections: int
    policy: str
    """`semantic.policy`."""
    levels: Sequence[Level] = ()
    """Where its bar lies; none where it is off."""


class BooksCollector(Collector):
    """The books as they stand, with what stands beside them."""

    def __init__(
        self, books: Books, since: float, *, listed: Callable[[str], bool], gauges: Callable[[], Gauges]
    ) -> None:
        self._books = books
        self._since = since
        self._listed = listed
        self._gauges = gauges

    def collect(self) -> Iterator[Metric]:
        """Every family."""
        books = self._books
        yield from chain(self._calls(books), self._fetches(books), self._worth(books), self._now())

    def _calls(self, books: Books) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "askonce_requests", "Requests on cached paths that are over.", labels=["model", "outcome"]
        )
        for label, models in self._labelled(books).items():
            for outcome in Outcome:
                requests.add_metric([label, outcome], sum(model.outcomes.counts[outcome] for model in models))
        yield requests
        yield _by("askonce_reasons", "Requests by their reason.", "reason", books.reasons.items())
        yield CounterMetricFamily("askonce_forwarded", "Requests on other paths.", value=books.forwards)
        yield CounterMetricFamily("askonce_inputs", "Embeddings that were asked for.", value=books.inputs)
        yield CounterMetricFamily("askonce_inputs_found", "Those of them that were kept.", value=books.inputs_found)
        yield CounterMetricFamily(
            "askonce_clients_left", "Requests whose client hung up before the end.", value=books.clients_left
        )
        yield _histogram("askonce_request_duration_seconds", "To the last octet of the answer.", books.latency)
        told = "To the last octet, by what answered."
        yield _histogram("askonce_tier_duration_seconds", told, books.tier_latency, label="tier")
        yield _histogram("askonce_first_byte_seconds", "To the head of the answer.", books.first_byte)

    def _fetches(self, books: Books) -> Iterator[Metric]:
        yield CounterMetricFamily("askonce_fetches", "Requests to the provider that are over.", value=books.fetches)
        yield CounterMetricFamily("askonce_kept", "Answers that were kept.", value=books.kept)
        yield _by("askonce_unkept", "Answers that were not kept.", "reason", books.unkept.items())
        octets = (
            ("from_clients", books.bytes_from_clients),
            ("to_clients", books.bytes_to_clients),
            ("from_upstream", books.bytes_from_upstream),
        )
        yield _by("askonce_body_bytes", "Octets of bodies on cached paths.", "direction", octets)

    def _worth(self, books: Books) -> Iterator[Metric]:
        ways = ["model", "kind", "method"]
        tokens = CounterMetricFamily("askonce_tokens", "Tokens.", labels=[*ways, "direction"])
        answers = CounterMetricFamily("askonce_answers", "Answers whose tokens are known.", labels=ways)
        unpriced = CounterMetricFamily("askonce_unpriced_answers", "Answers without a published price.", labels=ways)
        usd = CounterMetricFamily("askonce_usd", "US dollars, prompt-cache discounts taken off.", labels=ways)
        usd_list = CounterMetricFamily("askonce_usd_list", "US dollars as if without prompt caches.", labels=ways)
        usd_net = CounterMetricFamily("askonce_usd_net", "US dollars, prompt caches still warm.", labels=ways)
        unknown = CounterMetricFamily(
            "askonce_answers_without_usage", "Answers that named no usage, counted or not.", labels=["model", "kind"]
        )
        for label, models in self._labelled(books).items():
            for kind in ("spent", "saved"):
                both = [model.spent if kind == "spent" else model.saved for model in models]
                unknown.add_metric([label, kind], sum(each.without_usage for each in both))
                for method in Method:
                    sums = [each.ways[method] for each in both]
                    at = [label, kind, str(method)]
                    tokens.add_metric([*at, "input"], sum(each.input for each in sums))
                    tokens.add_metric([*at, "output"], sum(each.output for each in sums))
                    answers.add_metric(at, sum(each.answers for each in sums))
                    unpriced.add_metric(at, sum(each.unpriced for each in sums))
                    usd.add_metric(at, sum(each.usd for each in sums) / PARTS)
                    usd_list.add_metric(at, sum(each.usd_list for each in sums) / PARTS)
                    usd_net.add_metric(at, sum(each.usd_net for each in sums) / PARTS)
        yield from (tokens, answers, unpriced, usd, usd_list, usd_net, unknown)
        overhead = ((kind, sum(sums.usd for sums in each.ways.values())) for kind, each in books.overheads.items())
        told = "US dollars that the proxy spent of its own accord."
        yield _by("askonce_overhead_usd", told, "kind", ((kind, spent / PARTS) for kind, spent in overhead))
        yield CounterMetricFamily(
            "askonce_time_saved_seconds", "Provider's seconds spared.", value=books.saved_us / 1_000_000
        )
        repeats = books.repeats
        yield CounterMetricFamily(
            "askonce_opportunity_repeats", "Repeats that only the temperature kept out.", value=repeats.answers
        )
        yield CounterMetricFamily(
            "askonce_opportunity_usd", "US dollars that those cost.", value=repeats.measured.usd / PARTS
        )

    def _now(self) -> Iterator[Metric]:
        now = self._gauges()
        build = GaugeMetricFamily("askonce_build_info", "The version that runs.", labels=["version"])
        build.add_metric([now.version], 1)
        yield build
        yield GaugeMetricFamily(
            "askonce_start_time_seconds", "When counting began, since the epoch.", value=self._since
        )
        yield GaugeMetricFamily("askonce_store_entries", "Entries in the store.", value=now.entries)
        yield GaugeMetricFamily("askonce_store_bytes", "What they take of the budget.", value=now.bytes_used)
        yield GaugeMetricFamily("askonce_store_max_bytes", "The budget.", value=now.max_bytes)
        yield CounterMetricFamily("askonce_store_evicted", "Entries that had to make room.", value=now.evicted)
        yield CounterMetricFamily("askonce_store_expired", "Entries found expired.", value=now.expired)
        yield GaugeMetricFamily("askonce_in_flight", "Fetches that can be joined.", value=now.in_flight)
        yield GaugeMetricFamily("askonce_connections", "Open connections of clients.", value=now.connections)
        yield from _semantic(now)

    def _labelled(self, books: Books) -> dict[str, list[Line]]:
        """The models by their label; at most ``ledger.max_models`` and one."""
        found: dict[str, list[Line]] = {OTHER: []}
        for name, line in books.lines[Axis.MODEL].items():
            label = name if _LABEL.fullmatch(name) and self._listed(name) else OTHER
            found.setdefault(label, []).append(line)
        return found


def _semantic(now: Gauges) -> Iterator[Metric]:
    """Where the semantic bar lies, and what it rests on: a policy, and three classes of scopes at the most."""
    ways = ["policy", "class"]
    threshold = GaugeMetricFamily(
        "askonce_semantic_threshold",
        "Score or cosine from which on answers are given; +Inf while none is.",
        labels=ways,
    )
    bound = GaugeMetricFamily("askonce_semantic_error_bound", "Upper bound of wrong answers per hit.", labels=ways)
    labels = GaugeMetricFamily(
        "askonce_semantic_labels", "Compared answers, or verdicts, that it goes by.", labels=[*ways, "verdict"]
    )
    explored = GaugeMetricFamily("askonce_semantic_explored", "Answers asked anew to see.", labels=ways)
    false_hits = GaugeMetricFamily("askonce_semantic_false_hits_at_most", "Answers given times the bound.", labels=ways)
    for level in now.levels:
        at = [now.policy, level.kind]
        threshold.add_metric(at, level.threshold)
        labels.add_metric([*at, "right"], level.right)
        labels.add_metric([*at, "wrong"], level.wrong)
        if level.bound is not None and level.served is not None:
            bound.add_metric(at, level.bound)
            explored.add_metric(at, level.explored)
            false_hits.add_metric(at, level.served * level.bound)
    yield from (threshold, bound, labels, explored, false_hits)


def _by(name: str, told: str, label: str, counts: Iterable[tuple[str, float]]) -> Metric:
    family = CounterMetricFamily(name, told, labels=[label])
    for word, count in counts:
        family.add_metric([str(word)], count)
    return family


def _histogram(
    name: str, told: str, latencies: Mapping[Outcome, Latency] | Mapping[str, Latency], *, label: str = "outcome"
) -> Metric:
    family = HistogramMetricFamily(name, told, labels=[label])
    for word, latency in latencies.items():
        buckets = [
            ("+Inf" if edge == float("inf") else f"{edge:.6g}", float(count))
            for edge, count in latency.classes(CLASSES_STEP)
        ]
        family.add_metric([str(word)], buckets=buckets, sum_value=latency.total_s)
    return family


def page(
    counted: Callable[[], Awaitable[tuple[Books, float]]],
    *,
    listed: Callable[[str], bool],
    gauges: Callable[[], Gauges],
) -> Page:
    """The page that shows what was *counted*, and since when."""

    async def answer(_: Call) -> Reply:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(BooksCollector(*await counted(), listed=listed, gauges=gauges))
        return answers.text(generate_latest(registry), CONTENT_TYPE_LATEST.encode())

    return answer
