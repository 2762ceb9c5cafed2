"""Faults. An outcome that is expected (a miss, a refusal) is a value and never stands here.

AskonceError
├── ConfigError          a setting is wrong; the message names it and the remedy
├── ClientsError         the file of the clients, or what was asked of it, is wrong
├── CacheError           a store, an index or an embedder failed; costs a hit, never an answer
│   ├── Unreadable       what is kept is damaged, another's, or of another version
│   ├── ModelError       the local model is not there, or is not the one it should be
│   └── EmbedderError    an embedder failed, was too slow or has too much to do
└── UpstreamError        the provider could not be asked or did not answer
    ├── Unreachable      no connection
    ├── Broke            the connection failed before the answer was whole
    ├── Garbled          what came is not HTTP
    └── KeyRefused       it does not take the key that the proxy holds for its clients
"""


class AskonceError(Exception):
    """Everything that this package raises on purpose."""


class ConfigError(AskonceError):
    """A setting is wrong."""


class ClientsError(AskonceError):
    """The file of the clients is not what it should be, or cannot become what was asked for."""


class CacheError(AskonceError):
    """The cache failed; the call goes on without it."""


class Unreadable(CacheError):
    """What is kept cannot be read: it is as good as not there."""


class ModelError(CacheError):
    """The local model is not there, or is not the one it should be."""


class EmbedderError(CacheError):
    """No vectors or no judgement: it failed, was too slow or has too much to do."""


class UpstreamError(AskonceError):
    """The provider could not be asked or did not answer whole."""


class Unreachable(UpstreamError):
    """No connection to the provider."""


class Broke(UpstreamError):
    """The connection to the provider failed before its answer was whole."""


class Garbled(UpstreamError):
    """What came from the provider is not HTTP."""


class KeyRefused(UpstreamError):
    """The provider does not take the key that the proxy holds for its clients."""


def told(error: BaseException) -> str:
    """What *error* says; its name where it says nothing."""
    # Parsers quote what they stumbled over, line by line below the reason: that is somebody's answer.
    said = getattr(error, "message", None) or str(error)
    return str(said).partition("\n")[0].rstrip(": ") or type(error).__name__
