"""Which provider a call goes to: decided by its path, and where that leaves a choice by the model it is for."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from proxy.providers.origin import origin
from proxy.settings import NamedUpstreamSettings, UpstreamSettings

DEFAULT = ""
"""The name of the provider that takes what no other does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One provider, as the decisions know it."""

    name: str = DEFAULT
    identity: bytes = b""
    """Goes into the exact key: answers of two providers are never one another's."""
    cached: bool = True
    """False: calls to it pass by the cache."""
    prefix: bytes = b""
    """Everything below this path is for it, and the prefix is for us: it is cut off."""
    paths: tuple[re.Pattern[bytes], ...] = ()
    models: tuple[str, ...] = ()
    """Patterns of which the model must fit one; none means any model."""
    more_paths: Mapping[bytes, str] = field(default_factory=dict)
    """Paths of its own that are cached, as it knows them, each with its suffix."""

    def fits(self, path: bytes) -> bool:
        """Whether calls to *path* may be for it, as far as the path can tell."""
        return not self.paths or any(pattern.fullmatch(path) for pattern in self.paths)

    def serves(self, model: str) -> bool:
        """Whether it takes calls for *model*."""
        return not self.models or any(fnmatchcase(model, pattern) for pattern in self.models)


@dataclass(frozen=True, slots=True)
class Way:
    """What is known of where a call goes when only its path is: the routes left, the last of them open to all."""

    routes: tuple[Route, ...] = (Route(),)
    cut: bytes = b""
    """What of the path is for us alone."""

    def route(self, model: str) -> Route:
        """Where a call for *model* goes; the empty text where nobody can read which model it names."""
        return next(route for route in self.routes if route.serves(model))

    @property
    def unread(self) -> Route:
        """Where a call goes whose body is not looked at."""
        return self.routes[-1]

    def inner(self, target: bytes) -> bytes:
        """*target* as the provider knows it."""
        if not self.cut:
            return target
        below = target[len(self.cut) :]
        return below if below.startswith(b"/") else b"/" + below

    def cached_as(self, path: bytes) -> str | None:
        """The suffix whose dialect *path* (an inner one) speaks because one of the routes says so, or None."""
        return next((route.more_paths[path] for route in self.routes if path in route.more_paths), None)


class Routing:
    """The routes in their order; the first that fits is taken."""

    def __init__(self, default: Route, named: Iterable[Route] = ()) -> None:
        self.routes = (*named, default)
        self._default = Way((default,))
        self._prefixed = [(route, Way((route,), cut=route.prefix)) for route in self.routes if route.prefix]
        self._others = [route for route in self.routes[:-1] if not route.prefix]

    def __repr__(self) -> str:
        return f"<Routing to {len(self.routes)} providers>"

    def way(self, path: bytes) -> Way:
        """Where calls to *path* go. A prefix decides alone, and before every other route."""
        for route, way in self._prefixed:
            if path.startswith(route.prefix) and path[len(route.prefix) : len(route.prefix) + 1] in (b"", b"/"):
                return way
        if not self._others:
            return self._default
        fitting: list[Route] = []
        for route in self._others:
            if route.fits(path):
                fitting.append(route)
                if not route.models:
                    return Way(tuple(fitting))
        return Way((*fitting, self.routes[-1])) if fitting else self._default


def routing(default: UpstreamSettings, named: Mapping[str, NamedUpstreamSettings]) -> Routing:
    """The routes that the settings describe."""
    return Routing(
        Route(identity=origin(default.url).identity),
        [
            Route(
                name=name,
                # The name as well: two names for one address differ in what their requests carry.
                identity=origin(settings.url).identity + b"#" + name.encode(),
                cached=settings.cache,
                prefix=settings.prefix.rstrip("/").encode(),
                paths=tuple(_pattern(path) for path in settings.paths),
                models=settings.models,
                more_paths={path.encode(): suffix for path, suffix in settings.more_paths.items()},
            )
            for name, settings in named.items()
        ],
    )


def _pattern(path: str) -> re.Pattern[bytes]:
    """*path*, in which ``*`` stands for anything, slashes included."""
    return re.compile(b".*".join(re.escape(part) for part in path.encode().split(b"*")), re.DOTALL)
