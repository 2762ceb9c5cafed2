"""Function tools as the model reads them: a TypeScript namespace, rendered from their JSON schemas.

The form is that of OpenAI's harmony renderer and of system prompts that leaked; details (what has a comment, when an
object stands on one line, how arrays and unions of objects break) were searched for on recorded requests until the
billed token counts came out. Every rule below is needed by at least one of them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from proxy.tokens.jsontext import spaced
from proxy.tokens.turns import object_of, objects, text_of

# A schema may refer to itself, and references may double at each step: both are cut, the second for all tools together.
MAX_DEPTH = 24
MAX_NODES = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A function tool: what the request declares of it."""

    name: str
    description: str
    parameters: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """The tools of a request. `foreign` are those that are no functions: their text is the provider's secret."""

    functions: tuple[Function, ...]
    foreign: int = 0

    @property
    def first_is_undescribed(self) -> bool:
        """The first function has no description."""
        return bool(self.functions) and not self.functions[0].description


def tools_of(body: Mapping[str, object]) -> Tools:
    """Return the tools that a chat or Responses request declares."""
    functions: list[Function] = []
    foreign = 0
    for tool in objects(body.get("tools")):
        if tool.get("type", "function") == "function":
            functions.append(_function(object_of(tool.get("function")) or tool))
        else:
            foreign += 1
    functions += (_function(declared) for declared in objects(body.get("functions")))
    return Tools(functions=tuple(functions), foreign=foreign)


def named_choice(body: Mapping[str, object]) -> str:
    """Return the name of the one function that the request demands, if it demands one."""
    choice = object_of(body.get("tool_choice")) or object_of(body.get("function_call"))
    return text_of(object_of(choice.get("function")).get("name")) or text_of(choice.get("name"))


@dataclass(frozen=True, slots=True)
class Declaration:
    """The text that declares functions to the model, and whether nothing of their schemas was cut."""

    text: str
    whole: bool


def render_tools(functions: Sequence[Function]) -> Declaration:
    """Return the declaration of *functions*."""
    lines = ["# Tools\n\n## functions\n\nnamespace functions {\n\n"]
    renderer = _Renderer()
    for function in functions:
        # An empty description has no line; a blank line within one has.
        lines.append(_as_comment(function.description.split("\n") if function.description else ()))
        lines.append(f"type {function.name} = ({renderer.argument(function.parameters)}) => any;\n\n")
    lines.append("} // namespace functions")
    return Declaration("".join(lines), renderer.whole)


def _function(declared: Mapping[str, object]) -> Function:
    return Function(
        name=text_of(declared.get("name")),
        description=text_of(declared.get("description")),
        parameters=object_of(declared.get("parameters")),
    )


class _Renderer:
    """Renders schemas one after the other; holds the definitions of the present one and how much there was in all."""

    def __init__(self) -> None:
        self._definitions: Mapping[str, object] = {}
        self._nodes = 0
        self.whole = True

    def argument(self, schema: Mapping[str, object]) -> str:
        if not object_of(schema.get("properties")):
            return ""
        self._definitions = {**object_of(schema.get("definitions")), **object_of(schema.get("$defs"))}
        return "_: " + _comment(schema) + self._object(schema, 0)

    def _type(self, given: object, depth: int) -> str:
        self._nodes += 1
        schema = self._resolve(given)
        if depth > MAX_DEPTH or self._nodes > MAX_NODES:
            self.whole = False
            return "any"
        kind = schema.get("type")
        if isinstance(values := schema.get("enum"), list):
            return " | ".join(map(spaced, values))
        if "const" in schema:
            return spaced(schema["const"])
        for word in ("anyOf", "oneOf"):
            if isinstance(variants := schema.get(word), list):
                return self._union(variants, depth)
        if isinstance(kind, list):
            # Each of the types repeats what is said of all.
            return self._union([{**schema, "type": one} for one in kind if not isinstance(one, list)], depth)
        match kind:
            case "integer":
                return "number"
            case "array":
                return self._array(self._resolve(schema.get("items")), depth)
            case "object":
                return self._object(schema, depth)
            case _ if object_of(schema.get("properties")):
                return self._object(schema, depth)
            case str():
                return kind
            case _:
                return "any"

    def _array(self, item: Mapping[str, object], depth: int) -> str:
        inner = self._type(item, depth + 1)
        # What is said of the items is shown for objects only.
        comment = _comment(item) if inner.startswith("{") else ""
        if comment or "\n" in inner:
            return f"Array<\n{comment}{inner}\n>"
        if inner.startswith("{"):
            return f"Array<{inner}>"
        return f"({inner})[]" if " | " in inner else f"{inner}[]"

    def _union(self, variants: Sequence[object], depth: int) -> str:
        rendered = [(_comment(self._resolve(v), indent=" "), self._type(v, depth + 1)) for v in variants]
        if any(comment or "\n" in kind for comment, kind in rendered):
            return "".join(f"\n{comment} | {kind}" for comment, kind in rendered)
        return " | ".join(kind for _, kind in rendered)

    def _object(self, schema: Mapping[str, object], depth: int) -> str:
        properties = object_of(schema.get("properties"))
        if not properties:
            return "object"
        listed = schema.get("required")
        required = {name for name in listed if isinstance(name, str)} if isinstance(listed, list) else set()
        members: list[tuple[str, str, str]] = []
        for name, given in properties.items():
            member = self._resolve(given)
            kind = self._type(member, depth + 1)
            optional = "" if name in required else "?"
            default = f" // default: {spaced(member['default'])}" if "default" in member else ""
            space = "" if kind.startswith("\n") else " "
            members.append((_comment(member), f"{name}{optional}:{space}{kind}", default))
        if any(comment or "\n" in text for comment, text, _ in members):
            return "{\n" + "".join(f"{comment}{text},{default}\n" for comment, text, default in members) + "}"
        # Without a comment anywhere, the object stands on one line, and nothing follows its last member.
        line = "".join(f" {text},{default}" for _, text, default in members)
        return "{" + (line if members[-1][2] else line.removesuffix(",")) + " }"

    def _resolve(self, given: object) -> Mapping[str, object]:
        schema = object_of(given)
        for _ in range(MAX_DEPTH):
            reference = schema.get("$ref")
            if not isinstance(reference, str):
                break
            target = object_of(self._definitions.get(reference.rpartition("/")[2]))
            schema = {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
        return schema


def _comment(schema: Mapping[str, object], indent: str = "") -> str:
    return _as_comment(_said_of(schema), indent)


def _as_comment(lines: Iterable[str], indent: str = "") -> str:
    return "".join(f"{indent}// {line.strip()}".rstrip() + "\n" for line in lines)


def _said_of(schema: Mapping[str, object]) -> Iterator[str]:
    title, description = text_of(schema.get("title")), text_of(schema.get("description"))
    if title:
        yield title
        if description:
            yield ""
    if description:
        yield from description.split("\n")
