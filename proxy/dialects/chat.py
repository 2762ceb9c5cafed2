"""Chat completions: ``POST /chat/completions``."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType

from proxy.dialects import chat_fold, chat_unfold, choices, chunks, tools
from proxy.dialects.asked import asked_form
from proxy.dialects.change import changed
from proxy.dialects.verdict import Evidence, says, weigh
from proxy.model import Finding, Form, Json, Reason, Unkept

LEFT_OUT = frozenset(
    {
        # Say how the answer is framed, not what it is: the form of the call (`Form`), which separates on its own.
        "stream",
        "stream_options",
        # Steer and pay for the provider's prompt cache, which returns the same tokens faster.
        "prompt_cache_key",
        "prompt_cache_retention",
        "prompt_cache_options",
        # Buys speed. The answer's own `service_tier` tells how it was made, which stays true of a recorded one.
        "service_tier",
        # Tell the provider who asks, for abuse and for dashboards. No chat answer echoes them.
        "user",
        "safety_identifier",
        "metadata",
    }
)

# Fields that make the provider look something up before it answers, each with the family of tools that does it: OpenAI
# and OpenRouter, xAI, DashScope, Azure.
LOOKING_UP: Mapping[str, str] = MappingProxyType(
    {
        "web_search_options": "web_search",
        "plugins": "web_search",
        "search_parameters": "web_search",
        "enable_search": "web_search",
        "data_sources": "file_search",
    }
)

# Models that search the web without being told to: OpenRouter's suffix, OpenAI's, Perplexity's, Groq's.
SEARCHING_MODEL = re.compile(r":online$|-search-preview|-search-api|(^|/)sonar|(^|/)compound")


@dataclass(frozen=True, slots=True)
class Chat:
    """The chat completions dialect."""

    name: str = "chat"
    left_out: frozenset[str] = field(default=LEFT_OUT)
    deterministic: bool = False
    allowed: frozenset[str] = frozenset()
    """Families of the provider's tools whose answers may be kept."""

    def form(self, request: Json) -> Form:
        """The form that *request* asks for."""
        return asked_form(request, include_usage=True, include_obfuscation=True)

    def refuses(self, request: Json) -> Reason | None:
        """Why *request* must not be answered from a cache, or None."""
        model = request.get("model")
        side_effect = (
            request.get("store") not in (None, False)
            # An empty object switches a search on; an empty list names no plugin and no source.
            or any(
                request[name] not in (None, False, []) and LOOKING_UP[name] not in self.allowed
                for name in LOOKING_UP.keys() & request.keys()
            )
            or (
                "web_search" not in self.allowed
                and isinstance(model, str)
                and SEARCHING_MODEL.search(model) is not None
            )
            or tools.acts(request.get("tools"), self.allowed)
        )
        return Reason.SIDE_EFFECT if side_effect else None

    def examine(self, body: bytes, form: Form) -> Finding:
        """Judge a finished answer recorded in *form*."""
        return weigh(body, form, stream=_READ_STREAM, whole=_READ_WHOLE, allowed=self.allowed)

    def render(self, body: bytes, have: Form, want: Form) -> bytes | None:
        """*body* in form *want*, or None where that would not be faithful."""
        return changed(body, have, want, trim=chunks.trim, fold=chat_fold.fold, unfold=chat_unfold.unfold)


def _look(member: str, choice: dict[str, object], evidence: Evidence) -> None:
    message = choice.get(member)
    if message is None:
        if member == "message":
            evidence.faults.add(Unkept.INCOMPLETE)
        return
    if not isinstance(message, dict):
        raise ValueError(f"the {member} of a choice is not an object")
    evidence.said = evidence.said or says(message)
    if message.get("executed_tools"):
        # They may have been either, and say so in words of their provider's own.
        evidence.acted("web_search", "code_interpreter")
    if _cites(message.get("annotations")):
        evidence.acted("web_search")


def _look_around(value: dict[str, object], evidence: Evidence) -> None:
    # Perplexity lists what it found beside the choices.
    if value.get("search_results") or value.get("citations"):
        evidence.acted("web_search")


def _cites(annotations: object) -> bool:
    return isinstance(annotations, list) and any(
        isinstance(note, dict) and "citation" in str(note.get("type")) for note in annotations
    )


_READ_STREAM = partial(choices.read_stream, in_choice=partial(_look, "delta"), around=_look_around)
_READ_WHOLE = partial(choices.read_whole, in_choice=partial(_look, "message"), around=_look_around)
