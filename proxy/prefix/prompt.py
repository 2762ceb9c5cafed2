"""A request's prompt in the order in which providers render it: tools, response format, system, turns."""

import json
from collections.abc import Iterator, Mapping
from enum import StrEnum

from proxy.model import Json
from proxy.values import value

DIALECTS = frozenset({"chat", "completions", "responses", "messages"})
"""Those whose providers keep prompts."""

SETTINGS = (
    "parallel_tool_calls",
    "reasoning_effort",
    "verbosity",
    "reasoning",
    "thinking",
    "tool_choice",
)
"""Fields that providers render into the prompt, or keep apart by."""

CACHE_FIELDS = frozenset(
    {
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_breakpoint",
        "prompt_cache_retention",
        "cache_control",
        "cachePoint",
        "cache_salt",
    }
)
"""A client that names one of these looks after the provider's prompt cache itself."""

MARKS = ("cache_control", "prompt_cache_breakpoint")

MAX_SEGMENTS = 4096
"""What lies behind so many is not looked at."""

At = tuple[str | int, ...]


class Part(StrEnum):
    """What a piece of a prompt is."""

    TOOLS = "tools"
    FORMAT = "format"
    SYSTEM = "system"
    TURN = "turn"


@value
class Segment:
    """A piece of the prompt that clients write as one value."""

    part: Part
    at: At
    """Where it stands in the request: ``("messages", 1, "content", 0, "text")``."""
    role: str
    octets: bytes
    marked: bool = False
    """The client set a breakpoint behind it."""
    ends_turn: bool = True
    """Nothing of the same message follows."""
    said: bool = True
    """It is text; else JSON that we spell out."""
    kind: str = ""
    """The ``type`` of a part that is no text."""

    @property
    def path(self) -> str:
        """Where it stands, as people write it: ``messages[1].content[0].text``."""
        return path_of(self.at)


@value
class Prompt:
    """All of it, and what the client says about caching."""

    model: str
    settings: tuple[tuple[str, str], ...]
    segments: tuple[Segment, ...]
    key: str = ""
    """The client's own ``prompt_cache_key``."""
    auto: bool = False
    """The client marked the request as a whole (``cache_control`` at the top)."""
    explicit: bool = False
    """``prompt_cache_options.mode`` is ``explicit``: the provider marks nothing itself."""

    @property
    def head(self) -> int:
        """How many segments stand before the first turn."""
        for number, segment in enumerate(self.segments):
            if segment.part is Part.TURN:
                return number
        return len(self.segments)

    @property
    def octets(self) -> int:
        """Its length."""
        return sum([len(segment.octets) for segment in self.segments])


def path_of(at: At) -> str:
    """*at* as people write it."""
    written = ""
    for step in at:
        written += f"[{step}]" if isinstance(step, int) else f".{step}" if written else step
    return written


def prompt_of(dialect: str, request: Json) -> Prompt | None:
    """The prompt of *request*; None where the endpoint has none that is cached. Survives any JSON."""
    if dialect not in DIALECTS:
        return None
    model, key, options = request.get("model"), request.get("prompt_cache_key"), request.get("prompt_cache_options")
    segments: list[Segment] = []
    for segment in _segments(dialect, request):
        segments.append(segment)
        if len(segments) >= MAX_SEGMENTS:
            break
    return Prompt(
        model=model[:128] if isinstance(model, str) else "",
        settings=tuple([(name, _spelled(request[name])) for name in SETTINGS if request.get(name) is not None]),
        segments=tuple(segments),
        key=key[:256] if isinstance(key, str) else "",
        auto=isinstance(request.get("cache_control"), dict),
        explicit=isinstance(options, dict) and options.get("mode") == "explicit",
    )


def steers_itself(request: Json) -> bool:
    """Whether the client set any field about the prompt cache, anywhere: then nothing is added to its request."""
    waiting: list[object] = [request]
    seen = 0
    while waiting:
        found = waiting.pop()
        seen += 1
        if seen > 16 * MAX_SEGMENTS:
            # Too much to look through; who cannot know leaves it alone.
            return True
        if isinstance(found, dict):
            if not CACHE_FIELDS.isdisjoint(found):
                return True
            waiting += [each for each in found.values() if isinstance(each, dict | list)]
        elif isinstance(found, list):
            waiting += [each for each in found if isinstance(each, dict | list)]
    return False


