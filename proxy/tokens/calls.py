"""Function calls as the model reads them again, later in the conversation."""

import json
from collections.abc import Sequence

from proxy.tokens.turns import Call


def compact_arguments(arguments: str) -> str:
    """Return *arguments* without the spaces between its JSON tokens, as the provider stores them; or as they are."""
    try:
        parsed: object = json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments
    return _compact(parsed)


def render_parallel(calls: Sequence[Call]) -> str:
    """Return the JSON in which a classic model makes several calls at once."""
    uses = []
    for call in calls:
        try:
            parameters: object = json.loads(call.arguments)
        except (ValueError, RecursionError):
            parameters = call.arguments
        uses.append({"recipient_name": f"functions.{call.name}", "parameters": parameters})
    return _compact({"tool_uses": uses})


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
