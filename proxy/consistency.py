"""What settings must fulfil beyond the type and bounds of each: addresses, names of fields, files that exist."""

import ipaddress
import re
import ssl
from urllib.parse import urlsplit

from proxy.errors import ConfigError
from proxy.settings import FIELD_NAME, Config

WRITTEN_BY_US = frozenset({"host", "content-length", "transfer-encoding", "connection", "upgrade", "te"})
"""Fields that would be untrue, and could open the door to a second request, if they were set by hand."""


def check(config: Config) -> None:
    """Hold *config* to what no single setting can tell of itself.

    Raises:
        ConfigError: the first setting that cannot be, with its path and the reason.
    """
    _check_origin(config.upstream.url, "upstream.url", schemes=("http", "https"))
    if config.upstream.proxy_url:
        _check_origin(config.upstream.proxy_url, "upstream.proxy_url", schemes=("http",))
    if config.upstream.ca_file:
        _check_certificates(config.upstream.ca_file)
    if not config.server.host.strip():
        raise ConfigError("server.host: must name an address; 0.0.0.0 takes connections from everywhere")
    if not 0 <= config.server.port <= 65535:
        raise ConfigError(f"server.port: must be 0 to 65535, found {config.server.port}")
    for name, value in config.upstream.add_headers.items():
        if not re.fullmatch(FIELD_NAME, name) or re.search(r"[\r\n\0]", value):
            raise ConfigError(f"upstream.add_headers.{name}: not a valid header field")
        if name.lower() in WRITTEN_BY_US:
            raise ConfigError(f"upstream.add_headers.{name}: frames or routes the request and is written by the proxy")
    for number, name in enumerate(config.cache.key_headers):
        if not re.fullmatch(FIELD_NAME, name):
            raise ConfigError(f"cache.key_headers[{number}]: {name!r} is not the name of a header field")
    for path in config.cache.more_paths:
        if not re.fullmatch(r"/[!-~]*", path) or "?" in path:
            raise ConfigError(f"cache.more_paths.{path}: a path begins with / and has no query")
    for number, text in enumerate(config.server.trusted_proxies):
        if not _is_network(text):
            raise ConfigError(
                f"server.trusted_proxies[{number}]: {text!r} is not an address or a network like 10.0.0.0/8"
            )


def _check_certificates(file: str) -> None:
    try:
        ssl.create_default_context(cafile=file)
    except ssl.SSLError as error:
        raise ConfigError(f"upstream.ca_file: no certificates in PEM form in {file!r}") from error
    except OSError as error:
        raise ConfigError(f"upstream.ca_file: {file!r} cannot be read: {error.strerror}") from error


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
    if where == "upstream.url" and (parts.username or parts.password):
        raise ConfigError(f"{where}: must not carry credentials; send them with upstream.add_headers")


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True
