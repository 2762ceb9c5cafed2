"""An Anthropic stream as the message that it tells, and a message as the events that tell it."""

from collections.abc import Iterator

from proxy import sse
from proxy.dialects import jsontext
from proxy.dialects.pieces import Unfaithful
from proxy.model import Form

# What a message does not have yet when it starts: told by `message_delta`.
_AT_THE_END = ("stop_reason", "stop_sequence", "stop_details", "container")
_BESIDE_THE_END = ("context_management",)

# The member that each kind of delta adds to, and its member in the block.
_TEXTS = {"text_delta": ("text", "text"), "thinking_delta": ("thinking", "thinking")}


def trim(body: bytes, have: Form, want: Form) -> bytes:
    """Never: these streams have no options, so two of them never differ in form."""
    raise Unfaithful("there is only one kind of stream")


def fold(body: bytes) -> bytes:
    """The message that the stream in *body* tells."""
    frames, rest = sse.read(body)
    events = [_object(jsontext.read(frame.data, unique=True)) for frame in frames if frame.data is not None]
    kinds = [event.get("type") for event in events]
    if rest.strip() or kinds[-1:] != ["message_stop"] or kinds[:1] != ["message_start"]:
        raise Unfaithful("the stream does not tell one message from start to stop")
    message = dict(_object(events[0].get("message")))
    blocks: list[Block] = []
    billed = False
    for event in events[1:-1]:
        match event.get("type"):
            case "content_block_start":
                if event.get("index") != len(blocks):
                    raise Unfaithful("a block is out of its place")
                blocks.append(Block(_object(event.get("content_block"))))
            case "content_block_delta":
                _block(blocks, event).add(_object(event.get("delta")))
            case "content_block_stop":
                _block(blocks, event).ended = True
            case "message_delta":
                usage = _object(event.get("usage"))
                billed = billed or usage.get("output_tokens") is not None
                # Cumulative figures: a later one replaces an earlier one, a null leaves it standing.
                before = _object(message.get("usage"))
                told = {name: value for name, value in usage.items() if value is not None or name not in before}
                message["usage"] = before | told
                message |= _object(event.get("delta"))
                message |= {name: value for name, value in event.items() if name not in ("type", "delta", "usage")}
            case "ping":
                pass
            case _:
                raise Unfaithful("an event of a type that we do not know")
    if not billed or message.get("content") != [] or message.get("stop_reason") is None:
        raise Unfaithful("the stream does not tell how it ended and what it cost")
    return jsontext.write(message | {"content": [block.whole() for block in blocks]})


def unfold(body: bytes, want: Form) -> bytes:
    """The message in *body* as a stream of events."""
    message = _object(jsontext.read(body, unique=True))
    return b"".join(sse.event(jsontext.write(event), str(event["type"])) for event in _events(message))


class Block:
    """A content block in the making, of the pieces that a stream tells."""

    def __init__(self, start: dict[str, object]) -> None:
        self._block = dict(start)
        self._texts: dict[str, list[str]] = {}
        self._input: list[str] = []
        self._citations: list[object] = []
        self.ended = False

    def __repr__(self) -> str:
        return f"<Block {self._block.get('type')}>"

    def add(self, delta: dict[str, object]) -> None:
        """Take in one delta."""
        if self.ended or "type" not in delta or len(delta) != 2:
            raise Unfaithful("a delta says more than we know to place")
        match delta:
            case {"type": "text_delta" | "thinking_delta" as kind} if isinstance(delta.get(_TEXTS[kind][0]), str):
                name, member = _TEXTS[kind]
                start = self._block.get(member) or ""
                if not isinstance(start, str):
                    raise Unfaithful("a text continues something else")
                self._texts.setdefault(member, [start]).append(str(delta[name]))
            case {"type": "input_json_delta", "partial_json": str() as piece}:
                self._input.append(piece)
            case {"type": "citations_delta", "citation": dict() as citation}:
                self._citations.append(citation)
            case {"type": "signature_delta", "signature": str() as signature}:
                # One signature seals the whole thought; SDKs replace, so two would not add up.
                if self._block.get("signature"):
                    raise Unfaithful("a thought is signed twice")
                self._block["signature"] = signature
            case _:
                raise Unfaithful("a delta of a type that we do not know")

    def whole(self) -> dict[str, object]:
        """The finished block."""
        if not self.ended:
            raise Unfaithful("a block has no end")
        told: dict[str, object] = {member: "".join(pieces) for member, pieces in self._texts.items()}
        if spelled := "".join(self._input):
            told["input"] = jsontext.read(spelled.encode(), unique=True)
        if self._citations:
            before = self._block.get("citations") or []
            if not isinstance(before, list):
                raise Unfaithful("citations are no list")
            told["citations"] = before + self._citations
        return self._block | told


