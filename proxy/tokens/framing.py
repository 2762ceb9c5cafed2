"""The tokens around the texts: what messages, tools, calls and schemas cost beyond their own words, by family.

Found by search on recorded requests and their billed usage (`bench/tokens/marks.py` prints how well they hold, on the
repositories they were fitted on and on others). Where a figure has a likely reading in the chat format, it is named.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from proxy.tokens.families import Family

MESSAGE = 4
"""Start mark, role, separator, end mark."""

CALL = 7
"""A message to a function: `MESSAGE`, and the three tokens of " to=functions"."""

PARALLEL = 24
"""The one message that carries several calls of a classic model as JSON, and the one that brings their results."""

NAMED_CHOICE = 7
"""Beyond the name, when the request demands one function of a classic model. Reasoning models pay nothing."""

SCHEMA_HEADER = 2
"""Beyond the schema's name, in chat, in the header of each answer that follows it, the coming one included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Framing:
    """What one family adds."""

    answer_start: int
    """The opened message that the model is to fill."""
    message: int = 0
    """Beyond `MESSAGE` for every message."""
    assistant: int
    """Beyond `MESSAGE` for an earlier answer: the channel and its mark."""
    result: int
    """Beyond `MESSAGE` and the dotted name for a function's result: its author and addressee."""
    responses_result: int
    """The same in Responses, for a call that the client wrote anew."""
    responses_result_by_id: int
    """The same in Responses, for a call that is sent back under the provider's own item id."""
    chat_tools: int
    """Beyond the rendered tools, in chat."""
    responses_tools: int
    """Beyond the rendered tools, in Responses, where they have a place of their own."""
    tools_join_system: bool
    """In chat, tools follow the text of the leading system message; else they are a message of their own."""
    responses_schema: int
    """Beyond the rendered answer schema, in Responses. With tools, the schema shares their place and costs nothing."""
    undescribed: int
    """Beyond that, if the first function has no description."""
    parallel_json: bool
    """In chat, calls made side by side are one message in JSON."""
    parallel_call: int
    """Otherwise, in chat: beyond `CALL`, for every call side by side but one."""
    named_choice: bool
    """Demanding one function by name costs tokens."""


_CLASSIC = Framing(
    answer_start=3,
    assistant=0,
    result=2,
    responses_result=0,
    responses_result_by_id=3,
    chat_tools=-1,
    responses_tools=-3,
    responses_schema=1,
    tools_join_system=True,
    undescribed=0,
    parallel_json=True,
    parallel_call=0,
    named_choice=True,
)

FRAMINGS: Mapping[Family, Framing] = MappingProxyType(
    {
        Family.CLASSIC: _CLASSIC,
        Family.FIRST_CHAT: replace(_CLASSIC, message=1),
        Family.EARLY_REASONING: replace(_CLASSIC, answer_start=2, chat_tools=0),
        Family.REASONING: Framing(
            answer_start=2,
            assistant=2,
            result=8,
            responses_result=9,
            responses_result_by_id=12,
            chat_tools=85,
            responses_tools=3,
            responses_schema=0,
            tools_join_system=False,
            undescribed=-1,
            parallel_json=False,
            parallel_call=-6,
            named_choice=False,
        ),
    }
)
