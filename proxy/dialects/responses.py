"""The Responses API: ``POST /responses``."""

from dataclasses import dataclass, field

from proxy import sse
from proxy.dialects import jsontext, responses_stream, tools
from proxy.dialects.asked import asked_form
from proxy.dialects.change import changed
from proxy.dialects.choices import DONE
from proxy.dialects.verdict import Evidence, is_error, says, weigh
from proxy.model import Finding, Form, Json, Reason, Unkept

LEFT_OUT = frozenset(
    {
        # Say how the answer is framed, not what it is: the form of the call (`Form`), which separates on its own.
        "stream",
        "stream_options",
        # Buys speed. The answer's own `service_tier` tells how it was made, which stays true of a recorded one.
        "service_tier",
        # Not here: `user`, `safety_identifier`, `metadata` and the three `prompt_cache_*` fields. The response object
        # repeats the client's own words in them, so an answer to other words would be another client's.
    }
)

# Items of an answer that nobody but the model and the client has a part in. Everything else (`web_search_call`,
# `code_interpreter_call`, `mcp_list_tools`, what comes next) shows that a tool ran.
PURE_ITEMS = frozenset({"message", "reasoning", "function_call", "custom_tool_call", "apply_patch_call", "compaction"})

_TERMINAL = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})


@dataclass(frozen=True, slots=True)
class Responses:
    """The Responses dialect."""

    name: str = "responses"
    left_out: frozenset[str] = field(default=LEFT_OUT)
    deterministic: bool = False
    allowed: frozenset[str] = frozenset()
    """Families of the provider's tools whose answers may be kept."""

    def form(self, request: Json) -> Form:
        """The form that *request* asks for. Its usage always comes, with the last event."""
        return asked_form(request, include_obfuscation=True)

    def refuses(self, request: Json) -> Reason | None:
        """Why *request* must not be answered from a cache, or None. That it is stored (the default) is no reason."""
        # A prompt by id is a text that the provider keeps and its owner may change.
        remembers = any(request.get(name) is not None for name in ("previous_response_id", "conversation", "prompt"))
        if remembers or request.get("background") not in (None, False) or _refers(request.get("input")):
            return Reason.STATEFUL
        return Reason.SIDE_EFFECT if tools.acts(request.get("tools"), self.allowed) else None

    def examine(self, body: bytes, form: Form) -> Finding:
        """Judge a finished answer recorded in *form*."""
        return weigh(body, form, stream=_read_stream, whole=_read_whole, allowed=self.allowed)

    def render(self, body: bytes, have: Form, want: Form) -> bytes | None:
        """*body* in form *want*, or None where that would not be faithful."""
        return changed(
            body, have, want, trim=responses_stream.trim, fold=responses_stream.fold, unfold=responses_stream.unfold
        )


def _refers(given: object) -> bool:
    if not isinstance(given, list):
        return False
    # An item reference may leave out its type; an id and nothing that says anything gives it away.
    return any(
        isinstance(item, dict)
        and (
            item.get("type") == "item_reference"
            or ("id" in item and item.get("type") is None and "content" not in item)
        )
        for item in given
    )


def _read_stream(body: bytes, evidence: Evidence) -> None:
    frames, _ = sse.read(body)
    ended = False
    for frame in frames:
        # Some gateways end every kind of stream in [DONE].
        if frame.data is None or frame.data.strip() == DONE:
            continue
        if frame.name == "error":
            evidence.faults.add(Unkept.ERROR_INSIDE)
        event = jsontext.read(frame.data)
        if not isinstance(event, dict):
            raise ValueError("an event is not an object")
        if is_error(event):
            evidence.faults.add(Unkept.ERROR_INSIDE)
        kind = jsontext.word(event.get("type"))
        if kind in _TERMINAL:
            response = event.get("response")
            if not isinstance(response, dict):
                raise ValueError("the last event holds no response")
            ended = True
            _read_response(response, evidence)
        elif kind == "response.output_item.done":
            _read_item(event.get("item"), evidence)
        elif isinstance(response := event.get("response"), dict):
            evidence.named(response.get("model"))
    if not frames:
        # A JSON error under status 200, where a stream was asked for.
        _read_whole(body, evidence)
    if not ended:
        evidence.faults.add(Unkept.INCOMPLETE)


def _read_whole(body: bytes, evidence: Evidence) -> None:
    response = jsontext.read(body)
    if not isinstance(response, dict):
        raise ValueError("the answer is not an object")
    _read_response(response, evidence)


def _read_response(response: dict[str, object], evidence: Evidence) -> None:
    if is_error(response):
        evidence.faults.add(Unkept.ERROR_INSIDE)
    evidence.named(response.get("model"))
    evidence.billed(response.get("usage"))
    evidence.served(response.get("service_tier"))
    match response.get("status"):
        case "completed":
            pass
        case "failed":
            evidence.faults.add(Unkept.ERROR_INSIDE)
        case "incomplete":
            details = response.get("incomplete_details")
            reason = details.get("reason") if isinstance(details, dict) else None
            # Of the reasons for an incomplete response, only these two are an end of its own kind.
            evidence.stopped(reason if reason in ("max_output_tokens", "content_filter") else None)
        case _:
            evidence.faults.add(Unkept.INCOMPLETE)
    items = response.get("output")
    if not isinstance(items, list):
        raise ValueError("the response has no output")
    for item in items:
        _read_item(item, evidence)
        if response.get("status") == "completed" and item.get("status") in ("in_progress", "incomplete"):
            evidence.faults.add(Unkept.INCOMPLETE)


def _read_item(item: object, evidence: Evidence) -> None:
    if not isinstance(item, dict):
        raise ValueError("an output item is not an object")
    kind = jsontext.word(item.get("type"))
    if kind not in PURE_ITEMS:
        evidence.acted(kind)
    match item.get("type"):
        case "message":
            said = says(item.get("content"))
        case "reasoning":
            # Hidden reasoning is an id and a sealed text; that alone answers nothing.
            said = says(item.get("summary")) or says(item.get("content"))
        case _:
            said = True
    evidence.said = evidence.said or said