def _events(message: dict[str, object]) -> Iterator[dict[str, object]]:
    usage = _object(message.get("usage"))
    blocks = message.get("content")
    if not isinstance(blocks, list) or message.get("stop_reason") is None or usage.get("output_tokens") is None:
        raise Unfaithful("the message does not tell how it ended and what it cost")
    unsaid = {name: None for name in _AT_THE_END if name in message}
    beside = {name: message[name] for name in _BESIDE_THE_END if name in message}
    start = {name: value for name, value in message.items() if name not in beside} | unsaid
    # Nothing is put out yet; the last figure replaces this one.
    yield {"type": "message_start", "message": start | {"content": [], "usage": usage | {"output_tokens": 0}}}
    for index, block in enumerate(blocks):
        at = {"index": index}
        blank, deltas = _taken_apart(_object(block))
        yield {"type": "content_block_start", **at, "content_block": blank}
        for delta in deltas:
            yield {"type": "content_block_delta", **at, "delta": delta}
        yield {"type": "content_block_stop", **at}
    ending = {name: message[name] for name in _AT_THE_END if name in message}
    cost = {"output_tokens": usage["output_tokens"]}
    yield {"type": "message_delta", "delta": ending, **beside, "usage": cost}
    yield {"type": "message_stop"}


def _taken_apart(block: dict[str, object]) -> tuple[dict[str, object], list[dict[str, object]]]:
    match block:
        case {"type": "text", "text": str() as text}:
            citations = block.get("citations") or []
            if not isinstance(citations, list):
                raise Unfaithful("citations are no list")
            blank = block | {"text": ""} | ({"citations": []} if citations else {})
            deltas = _delta("text_delta", "text", text)
            deltas += ({"type": "citations_delta", "citation": _object(citation)} for citation in citations)
            return blank, deltas
        case {"type": "thinking", "thinking": str() as thought}:
            signature = block.get("signature", "")
            if not isinstance(signature, str):
                raise Unfaithful("a signature is no text")
            blank = block | {"thinking": ""} | ({"signature": ""} if "signature" in block else {})
            sealed = _delta("signature_delta", "signature", signature)
            return blank, [*_delta("thinking_delta", "thinking", thought), *sealed]
        case {"type": "tool_use", "input": dict() as given}:
            spelled = jsontext.write(given).decode() if given else ""
            return block | {"input": {}}, [{"type": "input_json_delta", "partial_json": spelled}]
        case {"type": "redacted_thinking"}:
            return block, []
        case _:
            raise Unfaithful("a block of a type whose events we do not know")


def _delta(kind: str, member: str, text: str) -> list[dict[str, object]]:
    return [{"type": kind, member: text}] if text else []


def _block(blocks: list[Block], event: dict[str, object]) -> Block:
    index = event.get("index")
    if isinstance(index, int) and 0 <= index < len(blocks):
        return blocks[index]
    raise Unfaithful("a delta of a block that never began")


def _object(value: object) -> dict[str, object]:
    if isinstance(value, dict):
        return value
    raise Unfaithful("an object is missing")
