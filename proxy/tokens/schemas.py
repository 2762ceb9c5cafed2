"""A JSON schema for the answer, as the model reads it."""

from collections.abc import Mapping
from dataclasses import dataclass

from proxy.tokens.jsontext import compact_ascii
from proxy.tokens.turns import object_of, text_of

# Keywords that constrained decoding enforces (or ignores) do not reach the model. Found on recorded requests: without
# them, 32 of 32 different schemas have the billed count (minItems is here by analogy).
UNTOLD = frozenset({"required", "additionalProperties", "default", "minimum", "maximum", "minItems", "maxItems"})

MAX_DEPTH = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerSchema:
    """The structured-output schema of a request."""

    name: str
    description: str
    schema: object


def schema_of(body: Mapping[str, object]) -> AnswerSchema | None:
    """Return the answer schema of a chat (`response_format`) or Responses (`text.format`) request, if it has one."""
    form = object_of(body.get("response_format")) or object_of(object_of(body.get("text")).get("format"))
    if form.get("type") != "json_schema":
        return None
    # Responses writes the fields beside the type, chat beneath it.
    declared = object_of(form.get("json_schema")) or form
    return AnswerSchema(
        name=text_of(declared.get("name")),
        description=text_of(declared.get("description")),
        schema=declared.get("schema"),
    )


def render_schema(answer: AnswerSchema) -> str:
    """Return the text that declares the schema to the model: compact JSON, ASCII only, keys in the order given."""
    described = f"// {answer.description}\n" if answer.description else ""
    told = compact_ascii(_told(answer.schema, 0))
    return f"# Response Formats\n\n## {answer.name}\n\n{described}{told}"


def _told(value: object, depth: int, *, names: bool = False) -> object:
    if depth > MAX_DEPTH:
        return None
    if isinstance(value, Mapping):
        # Below these words stand names of the author's choice, and a property may well be called "default".
        return {
            key: _told(inner, depth + 1, names=not names and key in {"properties", "$defs", "definitions"})
            for key, inner in value.items()
            if names or key not in UNTOLD
        }
    if isinstance(value, list):
        return [_told(inner, depth + 1) for inner in value]
    return value
