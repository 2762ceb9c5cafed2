"""Making connections to the provider: TLS, and an outgoing proxy where one is configured."""

import asyncio
import ssl
from base64 import b64encode
from urllib.parse import unquote, urlsplit

from proxy import headers
from proxy.errors import Unreachable, told
from proxy.providers.origin import Origin
from proxy.providers.provider import Connection
from proxy.settings import UpstreamSettings

MAX_GREETING_BYTES = 65536


class Dialer:
    """Opens connections to *origin*."""

    def __init__(self, origin: Origin, settings: UpstreamSettings) -> None:
        self._origin = origin
        self._timeout_s = settings.connect_timeout_s
        self._tls = _tls(settings) if origin.secure else None
        self._proxy = urlsplit(settings.proxy_url) if settings.proxy_url else None

    def __repr__(self) -> str:
        return f"<Dialer to {self._where()}>"

    @property
    def absolute(self) -> tuple[bytes, list[tuple[bytes, bytes]]]:
        """What goes before the target, and which fields are added, where an outgoing proxy reads our requests."""
        if self._proxy is None or self._origin.secure:
            return b"", []
        return b"http://" + self._origin.authority, _proxy_authorization(self._proxy.username, self._proxy.password)

    async def connect(self) -> Connection:
        """A new connection, TLS and outgoing proxy included.

        Raises:
            Unreachable: it could not be made in ``upstream.connect_timeout_s``.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._connect()
        except TimeoutError as error:
            raise Unreachable(f"no connection to {self._where()} in {self._timeout_s:g} s") from error
        except OSError as error:
            raise Unreachable(f"cannot connect to {self._where()}: {told(error)}") from error

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        handler = Connection(loop)
        if self._proxy is None:
            await loop.create_connection(
                lambda: handler,
                self._origin.host,
                self._origin.port,
                ssl=self._tls,
                server_hostname=self._origin.host if self._tls else None,
            )
            return handler
        proxy_host, proxy_port = self._proxy.hostname or "", self._proxy.port or 80
        if self._tls is None:
            await loop.create_connection(lambda: handler, proxy_host, proxy_port)
            return handler
        greeting = _Greeting(loop)
        plain, _ = await loop.create_connection(lambda: greeting, proxy_host, proxy_port)
        try:
            # CONNECT names the port always (RFC 9110 section 9.3.6).
            where = self._origin.host.encode("idna") + b":%d" % self._origin.port
            fields = [(b"Host", where), *_proxy_authorization(self._proxy.username, self._proxy.password)]
            plain.write(headers.head(b"CONNECT " + where + b" HTTP/1.1", fields))
            answer = await greeting.answer
            if answer.split(b" ", 2)[1:2] != [b"200"]:
                raise OSError(f"the outgoing proxy refused the tunnel: {answer.splitlines()[0][:80]!r}")
            transport = await loop.start_tls(plain, handler, self._tls, server_hostname=self._origin.host)
            if transport is None:
                raise OSError("the TLS handshake failed")
        except BaseException:
            plain.abort()
            raise
        handler.connection_made(transport)
        return handler

    def _where(self) -> str:
        if self._proxy is not None:
            return f"{self._origin.identity.decode()} through {self._proxy.hostname}:{self._proxy.port}"
        return self._origin.identity.decode()


class _Greeting(asyncio.Protocol):
    """Reads the outgoing proxy's answer to CONNECT; behind it nothing comes until we speak."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.answer: asyncio.Future[bytes] = loop.create_future()
        self._octets = b""

    def data_received(self, data: bytes) -> None:
        self._octets += data
        if self.answer.done():
            return
        if b"\r\n\r\n" in self._octets:
            self.answer.set_result(self._octets)
        elif len(self._octets) > MAX_GREETING_BYTES:
            self.answer.set_exception(OSError("the outgoing proxy's answer does not end"))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc or OSError("the outgoing proxy closed the connection"))


def _tls(settings: UpstreamSettings) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if settings.ca_file:
        context.load_verify_locations(cafile=settings.ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _proxy_authorization(user: str | None, password: str | None) -> list[tuple[bytes, bytes]]:
    if user is None:
        return []
    credentials = f"{unquote(user)}:{unquote(password or '')}".encode()
    return [(b"Proxy-Authorization", b"Basic " + b64encode(credentials))]
