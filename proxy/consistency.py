"""What settings must fulfil beyond the type and bounds of each: addresses, names of fields, files that exist."""

import ipaddress
import re
import ssl
from urllib.parse import urlsplit

from proxy.errors import ConfigError
from proxy.settings import FIELD_NAME, Config, NamedUpstreamSettings, UpstreamSettings

WRITTEN_BY_US = frozenset({"host", "content-length", "transfer-encoding", "connection", "upgrade", "te"})
"""Fields that would be untrue, and could open the door to a second request, if they were set by hand."""


MAX_REPLICAS = 64


def check(config: Config) -> None:
    """Hold *config* to what no single setting can tell of itself.

    Raises:
        ConfigError: the first setting that cannot be, with its path and the reason.
    """
    _check_upstream(config.upstream, "upstream")
    for name, upstream in config.upstreams.items():
        _check_upstream(upstream, f"upstreams.{name}")
        _check_route(upstream, name)
    if not config.server.host.strip():
        raise ConfigError("server.host: must name an address; 0.0.0.0 takes connections from everywhere")
    if not 0 <= config.server.port <= 65535:
        raise ConfigError(f"server.port: must be 0 to 65535, found {config.server.port}")
    semantic = config.semantic
    for name in ("max_error_rate", "threshold", "min_threshold", "max_threshold"):
        if not getattr(semantic, name) <= 1:
            raise ConfigError(f"semantic.{name}: must be 0 to 1, found {getattr(semantic, name):g}")
    if not semantic.min_threshold <= semantic.threshold <= semantic.max_threshold and semantic.policy == "adaptive":
        raise ConfigError("semantic.threshold: must lie between semantic.min_threshold and semantic.max_threshold")
    if semantic.embedder.url:
        _check_origin(semantic.embedder.url, "semantic.embedder.url", schemes=("http", "https"))
    for number, name in enumerate(config.cache.key_headers):
        if not re.fullmatch(FIELD_NAME, name):
            raise ConfigError(f"cache.key_headers[{number}]: {name!r} is not the name of a header field")
    for path in config.cache.more_paths:
        _check_path(path, f"cache.more_paths.{path}")
    if config.prefix.hold_out > 1:
        raise ConfigError(f"prefix.hold_out: must be a share of 0 to 1, found {config.prefix.hold_out!r}")
    for number, text in enumerate(config.server.trusted_proxies):
        if not _is_network(text):
            raise ConfigError(
                f"server.trusted_proxies[{number}]: {text!r} is not an address or a network like 10.0.0.0/8"
            )


def _check_upstream(settings: UpstreamSettings, where: str) -> None:
    _check_origin(settings.url, f"{where}.url", schemes=("http", "https"))
    for number, url in enumerate(settings.replicas):
        _check_origin(url, f"{where}.replicas[{number}]", schemes=("http", "https"))
    if len(settings.replicas) >= MAX_REPLICAS:
        raise ConfigError(
            f"{where}.replicas: at most {MAX_REPLICAS - 1} besides the url, found {len(settings.replicas)}"
        )
    if settings.proxy_url:
        _check_origin(settings.proxy_url, f"{where}.proxy_url", schemes=("http",))
    if settings.ca_file:
        _check_certificates(settings.ca_file, f"{where}.ca_file")
    for name, value in settings.add_headers.items():
        if not re.fullmatch(FIELD_NAME, name) or re.search(r"[\r\n\0]", value):
            raise ConfigError(f"{where}.add_headers.{name}: not a valid header field")
        if name.lower() in WRITTEN_BY_US:
            raise ConfigError(f"{where}.add_headers.{name}: frames or routes the request and is written by the proxy")


def _check_route(settings: NamedUpstreamSettings, name: str) -> None:
    where = f"upstreams.{name}"
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
        raise ConfigError(f"{where}: a name is made of a-z, 0-9, _ and -")
    if settings.prefix:
        _check_path(settings.prefix, f"{where}.prefix")
        if not settings.prefix.strip("/"):
            raise ConfigError(f"{where}.prefix: would take every path; to send everything there, set upstream.url")
        if settings.prefix.startswith("/_askonce"):
            raise ConfigError(f"{where}.prefix: everything below /_askonce is the proxy's own")
        if settings.paths or settings.models:
            raise ConfigError(f"{where}.prefix: leads there alone; drop it, or paths and models")
    elif not settings.paths and not settings.models:
        raise ConfigError(f"{where}: nothing leads to it; set {where}.prefix, .paths or .models")
    for number, path in enumerate(settings.paths):
        _check_path(path, f"{where}.paths[{number}]")
    for path in settings.more_paths:
        _check_path(path, f"{where}.more_paths.{path}")


def _check_path(path: str, where: str) -> None:
    if not re.fullmatch(r"/[!-~]*", path) or "?" in path:
        raise ConfigError(f"{where}: a path begins with / and has no query")


def _check_certificates(file: str, where: str) -> None:
    try:
        ssl.create_default_context(cafile=file)
    except ssl.SSLError as error:
        raise ConfigError(f"{where}: no certificates in PEM form in {file!r}") from error
    except OSError as error:
        raise ConfigError(f"{where}: {file!r} cannot be read: {error.strerror}") from error


def _check_origin(url: str, where: str, *, schemes: tuple[str, ...]) -> None:
    shown = repr(re.sub(r"//[^/?#]*@", "//***@", url))
    if re.search(r"[\x00-\x20\x7f]", url):
        raise ConfigError(f"{where}: {shown} must not hold white space")
    try:
        parts = urlsplit(url)
        port = parts.port
        host = (parts.hostname or "").encode("ascii" if ":" in (parts.hostname or "") else "idna")
    except ValueError as error:
        # What urllib says may repeat the credentials.
        raise ConfigError(f"{where}: {shown} is not a URL{'' if '@' in url else f': {error}'}") from None
    if parts.scheme not in schemes:
        raise ConfigError(f"{where}: {shown} must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}")
    if not host or port == 0:
        raise ConfigError(f"{where}: {shown} names no host")
    if parts.query or parts.fragment:
        raise ConfigError(f"{where}: {shown} must not have a query or a fragment")
    if where.endswith(".url") and (parts.username or parts.password):
        sent_with = f"{where.removesuffix('url')}add_headers"
        raise ConfigError(f"{where}: must not carry credentials; send them with {sent_with}")


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True
