"""What differs between the endpoints: pure functions of bytes, and a table of who speaks what where."""

from collections.abc import Mapping
from types import MappingProxyType

from proxy.dialects.chat import Chat
from proxy.dialects.completions import Completions
from proxy.dialects.embeddings import Embeddings
from proxy.dialects.messages import Messages
from proxy.dialects.responses import Responses
from proxy.ports import Dialect

BY_SUFFIX: Mapping[str, Dialect] = MappingProxyType(
    {
        "/chat/completions": Chat(),
        "/completions": Completions(),
        "/responses": Responses(),
        "/embeddings": Embeddings(),
        "/messages": Messages(),
    }
)
"""The dialect that a path with this ending speaks; which paths end so is for `proxy.paths` to say."""
