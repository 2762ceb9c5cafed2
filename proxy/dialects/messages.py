"""Anthropic's Messages: ``POST /messages``."""

from dataclasses import dataclass, field

from proxy import sse
from proxy.dialects import jsontext, messages_stream, tools
from proxy.dialects.asked import asked_form
from proxy.dialects.change import changed
from proxy.dialects.verdict import Evidence, is_error, says, weigh
from proxy.model import Finding, Form, Json, Reason, Unkept

LEFT_OUT = frozenset(
    {
        # Says how the answer is framed, not what it is: the form of the call (`Form`), which separates on its own.
        "stream",
        # Buys speed. The usage names the tier that served, which stays true of a recorded answer.
        "service_tier",
        # The other fields that chat leaves out are unknown here, and unknown fields count.
    }
)

# Blocks that nobody but the model and the client has a part in. Everything else (`server_tool_use`,
# `web_search_tool_result`, `mcp_tool_use`, what comes next) shows that a tool ran.
PURE_BLOCKS = frozenset({"text", "thinking", "redacted_thinking", "tool_use", "compaction"})

# One vendor, one short list: a stop reason that is not in it may be a pause, so it is not taken for an end.
# `refusal` is not the model declining in its own words (that is an `end_turn`) but a classifier that cut the answer
# off where it stood, often to nothing: a content filter by another name, and a switch may allow it like one.
_ENDS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
}


@dataclass(frozen=True, slots=True)
class Messages:
    """The Anthropic Messages dialect."""

    name: str = "messages"
    left_out: frozenset[str] = field(default=LEFT_OUT)
    deterministic: bool = False
    allowed: frozenset[str] = frozenset()
    """Families of the provider's tools whose answers may be kept."""

    def form(self, request: Json) -> Form:
        """The form that *request* asks for. ``stream_options`` is none of this endpoint's: it counts as a field."""
        return asked_form({"stream": request.get("stream")})

    def refuses(self, request: Json) -> Reason | None:
        """Why *request* must not be answered from a cache, or None."""
        if request.get("thread") is not None:
            return Reason.STATEFUL
        acts = any(
            request.get(name) not in (None, []) and family not in self.allowed
            for name, family in (("container", "code_execution"), ("mcp_servers", "mcp"))
        )
        return Reason.SIDE_EFFECT if acts or tools.acts(request.get("tools"), self.allowed) else None

    def examine(self, body: bytes, form: Form) -> Finding:
        """Judge a finished answer recorded in *form*."""
        return weigh(body, form, stream=_read_stream, whole=_read_whole, allowed=self.allowed)

    def render(self, body: bytes, have: Form, want: Form) -> bytes | None:
        """*body* in form *want*, or None where that would not be faithful."""
        return changed(
            body, have, want, trim=messages_stream.trim, fold=messages_stream.fold, unfold=messages_stream.unfold
        )


def _read_stream(body: bytes, evidence: Evidence) -> None:
    frames, _ = sse.read(body)
    usage: dict[str, object] = {}
    stop: object = None
    open_blocks: set[object] = set()
    ended = False
    for frame in frames:
        if frame.data is None:
            continue
        if frame.name == "error":
            evidence.faults.add(Unkept.ERROR_INSIDE)
        event = jsontext.read(frame.data)
        if not isinstance(event, dict):
            raise ValueError("an event is not an object")
        if is_error(event):
            evidence.faults.add(Unkept.ERROR_INSIDE)
        match event.get("type"):
            case "message_start":
                message = _object(event.get("message"))
                evidence.named(message.get("model"))
                usage |= _usage(message)
                _look_around(message, evidence)
            case "content_block_start":
                _look(_object(event.get("content_block")), evidence)
                open_blocks.add(_place(event))
            case "content_block_delta":
                evidence.said = evidence.said or says(event.get("delta"))
            case "content_block_stop":
                open_blocks.discard(_place(event))
            case "message_delta":
                delta = _object(event.get("delta"))
                stop = delta.get("stop_reason") or stop
                usage |= _usage(event)
                _look_around(delta, evidence)
            case "message_stop":
                ended = True
            case _:
                # Pings, and events that are yet to be invented.
                pass
    if not frames and is_error(_object(jsontext.read(body))):
        evidence.faults.add(Unkept.ERROR_INSIDE)
    _close(evidence, usage, stop)
    if not ended or open_blocks:
        evidence.faults.add(Unkept.INCOMPLETE)


def _read_whole(body: bytes, evidence: Evidence) -> None:
    message = _object(jsontext.read(body))
    if is_error(message):
        evidence.faults.add(Unkept.ERROR_INSIDE)
    evidence.named(message.get("model"))
    _close(evidence, _usage(message), message.get("stop_reason"))
    _look_around(message, evidence)
    blocks = message.get("content")
    if not isinstance(blocks, list):
        raise ValueError("the message has no content")
    for block in blocks:
        _look(_object(block), evidence)


def _close(evidence: Evidence, usage: dict[str, object], stop: object) -> None:
    evidence.billed(usage)
    evidence.stopped(_ENDS.get(jsontext.word(stop)))
    used = usage.get("server_tool_use")
    if isinstance(used, dict):
        evidence.acted(*(name for name, times in used.items() if times))


def _look(block: dict[str, object], evidence: Evidence) -> None:
    kind = jsontext.word(block.get("type"))
    if kind not in PURE_BLOCKS:
        # The use of a server's tool tells which by its name; what the tool left, by its type.
        evidence.acted(jsontext.word(block.get("name")) if kind == "server_tool_use" else kind)
    evidence.said = evidence.said or block.get("type") == "tool_use" or says(block)


def _look_around(message: dict[str, object], evidence: Evidence) -> None:
    if message.get("container") is not None:
        evidence.acted("code_execution")


def _usage(holder: dict[str, object]) -> dict[str, object]:
    usage = holder.get("usage")
    # Figures in a later event replace earlier ones; a null leaves them standing.
    return {name: value for name, value in usage.items() if value is not None} if isinstance(usage, dict) else {}


def _place(event: dict[str, object]) -> int:
    index = event.get("index")
    return index if isinstance(index, int) else 0


def _object(value: object) -> dict[str, object]:
    if isinstance(value, dict):
        return value
    raise ValueError("an object is missing")
