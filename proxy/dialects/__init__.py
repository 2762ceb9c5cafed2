"""What differs between the endpoints: pure functions of bytes, and a table of who speaks what where."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from proxy.dialects.chat import Chat
from proxy.dialects.completions import Completions
from proxy.dialects.embeddings import Embeddings
from proxy.dialects.messages import Messages
from proxy.dialects.responses import Responses
from proxy.ports import Dialect


def by_suffix(allowed: Iterable[str] = ()) -> Mapping[str, Dialect]:
    """The dialect that a path with each ending speaks; which paths end so is for `proxy.paths` to say.

    *allowed*: families of the provider's tools whose answers may be kept.
    """
    families = frozenset(allowed)
    return MappingProxyType(
        {
            "/chat/completions": Chat(allowed=families),
            "/completions": Completions(),
            "/responses": Responses(allowed=families),
            "/embeddings": Embeddings(),
            "/messages": Messages(allowed=families),
        }
    )


BY_SUFFIX = by_suffix()
"""The same where no tools of the provider are allowed."""
