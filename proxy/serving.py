"""A process, or several, that serve until they are told to stop."""

import asyncio
import gc
import logging
import resource
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import partial

import uvloop

import proxy
from proxy.app import App
from proxy.providers.fleet import Fleet
from proxy.providers.upstream import Upstream
from proxy.settings import Config
from proxy.supervisor import Post, Supervisor

log = logging.getLogger(__name__)


def serve(config: Config) -> None:
    """Run until SIGTERM or SIGINT.

    Raises:
        AskonceError: it cannot start.
    """
    logging.basicConfig(
        level=config.log.level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    _more_files()
    server = config.server
    if server.workers == 1:
        _work(config, None)
    else:
        work = partial(_work, config)
        Supervisor(work, workers=server.workers, host=server.host, port=server.port, drain_s=server.drain_s).run()


def _work(config: Config, post: Post | None) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(config, post))


async def _serve(config: Config, post: Post | None) -> None:
    app = App(config)
    port = await app.open(port=post.port if post is not None else None)
    if post is not None:
        app.hearsay.open(post.line)
    _calm_collector()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    # Of several workers each is told by the supervisor alone: Ctrl-C reaches all of them, too.
    stopping = (signal.SIGTERM, signal.SIGINT) if post is None else (signal.SIGTERM,)
    for number in stopping:
        loop.add_signal_handler(number, stop.set)
    host = f"[{config.server.host}]" if ":" in config.server.host else config.server.host
    line = f"askonce {proxy.__version__} listening on http://{host}:{port} -> {_providers(app.upstreams)}"
    if post is not None:
        loop.add_reader(post.supervisor, stop.set)
        post.ready(line)
    else:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
    app.opened()
    await stop.wait()
    if post is not None:
        loop.remove_reader(post.supervisor)
    log.info("stopping: letting %d connections finish", len(app.server.connections))
    for number in stopping:
        loop.remove_signal_handler(number)
    await app.close(drain_s=config.server.drain_s)


def _providers(upstreams: Mapping[str, Upstream | Fleet]) -> str:
    """Where calls go, for the line at the start."""
    default, *named = (upstream.origin.identity.decode() for upstream in upstreams.values())
    return f"{default} ({', '.join(named)})" if named else default


def _more_files() -> None:
    """As many open files as the system lets us have: two for each client under way."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _calm_collector() -> None:
    """What is wired lives for ever, and entries hold no cycles: full collections would walk the store for nothing."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
