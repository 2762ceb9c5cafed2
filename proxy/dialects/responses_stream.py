"""A Responses stream as its whole answer, and a whole answer as the events that the API documents for it."""

from collections.abc import Iterator

from proxy import sse
from proxy.dialects import jsontext
from proxy.dialects.choices import DONE
from proxy.dialects.pieces import Unfaithful
from proxy.model import Form

# How a finished response ends its stream, by its status. Others are never kept.
_ENDINGS = {"completed": "response.completed", "incomplete": "response.incomplete"}

Event = tuple[str, dict[str, object]]
"""An event before it has its number: its type and its other members."""


def trim(body: bytes, have: Form, want: Form) -> bytes:
    """The stream in *body* without the padding that *want* does not ask for."""
    frames, rest = sse.read(body)
    kept: list[bytes] = []
    for frame in frames:
        event = _event(frame)
        if event is not None and "obfuscation" in event and have.obfuscation and not want.obfuscation:
            del event["obfuscation"]
            kept.append(sse.with_data(frame, jsontext.write(event)))
        else:
            kept.append(frame.raw)
    return b"".join(kept) + rest


def fold(body: bytes) -> bytes:
    """The whole answer: the response that the last event of the stream in *body* holds."""
    frames, rest = sse.read(body)
    events = [event for event in map(_event, frames) if event is not None]
    items = sum(event.get("type") == "response.output_item.done" for event in events)
    if rest.strip() or not events or events[-1].get("type") not in _ENDINGS.values():
        raise Unfaithful("the stream does not end in a finished response")
    response = events[-1].get("response")
    output = response.get("output") if isinstance(response, dict) else None
    # Some providers leave the output out of the last event, having sent it item by item.
    if not isinstance(output, list) or len(output) != items:
        raise Unfaithful("the last event does not hold what the stream told")
    return jsontext.write(response)


def unfold(body: bytes, want: Form) -> bytes:
    """The response in *body* as a stream of events."""
    response = jsontext.read(body, unique=True)
    if not isinstance(response, dict) or jsontext.word(response.get("status")) not in _ENDINGS:
        raise Unfaithful("the response is not a finished one")
    return b"".join(
        sse.event(jsontext.write({"type": kind, "sequence_number": number} | said), kind)
        for number, (kind, said) in enumerate(_events(response))
    )


def _event(frame: sse.Frame) -> dict[str, object] | None:
    if frame.data is None or frame.data.strip() == DONE:
        return None
    event = jsontext.read(frame.data, unique=True)
    if not isinstance(event, dict):
        raise Unfaithful("an event is not an object")
    return event


def _events(response: dict[str, object]) -> Iterator[Event]:
    unfinished: dict[str, object] = {
        "status": "in_progress",
        "output": [],
        "usage": None,
        "incomplete_details": None,
        "completed_at": None,
    }
    opening = response | {name: value for name, value in unfinished.items() if name in response}
    yield "response.created", {"response": opening}
    yield "response.in_progress", {"response": opening}
    output = response.get("output")
    if not isinstance(output, list):
        raise Unfaithful("the response has no output")
    for place, item in enumerate(output):
        yield from _item_events(item, place)
    yield _ENDINGS[str(response["status"])], {"response": response}


def _item_events(item: object, place: int) -> Iterator[Event]:
    if not isinstance(item, dict) or not isinstance(item.get("id"), str):
        raise Unfaithful("an output item has no id to speak of it")
    at = {"item_id": item["id"], "output_index": place}
    match item.get("type"):
        case "message":
            blank: dict[str, object] = {"content": []}
            told = _parts(item.get("content"), at)
        case "reasoning":
            blank = {
                name: [] for name in ("summary", "content") if name == "summary" or isinstance(item.get(name), list)
            }
            told = _thoughts(item, at)
        case "function_call":
            blank = {"arguments": ""}
            told = _call(item, "arguments", "response.function_call_arguments", at, {"name": item.get("name")})
        case "custom_tool_call":
            blank = {"input": ""}
            told = _call(item, "input", "response.custom_tool_call_input", at, {})
        case _:
            raise Unfaithful("an output item of a type whose events we do not know")
    begun = {"status": "in_progress"} if "status" in item else {}
    yield "response.output_item.added", {"output_index": place, "item": item | begun | blank}
    yield from told
    yield "response.output_item.done", {"output_index": place, "item": item}


def _parts(content: object, at: dict[str, object]) -> Iterator[Event]:
    for number, part in enumerate(_objects(content)):
        here = at | {"content_index": number}
        match part.get("type"):
            case "output_text":
                logged = {"logprobs": part.get("logprobs") or []}
                blank: dict[str, object] = {"text": "", "annotations": []}
                if "logprobs" in part:
                    blank["logprobs"] = []
                told = _text(part, "text", "response.output_text", here, logged)
            case "refusal":
                blank = {"refusal": ""}
                told = _text(part, "refusal", "response.refusal", here, {})
            case "reasoning_text":
                blank = {"text": ""}
                told = _text(part, "text", "response.reasoning_text", here, {})
            case _:
                raise Unfaithful("a content part of a type whose events we do not know")
        yield "response.content_part.added", here | {"part": part | blank}
        yield from told
        yield "response.content_part.done", here | {"part": part}


def _text(
    part: dict[str, object], member: str, kind: str, here: dict[str, object], logged: dict[str, object]
) -> Iterator[Event]:
    text = _string(part, member)
    if text:
        yield f"{kind}.delta", here | {"delta": text} | logged
    for number, note in enumerate(_objects(part.get("annotations") or [])):
        yield "response.output_text.annotation.added", here | {"annotation_index": number, "annotation": note}
    yield f"{kind}.done", here | {member: text} | logged


def _thoughts(item: dict[str, object], at: dict[str, object]) -> Iterator[Event]:
    for number, part in enumerate(_objects(item.get("summary"))):
        if part.get("type") != "summary_text":
            raise Unfaithful("a summary part of a type whose events we do not know")
        here = at | {"summary_index": number}
        yield "response.reasoning_summary_part.added", here | {"part": part | {"text": ""}}
        yield from _text(part, "text", "response.reasoning_summary_text", here, {})
        yield "response.reasoning_summary_part.done", here | {"part": part}
    yield from _parts(item.get("content") or [], at)


def _call(
    item: dict[str, object], member: str, kind: str, at: dict[str, object], named: dict[str, object]
) -> Iterator[Event]:
    said = _string(item, member)
    if said:
        yield f"{kind}.delta", at | {"delta": said}
    yield f"{kind}.done", at | named | {member: said}


def _string(value: dict[str, object], member: str) -> str:
    text = value.get(member)
    if isinstance(text, str):
        return text
    raise Unfaithful(f"{member} is not a text")


def _objects(value: object) -> list[dict[str, object]]:
    found = [part for part in value if isinstance(part, dict)] if isinstance(value, list) else None
    if found is None or not isinstance(value, list) or len(found) != len(value):
        raise Unfaithful("a list of parts is something else")
    return found
