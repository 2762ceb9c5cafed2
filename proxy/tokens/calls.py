"""Function calls as the model reads them again, later in the conversation."""

from collections.abc import Sequence

from proxy.tokens.jsontext import compact, parse
from proxy.tokens.turns import Call


def compact_arguments(arguments: str) -> str:
    """Return *arguments* without the spaces between its JSON tokens, as the provider stores them; or as they are."""
    valid, value = parse(arguments)
    return (compact(value) or arguments) if valid else arguments


def render_parallel(calls: Sequence[Call]) -> str:
    """Return the JSON in which a classic model makes several calls at once."""
    uses = []
    for call in calls:
        valid, parameters = parse(call.arguments)
        uses.append({"recipient_name": f"functions.{call.name}", "parameters": parameters if valid else call.arguments})
    return compact({"tool_uses": uses})
