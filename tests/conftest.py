"""What the tests share: a scripted provider, the proxy in front of it, and the two ways through."""

import os
import secrets
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import hypothesis
import pytest
import trustme

from tests.comparison import Ways
from tests.proxy_process import ProxyProcess
from tests.redis_server import RedisServer, redis_7, redis_8
from tests.scripted_provider import ScriptedProvider

# Set it, and "through the proxy" is straight too: the tests are then put to the test themselves.
DIRECT = os.environ.get("ASKONCE_CONTRACT_DIRECT") == "1"
NIGHTLY = os.environ.get("ASKONCE_NIGHTLY") == "1"

# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile("askonce", deadline=None)
hypothesis.settings.load_profile("askonce")

StartProxy: TypeAlias = Callable[..., Ways]


def pytest_configure(config: pytest.Config) -> None:
    """Make the marks known."""
    config.addinivalue_line("markers", "timed: measures time, wants a machine with little else to do")
    config.addinivalue_line("markers", "nightly: too long for every day; runs with ASKONCE_NIGHTLY=1 or -m nightly")
    config.addinivalue_line("markers", "proxy_only: says what only a proxy can do; skipped in direct mode")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what this run is not for, each with its reason."""
    asked = "nightly" in str(config.getoption("markexpr", ""))
    for item in items:
        if item.get_closest_marker("nightly") and not (NIGHTLY or asked):
            item.add_marker(pytest.mark.skip(reason="nightly: set ASKONCE_NIGHTLY=1"))
        if DIRECT and item.get_closest_marker("proxy_only"):
            item.add_marker(pytest.mark.skip(reason="ASKONCE_CONTRACT_DIRECT=1: there is no proxy to speak of"))


@pytest.fixture(scope="session")
def provider() -> Iterator[ScriptedProvider]:
    """A provider for the whole session; tests keep apart by their nonces."""
    with ScriptedProvider() as running:
        yield running


@pytest.fixture(scope="session")
def proxy(provider: ScriptedProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess | None]:
    """A proxy with default settings for the whole session; None in direct mode."""
    if DIRECT:
        yield None
        return
    with ProxyProcess(provider.origin, tmp_path_factory.mktemp("proxy") / "stderr.log") as running:
        yield running


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A Redis for the whole session; tests keep apart by their prefixes."""
    with RedisServer(redis_7()) as running:
        yield running


@pytest.fixture(scope="session")
def redis_8_server() -> Iterator[RedisServer]:
    """A Redis 8 for the whole session."""
    with RedisServer(redis_8()) as running:
        yield running


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A Redis of the test's own, to stop, pause and fill."""
    with RedisServer(redis_7()) as running:
        yield running


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """A certificate authority that no machine knows."""
    return trustme.CA()


@pytest.fixture
def authority_file(authority: trustme.CA, tmp_path: Path) -> str:
    """Its certificate in a file."""
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(path)
    return str(path)


@pytest.fixture
def nonce() -> str:
    """A word no other test uses."""
    return f"nonce{secrets.token_hex(8)}"


@pytest.fixture
def ways(provider: ScriptedProvider, proxy: ProxyProcess | None, nonce: str) -> Iterator[Ways]:
    """The two ways to the session's provider."""
    yield Ways(provider, proxy.address if proxy else provider.address, proxy, nonce)
    provider.forget(nonce)


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port of this machine that nobody listens on, and nobody else is given."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@pytest.fixture
def fresh_provider() -> Iterator[ScriptedProvider]:
    """A provider of the test's own, for tests that count connections."""
    with ScriptedProvider() as running:
        yield running


@pytest.fixture
def start_proxy(fresh_provider: ScriptedProvider, nonce: str, tmp_path: Path) -> Iterator[StartProxy]:
    """A function that starts a proxy with settings of the test's own, in front of a provider of its own."""
    started: list[ProxyProcess] = []

    def start(*, upstream: str | None = None, environment: dict[str, str] | None = None, **settings: str) -> Ways:
        log = tmp_path / f"stderr-{len(started)}.log"
        named = {name.replace("__", "."): value for name, value in settings.items()}
        running = ProxyProcess(upstream or fresh_provider.origin, log, settings=named, environment=environment)
        started.append(running)
        return Ways(fresh_provider, running.address, running, nonce)

    yield start
    for running in started:
        running.stop()
    for running in started:
        running.assert_calm()
