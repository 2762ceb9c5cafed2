"""A conversation in one shape, read from a chat or a Responses request of any form, well-shaped or not."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Picture:
    """An image part: its address (a ``data:`` URL holds the image itself) and the detail asked for."""

    url: str
    detail: str = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A message. `opaque` counts its parts that no offline formula covers: audio, files, stored images."""

    role: str
    text: str
    name: str = ""
    pictures: tuple[Picture, ...] = ()
    opaque: int = 0


@dataclass(frozen=True, slots=True)
class Call:
    """One function call that the assistant made; `arguments` is the JSON text it wrote."""

    call_id: str
    name: str
    arguments: str
    by_id: bool = False
    """The item carries the id under which the provider gave it out (Responses)."""


@dataclass(frozen=True, slots=True)
class Called:
    """The calls of one assistant turn, made side by side."""

    calls: tuple[Call, ...]


@dataclass(frozen=True, slots=True)
class Returned:
    """What a function returned."""

    call_id: str
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Unseen:
    """An item whose tokens cannot be known here: encrypted reasoning, a reference, the doings of a server-side tool."""


Turn: TypeAlias = Said | Called | Returned | Unseen

_TEXT_PARTS = frozenset({"text", "input_text", "output_text", "refusal", "summary_text"})


def chat_turns(body: Mapping[str, object]) -> Iterator[Turn]:
    """Yield the turns of a chat completion request."""
    for message in objects(body.get("messages")):
        role = text_of(message.get("role"))
        said = _said(role, message.get("content"), message)
        if role in {"tool", "function"}:
            yield Returned(text_of(message.get("tool_call_id")), said.name, said.text)
            continue
        calls = tuple(_chat_calls(message))
        if not calls or said.text or said.pictures or said.opaque:
            yield said
        if calls:
            yield Called(calls)


def responses_turns(body: Mapping[str, object]) -> Iterator[Turn]:
    """Yield the turns of a Responses request: its instructions, then its input."""
    instructions = body.get("instructions")
    if isinstance(instructions, str) and instructions:
        yield Said(role="developer", text=instructions)
    given = body.get("input")
    if isinstance(given, str):
        yield Said(role="user", text=given)
        return
    calls: list[Call] = []
    for item in objects(given):
        kind = text_of(item.get("type", "message"))
        # A reasoning item stands between calls that were made side by side.
        if calls and kind not in {"function_call", "custom_tool_call", "reasoning"}:
            yield Called(tuple(calls))
            calls = []
        match kind:
            case "message":
                yield _said(text_of(item.get("role")), item.get("content"), item)
            case "function_call" | "custom_tool_call":
                arguments = text_of(item.get("arguments")) or text_of(item.get("input"))
                calls.append(
                    Call(text_of(item.get("call_id")), text_of(item.get("name")), arguments, by_id="id" in item)
                )
            case "function_call_output" | "custom_tool_call_output":
                output = _said("tool", item.get("output"), {})
                yield Returned(text_of(item.get("call_id")), "", output.text)
                if output.pictures or output.opaque:
                    yield Unseen()
            case _:
                yield Unseen()
    if calls:
        yield Called(tuple(calls))


def objects(value: object) -> Iterator[Mapping[str, object]]:
    """Yield the JSON objects in a JSON array; nothing from any other value."""
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for item in value:
            if isinstance(item, Mapping):
                yield item


def text_of(value: object) -> str:
    """Return *value* if it is a text, else nothing."""
    return value if isinstance(value, str) else ""


def object_of(value: object) -> Mapping[str, object]:
    """Return *value* if it is a JSON object, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def _said(role: str, content: object, message: Mapping[str, object]) -> Said:
    # The texts of parts are put together with nothing between them.
    texts: list[str] = [text_of(content)]
    pictures: list[Picture] = []
    opaque = 0
    for part in objects(content):
        kind = text_of(part.get("type"))
        if kind in _TEXT_PARTS:
            texts.append(text_of(part.get("text")) or text_of(part.get("refusal")))
        elif kind in {"image_url", "input_image"}:
            image = part.get("image_url")
            holder = image if isinstance(image, Mapping) else part
            url = text_of(holder.get("url")) if isinstance(image, Mapping) else text_of(image)
            pictures.append(Picture(url, text_of(holder.get("detail")) or "auto"))
        else:
            opaque += 1
    texts.append(text_of(message.get("refusal")))
    return Said(
        role=role,
        text="".join(texts),
        name=text_of(message.get("name")),
        pictures=tuple(pictures),
        opaque=opaque + (1 if isinstance(message.get("audio"), Mapping) else 0),
    )


def _chat_calls(message: Mapping[str, object]) -> Iterator[Call]:
    for call in objects(message.get("tool_calls")):
        function = object_of(call.get("function") or call.get("custom"))
        arguments = text_of(function.get("arguments")) or text_of(function.get("input"))
        yield Call(text_of(call.get("id")), text_of(function.get("name")), arguments)
    legacy = message.get("function_call")
    if isinstance(legacy, Mapping):
        yield Call("", text_of(legacy.get("name")), text_of(legacy.get("arguments")))
