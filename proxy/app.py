"""Wiring: builds the house from its settings, opens the door, and closes it again in good order."""

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Mapping
from pathlib import Path

from proxy import fittings, freshness, paths
from proxy.accounts.chronicle import Chronicle
from proxy.accounts.ledger import Ledger
from proxy.config import provider_keys
from proxy.dialects import by_suffix
from proxy.embedders.local import LocalModel
from proxy.embedders.verifying import LocalVerifier
from proxy.encoder import places
from proxy.errors import AskonceError, CacheError, ClientsError, ConfigError
from proxy.http.connection import fits_aiohttp
from proxy.http.server import Server
from proxy.keys.budgets import Budgets
from proxy.keys.credential import Credential
from proxy.keys.gate import Gate
from proxy.keys.keyfile import KeyFile
from proxy.leases import Leasing
from proxy.model import Json
from proxy.ownpages import OwnPages
from proxy.pages.doors import Doors
from proxy.pipeline import Pipeline
from proxy.ports import Dialect
from proxy.providers import fleet
from proxy.providers.hearsay import Hearsay
from proxy.providers.routing import DEFAULT, Way, routing
from proxy.semantic.bars import Bar, bar
from proxy.semantic.explaining import Explaining
from proxy.settings import Config, SemanticSettings
from proxy.storage import storage
from proxy.tasks import Tasks
from proxy.tiers.exact import ExactTier
from proxy.tiers.given import Given
from proxy.tiers.prefix import PrefixTier
from proxy.tiers.semantic import SemanticTier
from proxy.vectors.block import BlockIndex
from proxy.wire import Wire

log = logging.getLogger(__name__)

MODEL_WITHIN_S = 2.0
"""A proxy that starts waits so long for its model at the most; it serves without it until it is there."""

STORING_S = 1.0
"""How long a stopping proxy waits for the last answers to be put away."""


