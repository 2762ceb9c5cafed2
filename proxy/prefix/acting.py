"""What is set in one request, and the request with it: by splice into the client's own octets."""

from proxy.prefix import splice
from proxy.prefix.marks import NONE, Marks
from proxy.prefix.prompt import Part, Prompt, Segment
from proxy.prefix.splice import Insertion, NotThere, Text
from proxy.values import value

ACTS = frozenset({"chat", "messages"})
"""Responses repeats the fields of its request in its answer: the client would see ours."""

_VALUES: dict[str, object] = {
    "cache_control": {"type": "ephemeral"},
    "prompt_cache_breakpoint": {"mode": "explicit"},
}


@value
class Action:
    """What is set."""

    key: str = ""
    marks: Marks = NONE
    mark: str = ""
    """The field that marks."""

    def __bool__(self) -> bool:
        return bool(self.key) or bool(self.marks)

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of what is set, as an error of the provider's would name them."""
        named = ["prompt_cache_key"] if self.key else []
        named += [self.mark] if self.marks.numbers else []
        return (*named, "prompt_cache_options") if self.marks.explicit else tuple(named)


def shaped(body: bytes, prompt: Prompt, action: Action) -> bytes | None:
    """*body* with what *action* sets put in between; None where it is not what it was taken for."""
    try:
        text = Text(body)
        insertions: list[Insertion] = []
        if action.key:
            insertions += text.member((), "prompt_cache_key", action.key)
        if action.marks.explicit:
            insertions += text.member((), "prompt_cache_options", {"mode": "explicit"})
        for number in action.marks.numbers:
            insertions += _mark(text, prompt.segments[number], action.mark)
        return splice.with_insertions(body, insertions)
    except NotThere:
        return None


def _mark(text: Text, segment: Segment, field: str) -> list[Insertion]:
    given = _VALUES[field]
    if segment.part is Part.TOOLS or not segment.said:
        return text.member(segment.at, field, given)
    if segment.at[-1] == "text":
        return text.member(segment.at[:-1], field, given)
    return text.wrapped(segment.at, field, given)


def markable(segment: Segment, field: str) -> bool:
    """Whether *field* may stand behind *segment*: providers refuse marks where they know none."""
    if segment.said:
        # A bare string within a list of parts cannot become a part without its neighbours.
        whole = segment.at[-1] == "text" or isinstance(segment.at[-1], str)
        allowed = field == "cache_control" or segment.role in ("system", "developer", "user")
        return whole and allowed and bool(segment.octets.strip())
    if field != "cache_control":
        return False
    return segment.part is Part.TOOLS or segment.kind in ("image", "document", "tool_use", "tool_result")