def _segments(dialect: str, request: Json) -> Iterator[Segment]:
    tools = request.get("tools")
    if isinstance(tools, list):
        for number, tool in enumerate(tools):
            yield Segment(
                part=Part.TOOLS,
                at=("tools", number),
                role="",
                octets=_octets(tool),
                marked=_marked(tool),
                said=False,
                ends_turn=number == len(tools) - 1,
            )
    shape = request.get("response_format")
    if shape is not None:
        yield Segment(part=Part.FORMAT, at=("response_format",), role="", octets=_octets(shape), said=False)
    text = request.get("text")
    if dialect == "responses" and isinstance(text, dict) and text.get("format") is not None:
        yield Segment(part=Part.FORMAT, at=("text", "format"), role="", octets=_octets(text["format"]), said=False)
    match dialect:
        case "messages":
            yield from _content(Part.SYSTEM, ("system",), "system", request.get("system"))
            yield from _turns(("messages",), request.get("messages"))
        case "chat":
            yield from _turns(("messages",), request.get("messages"))
        case "responses":
            yield from _content(Part.SYSTEM, ("instructions",), "system", request.get("instructions"))
            given = request.get("input")
            if isinstance(given, str):
                yield from _content(Part.TURN, ("input",), "user", given)
            else:
                yield from _turns(("input",), given)
        case _:
            yield from _content(Part.TURN, ("prompt",), "", request.get("prompt"))


_LEADING = frozenset({"system", "developer"})


def _turns(at: At, messages: object) -> Iterator[Segment]:
    if not isinstance(messages, list):
        return
    leading = True
    for number, message in enumerate(messages):
        here = (*at, number)
        if not isinstance(message, dict):
            yield Segment(part=Part.TURN, at=here, role="", octets=_octets(message), said=False)
            continue
        role = message.get("role")
        role = role if isinstance(role, str) else ""
        leading = leading and role in _LEADING
        part = Part.SYSTEM if leading else Part.TURN
        rest = {name: below for name, below in message.items() if name not in ("role", "content", *MARKS)}
        yield from _content(part, (*here, "content"), role, message.get("content"), more=bool(rest))
        if rest:
            yield Segment(part=part, at=here, role=role, octets=_octets(rest), marked=_marked(message), said=False)


def _content(part: Part, at: At, role: str, content: object, *, more: bool = False) -> Iterator[Segment]:
    if isinstance(content, str):
        if content:
            yield Segment(part=part, at=at, role=role, octets=_utf8(content), ends_turn=not more)
    elif isinstance(content, list):
        for number, piece in enumerate(content):
            here = (*at, number)
            last = number == len(content) - 1 and not more
            text = piece.get("text") if isinstance(piece, dict) else piece
            if isinstance(text, str):
                whole = isinstance(piece, str)
                yield Segment(
                    part=part,
                    at=here if whole else (*here, "text"),
                    role=role,
                    octets=_utf8(text),
                    marked=_marked(piece),
                    ends_turn=last,
                )
            else:
                yield Segment(
                    part=part,
                    at=here,
                    role=role,
                    octets=_octets(piece),
                    marked=_marked(piece),
                    ends_turn=last,
                    said=False,
                    kind=_kind(piece),
                )
    elif content is not None:
        yield Segment(part=part, at=at, role=role, octets=_octets(content), ends_turn=not more, said=False)


def _kind(piece: object) -> str:
    kind = piece.get("type") if isinstance(piece, dict) else None
    return kind if isinstance(kind, str) else ""


def _marked(piece: object) -> bool:
    return isinstance(piece, dict) and any(piece.get(name) is not None for name in MARKS)


# Members in the client's order, for providers render them as they come.
_ENCODER = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":"))


def _spelled(given: object) -> str:
    try:
        return _ENCODER.encode(given)
    except (RecursionError, ValueError):
        return ""


def _octets(given: object) -> bytes:
    if isinstance(given, Mapping) and any(name in given for name in MARKS):
        # Where a mark stands is no part of what the model reads.
        given = {name: below for name, below in given.items() if name not in MARKS}
    return _utf8(_spelled(given))


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