class App:
    """The whole proxy, wired but not yet listening."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.tasks = Tasks()
        self._dialects = by_suffix(config.cache.server_tools)
        self._more_paths = {path.encode(): suffix for path, suffix in config.cache.more_paths.items()}
        self.storage = kept = storage(config.store, workers=config.server.workers)
        self.routing = routing(config.upstream, config.upstreams)
        self.tills = fittings.tills(config)
        shared = config.keys.mode == "shared"
        credentials = {name: Credential(key) for name, key in provider_keys(config).items()} if shared else {}
        self.budgets = Budgets(kept.tallies) if shared else None
        self.ledger = Ledger(
            max_models=config.ledger.max_models,
            max_opportunities=config.ledger.max_opportunities,
            max_requests=config.ledger.max_requests,
            prices_as_of=self.tills[DEFAULT].as_of,
            spend=self.budgets.spend if self.budgets is not None else None,
        )
        self.chronicle = Chronicle(self.ledger, kept.tallies, kept.shelf, tasks=self.tasks, shared=kept.lasting)
        self.hearsay = Hearsay()
        self.upstreams = {
            DEFAULT: fleet.opened(config.upstream, credentials.get(DEFAULT), self.hearsay),
            **{
                name: fleet.opened(each, credentials.get(name), self.hearsay) for name, each in config.upstreams.items()
            },
        }
        self.exact = ExactTier(self.storage.store, now=time.time, stale=freshness.grace_s(config.cache) > 0)
        secret = config.cache.secret.encode() or secrets.token_bytes(32)
        self.prefix = PrefixTier(
            config.prefix,
            rules=fittings.prefix_rules(config),
            urls={DEFAULT: config.upstream.url, **{name: each.url for name, each in config.upstreams.items()}},
            providers={name: each.provider for name, each in config.upstreams.items()},
            tills=self.tills,
            secret=secret,
            tasks=self.tasks,
            now=time.time,
        )
        embedder = config.semantic.embedder
        self.model = LocalModel(
            places.find(embedder.model_dir) or places.home(),
            threads=embedder.threads,
            max_waiting=embedder.max_waiting,
            computing=config.semantic.backend,
        )
        self.embedder = (
            fittings.remote_embedder(config, self.tills[DEFAULT], self.ledger)
            if embedder.kind == "http"
            else self.model
        )
        self._verifier = verifier = LocalVerifier(self.model)
        chosen = bar(config.semantic, verifier.identity)
        self.semantic = self._semantic(verifier, chosen)
        self.gate = self._gate() if shared else None
        doors = Doors(token=config.admin.token, on_loopback=fittings.is_loopback(config.server.host))
        self.pipeline = Pipeline(
            config,
            upstreams=self.upstreams,
            exact=self.exact,
            semantic=self.semantic if config.semantic.policy != "off" else None,
            ledger=self.ledger,
            tills=self.tills,
            prefix=self.prefix,
            tasks=self.tasks,
            leasing=Leasing(kept.leases, kept.store, tasks=self.tasks, wait_s=config.flights.lease_wait_s),
            secret=secret,
            trusted=fittings.trusts(config.server.trusted_proxies),
            budgets=self.budgets,
            operators=lambda call: doors.refusal(call) is None,
            now=time.time,
        )
        own = OwnPages(
            config,
            doors=doors,
            pipeline=self.pipeline,
            routing=self.routing,
            cached=self._cached,
            gate=self.gate,
            storage=self.storage,
            exact=self.exact,
            semantic=self.semantic,
            prefix=self.prefix,
            explaining=Explaining(config.semantic, embedder=self.embedder, verifier=verifier, bar=chosen),
            ledger=self.ledger,
            chronicle=self.chronicle,
            tills=self.tills,
            connections=lambda: len(self.server.connections),
        )
        self.server = Server(
            pipeline=self.pipeline,
            upstreams=self.upstreams,
            routing=self.routing,
            cached=self._cached,
            pages=own.listed(),
            asides=own.asides(),
            settings=config.server,
            cache=config.cache,
            wire=self._wire() if config.wire.enabled else None,
            gate=self.gate,
        )
        self._listener: asyncio.Server | None = None
        self._loading: asyncio.Task[None] | None = None

    def _semantic(self, verifier: LocalVerifier, chosen: Bar) -> SemanticTier:
        """The tier that knows questions by their meaning."""
        settings = self.config.semantic
        own = BlockIndex(dimension=self.embedder.dimension, max_bytes=settings.max_bytes)
        return SemanticTier(
            settings,
            embedder=self.embedder,
            verifier=verifier,
            index=own if settings.policy == "off" else self.storage.index(self.embedder, own),
            store=self.storage.store,
            shelf=self.storage.shelf,
            bar=chosen,
            tasks=self.tasks,
            keeps_vectors=self.storage.lasting,
            given=Given(self.storage.tallies, tasks=self.tasks) if self.storage.lasting else None,
            now=time.time,
            chance=random.random,
        )

    async def _load_model(self) -> None:
        # Where an endpoint embeds and a cosine decides, the model on this machine has no part in it.
        if self.config.semantic.policy in ("verified", "shadow"):
            await self._verifier.start()
        elif self.embedder is self.model:
            await self.model.start()

    def _gate(self) -> Gate:
        keys = self.config.keys
        try:
            return Gate(KeyFile(Path(keys.file)), anonymous=keys.anonymous, changed=self.exact.turn)
        except ClientsError as error:
            raise ConfigError(f"keys.file: {error}") from error

    def _wire(self) -> Wire | None:
        if not fits_aiohttp():
            log.warning("this aiohttp is not the one the short way was made for: every request goes the ordinary way")
            return None
        return Wire(
            max_bytes=self.config.wire.max_bytes,
            holds=self.storage.holds,
            generation=lambda: self.exact.generation,
            ledger=self.ledger,
            now=time.time,
        )

    def _cached(self, method: bytes, path: bytes, way: Way) -> Dialect | None:
        own = way.cached_as(path) if method == b"POST" else None
        suffix = own or paths.cached_as(method, path, self._more_paths)
        return self._dialects[suffix] if suffix is not None else None

    async def open(self, *, port: int | None = None) -> int:
        """Listen; the port. Where *port* is given, other processes listen on it, too.

        Raises:
            AskonceError: the address cannot be listened on.
        """
        await self._open_storage()
        if self.config.semantic.policy != "off":
            self._loading = self.tasks.start(self.semantic.begin(self._load_model), name="load the model")
            # Who asks at once shall find it there. It takes a fraction of a second, but on a disk that sleeps.
            await asyncio.wait({self._loading}, timeout=MODEL_WITHIN_S)
        host, shared = self.config.server.host, port is not None
        port = self.config.server.port if port is None else port
        loop = asyncio.get_running_loop()
        try:
            self._listener = await loop.create_server(
                self.server, host, port, backlog=4096, reuse_address=True, reuse_port=shared
            )
        except OSError as error:
            raise AskonceError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
        if self.config.semantic.policy != "off" and self.storage.lasting:
            self.tasks.start(self.semantic.follow(), name="verdicts")
            self.tasks.start(self.semantic.accompany(), name="questions")
        self.tasks.start(self.chronicle.keep(), name="chronicle")
        if self.budgets is not None:
            self.tasks.start(self.budgets.keep(), name="budgets")
        if self.gate is not None:
            self.tasks.start(self.gate.watch(), name="gate")
        return int(self._listener.sockets[0].getsockname()[1])

    def opened(self) -> None:
        """It was said that the door is open; what else there is to say comes after that."""
        if self._loading is not None:
            self.tasks.start(self._say_what_is_missing(self._loading), name="say what is missing")

    async def _say_what_is_missing(self, loading: asyncio.Task[None]) -> None:
        await asyncio.wait({loading})
        if self.semantic.missing:
            log.warning("the semantic tier is off, everything else works: %s", self.semantic.missing)

    async def _open_storage(self) -> None:
        self.storage.open(self.tasks)
        if not self.storage.lasting or self.config.cache.secret:
            return
        try:
            self.pipeline.use_secret(await self.storage.secret())
        except CacheError as error:
            # The first request will say so aloud.
            log.debug("the tenants' secret cannot be had yet: %s", error)
            self.tasks.start(self.storage.secret_when_known(self.pipeline.use_secret), name="secret")

    async def _landed(self) -> None:
        """Wait for answers that were given and are being put away, but not for long."""
        until = time.monotonic() + STORING_S
        while self.storage.lasting and len(self.pipeline.airspace) and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    async def close(self, *, drain_s: float) -> None:
        """Take no more connections, let answers under way finish, let go of everything."""
        if self._listener is not None:
            self._listener.close()
        if not await self.server.drain(wait_s=drain_s):
            log.warning("closed with answers still under way after %g s (server.drain_s)", drain_s)
        self.hearsay.close()
        await self._landed()
        await self.chronicle.close()
        if self.budgets is not None:
            await self.budgets.settle()
        await self.tasks.close()
        await self.semantic.close()
        await self.model.close()
        for upstream in self.upstreams.values():
            await upstream.close()
        await self.storage.store.close()


async def explain(settings: SemanticSettings, asked: Json, cached: Json, path: str) -> Mapping[str, object]:
    """What /_askonce/explain tells of two requests, by the model on this machine and nothing that was learned."""
    model = LocalModel(places.find("") or places.home(), computing=settings.backend)
    verifier = LocalVerifier(model)
    chosen = bar(settings, verifier.identity)
    try:
        return await Explaining(settings, embedder=model, verifier=verifier, bar=chosen).explain(asked, cached, path)
    finally:
        await model.close()
