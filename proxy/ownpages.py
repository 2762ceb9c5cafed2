"""The proxy's own pages: on which paths they lie, for whom they are, and what they show of the house."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import proxy
from proxy import canonical, purging
from proxy.accounts.books import Books
from proxy.accounts.chronicle import Chronicle
from proxy.accounts.ledger import Ledger
from proxy.accounts.till import Till
from proxy.call import Call, Page, Reply
from proxy.headers import Fields
from proxy.http.server import OWN, Asides, Pages
from proxy.keys.gate import Gate
from proxy.model import Json
from proxy.pages import answers, explained, feedback, guide, metrics, status, windows
from proxy.pages.doors import Doors
from proxy.pages.metrics import Gauges
from proxy.pipeline import Pipeline
from proxy.ports import Dialect
from proxy.providers.routing import Routing, Way
from proxy.semantic.explaining import Explaining
from proxy.settings import Config
from proxy.storage import Storage
from proxy.tiers.exact import ExactTier
from proxy.tiers.prefix import PrefixTier
from proxy.tiers.semantic import SemanticTier


class OwnPages:
    """What the proxy tells of itself, and what may be done to it by hand."""

    def __init__(
        self,
        config: Config,
        *,
        doors: Doors,
        pipeline: Pipeline,
        routing: Routing,
        cached: Callable[[bytes, bytes, Way], Dialect | None],
        gate: Gate | None,
        storage: Storage,
        exact: ExactTier,
        semantic: SemanticTier,
        prefix: PrefixTier,
        explaining: Explaining,
        ledger: Ledger,
        chronicle: Chronicle,
        tills: Mapping[str, Till],
        connections: Callable[[], int],
    ) -> None:
        self._config = config
        self._doors = doors
        self._pipeline = pipeline
        self._routing = routing
        self._cached = cached
        self._gate = gate
        self._storage = storage
        self._exact = exact
        self._semantic = semantic
        self._prefix = prefix
        self._explaining = explaining
        self._ledger = ledger
        self._chronicle = chronicle
        self._tills = tills
        self._connections = connections

    def __repr__(self) -> str:
        return f"<OwnPages, {self._doors!r}>"

    def listed(self) -> Pages:
        """Every page, by method and path."""
        own, doors = self._config.own_paths, self._doors
        stats = windows.page(
            self._chronicle, plain=self._stats, refusal=doors.refusal, prices_as_of=self._ledger.prices_as_of
        )
        health = status.page(self._health)
        measured = metrics.page(self._counted, listed=self._priced, gauges=self._gauges)
        pages: dict[bytes, Page] = {
            OWN + b"stats": stats,
            OWN + b"healthz": health,
            OWN + b"metrics": measured,
            OWN + b"requests": doors.operators(status.page(self._requests)),
        }
        if own.stats:
            pages[b"/stats"] = stats
        if own.metrics:
            pages[b"/metrics"] = measured
        if own.healthz:
            pages[b"/healthz"] = health
        if own.health:
            pages[b"/health"] = health
        given = doors.operators(feedback.page(self._semantic.verdict))
        explain = doors.operators(explained.page(self._explaining.explain, self._nearest))
        posted: dict[bytes, Page] = {OWN + b"feedback": given, OWN + b"explain": explain}
        removed: dict[bytes, Page] = {OWN + b"cache": doors.operators(guide.clearing(self._purge))}
        if own.guide:
            hand = self._pipeline.by_hand
            posted |= {
                b"/v1/cache/feedback": given,
                b"/v1/cache/get": doors.operators(guide.looking_up(hand, self._led)),
                b"/v1/cache/set": doors.operators(guide.putting(hand, self._led)),
            }
            pages[b"/v1/cache/stats"] = guide.stats(self._counted, hand, self._semantic.shown)
            removed[b"/v1/cache"] = removed[OWN + b"cache"]
        return {
            **{(b"GET", path): page for path, page in pages.items()},
            **{(b"POST", path): page for path, page in posted.items()},
            **{(b"DELETE", path): page for path, page in removed.items()},
        }

    def asides(self) -> Asides:
        """Pages on paths of providers."""
        if not self._config.own_paths.guide:
            return {}
        return {(b"POST", b"/v1/chat"): guide.chatting(self._pipeline, self._led, self._tills, self._admitted)}

    async def _nearest(self, asked: Json, path: str, fields: Mapping[str, str]) -> Mapping[str, object]:
        """What /_askonce/explain tells of one request."""
        body, target = canonical.write(asked), path.encode("utf-8", "replace")
        way = self._routing.way(target)
        dialect = self._cached(b"POST", way.inner(target), way)
        if dialect is None or not isinstance(body, bytes):
            return {"served": False, "why": f"{path} is no cached path"}
        sent = tuple((name.encode("latin-1", "replace"), text.encode()) for name, text in fields.items())
        call = Call(method=b"POST", target=way.inner(target), fields=Fields(sent), body=body, dialect=dialect, way=way)
        return await self._explaining.nearest(asked, path, await self._pipeline.neighbours(call, dialect))

    def _led(self, call: Call) -> Call:
        """*call*, which a page makes, with its way to a provider."""
        way = self._routing.way(call.target)
        return replace(call, way=way, target=way.inner(call.target))

    def _admitted(self, call: Call) -> Call | Reply:
        """*call* under the name of its client, or why it may not pass."""
        if self._gate is None:
            return call
        client = self._gate.admit(call.fields, call.target)
        return replace(call, client=client) if client is not None else self._pipeline.turned_away(call)

    async def _purge(self, wanted: purging.Wanted, dry_run: bool) -> int:
        removed = await purging.purge(self._storage.store, wanted, now=time.time, dry_run=dry_run)
        if not dry_run:
            self._exact.turn()
            if wanted.everything:
                self._semantic.forget_all()
        return removed

    async def _counted(self) -> tuple[Books, float]:
        """What was counted, and since when: by all who count together, or where that cannot be read, here."""
        ever = await self._chronicle.ever() if self._chronicle.shared else None
        return ever if ever is not None else (self._ledger.books(), self._ledger.since)

    async def _stats(self, call: Call) -> Reply:
        named = self._doors.refusal(call) is None
        return answers.shown(self._shown(*await self._counted(), named=named))

    def _shown(self, books: Books, since: float, *, named: bool) -> Mapping[str, object]:
        """What /stats shows of *books* that were kept since a moment; clients only where they may be *named*."""
        return {
            "version": proxy.__version__,
            **self._ledger.shown(books, since=since),
            "store": {"kind": self._config.store.kind, **self._storage.shown()},
            "prefix": self._prefix.shown(),
            "semantic": {
                **self._semantic.shown(),
                "standing": self._pipeline.standing.shown(time.time(), named=named),
            },
            "in_flight": len(self._pipeline.airspace),
            "connections": self._connections(),
        }

    def _requests(self) -> Mapping[str, object]:
        """What /_askonce/requests shows."""
        return {"max_requests": self._config.ledger.max_requests, "requests": self._ledger.recent()}

    def _priced(self, model: str) -> bool:
        return any(till.listed(model) for till in self._tills.values())

    def _gauges(self) -> Gauges:
        kept = self._storage.figures
        return Gauges(
            version=proxy.__version__,
            entries=len(kept),
            bytes_used=kept.bytes_used,
            max_bytes=kept.max_bytes,
            evicted=kept.evicted,
            expired=kept.expired,
            in_flight=len(self._pipeline.airspace),
            connections=self._connections(),
            policy=self._config.semantic.policy,
            levels=self._semantic.levels(),
        )

    def _health(self) -> Mapping[str, object]:
        """What /healthz shows: the proxy serves even where a part of the cache does not."""
        degraded = ["store"] if self._exact.degraded or self._storage.fault() else []
        if self._semantic.degraded:
            degraded.append("semantic")
        return {
            "status": "degraded" if degraded else "healthy",
            "degraded": degraded,
            "semantic": self._semantic.state,
            "version": proxy.__version__,
        }
