"""The last user turn of a request, where it is plain text, and the request around it."""

from collections.abc import Mapping

from proxy.model import Json
from proxy.values import value

HOLE: Json = {"askonce": "the question"}
"""Stands where the text was. A text is a string and this is none, so nothing that a client sends looks the same."""

_TEXT_PARTS = {"chat": "text", "messages": "text", "responses": "input_text"}
_TURNS = {"chat": "messages", "messages": "messages", "responses": "input"}
"""Under which name each endpoint has its turns. Completions are no turns, and embeddings no questions."""

# Not a set: whatever a client sends as a role may have to be looked for, and lists have no hash.
_SETTING = ("system", "developer")


@value
class Lifted:
    """A request taken apart."""

    text: str
    """The last user turn, as it stands."""
    around: Json
    """The request with ``HOLE`` in its place: nothing else is changed, left out or put in."""
    history: bool
    """There are turns before it that are not the system's."""
    tools: bool
    """The model has tools at hand."""


def lift(dialect: str, request: Json) -> Lifted | None:
    """The last turn of *request* lifted out, or None where it is not a user's and of plain text alone."""
    name = _TURNS.get(dialect)
    given = request.get(name) if name is not None else None
    if name is None or given is None:
        return None
    tools = any(request.get(each) for each in ("tools", "functions", "mcp_servers"))
    if dialect == "responses" and isinstance(given, str):
        return Lifted(text=given, around={**request, name: HOLE}, history=False, tools=tools)
    if not isinstance(given, list) or not given or not isinstance(given[-1], dict):
        return None
    *before, last = given
    if last.get("role") != "user" or last.get("type", "message") != "message":
        return None
    taken = _text_out(last.get("content"), _TEXT_PARTS[dialect])
    if taken is None:
        return None
    text, content = taken
    history = any(not isinstance(turn, dict) or turn.get("role") not in _SETTING for turn in before)
    around = {**request, name: [*before, {**last, "content": content}]}
    return Lifted(text=text, around=around, history=history, tools=tools)


def _text_out(content: object, kind: str) -> tuple[str, object] | None:
    if isinstance(content, str):
        return content, HOLE
    if isinstance(content, list) and len(content) == 1:
        (part,) = content
        if isinstance(part, Mapping) and part.get("type") == kind and isinstance(part.get("text"), str):
            return part["text"], [{**part, "text": HOLE}]
    return None
