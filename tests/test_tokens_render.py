"""What models read besides the words of a conversation: tools, calls, schemas, images. One rule a test."""

import base64
import json
import struct
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import pytest

from proxy.tokens.calls import compact_arguments, render_parallel
from proxy.tokens.images import dimensions, picture_tokens
from proxy.tokens.schemas import AnswerSchema, render_schema, schema_of
from proxy.tokens.tools import Function, named_choice, render_tools, tools_of
from proxy.tokens.turns import Call, Called, Picture, Returned, Said, Turn, Unseen, chat_turns, responses_turns

TEXT = {"type": "string"}


def function(parameters: Mapping[str, object], description: str = "") -> Function:
    return Function(name="f", description=description, parameters=parameters)


def argument(
    properties: Mapping[str, object], required: Sequence[str] = (), more: Mapping[str, object] = MappingProxyType({})
) -> str:
    """Return how the argument of a function with these properties is written."""
    schema = {"type": "object", "properties": properties, "required": list(required), **more}
    text = render_tools([function(schema)]).text
    return text.partition("type f = (")[2].partition(") => any;")[0]


def test_tools_are_a_namespace_of_function_types() -> None:
    text = render_tools([function({}), Function(name="g", description="Does it.", parameters={})]).text
    assert text == (
        "# Tools\n\n## functions\n\nnamespace functions {\n\n"
        "type f = () => any;\n\n"
        "// Does it.\ntype g = () => any;\n\n"
        "} // namespace functions"
    )


def test_a_description_is_stripped_line_by_line() -> None:
    text = render_tools([function({}, "Add.\n\n    Args:\n        a: one\n    ")]).text
    assert "// Add.\n//\n// Args:\n// a: one\n//\ntype f" in text


def test_an_object_without_comments_stands_on_one_line() -> None:
    assert argument({"a": TEXT, "b": {"type": "integer"}}, ["a"]) == "_: { a: string, b?: number }"


def test_an_object_with_a_comment_has_a_line_for_each_member() -> None:
    described = {**TEXT, "description": "The city."}
    assert argument({"a": described, "b": TEXT}, ["a"]) == "_: {\n// The city.\na: string,\nb?: string,\n}"


def test_a_title_stands_above_its_description() -> None:
    titled = {**TEXT, "title": "City"}
    assert argument({"a": titled}) == "_: {\n// City\na?: string,\n}"
    assert argument({"a": {**titled, "description": "x \n y"}}) == "_: {\n// City\n//\n// x\n// y\na?: string,\n}"


def test_the_schema_itself_may_have_a_comment() -> None:
    assert argument({"a": TEXT}, more={"title": "T"}) == "_: // T\n{ a?: string }"
    assert argument({"a": TEXT}, more={"description": "D"}) == "_: // D\n{ a?: string }"


def test_a_default_follows_its_member() -> None:
    described = {**TEXT, "description": "D", "default": "x"}
    assert argument({"a": described}) == '_: {\n// D\na?: string, // default: "x"\n}'
    assert argument({"a": {"type": "boolean", "default": False}}) == "_: { a?: boolean, // default: false }"


@pytest.mark.parametrize(
    ("schema", "written"),
    [
        ({"enum": ["a", 1, None]}, '"a" | 1 | null'),
        ({"const": "é"}, '"é"'),
        ({"type": "number"}, "number"),
        ({"type": "null"}, "null"),
        ({}, "any"),
        ({"type": "object"}, "object"),
        ({"type": "array"}, "any[]"),
        ({"type": "array", "items": TEXT}, "string[]"),
        ({"type": "array", "items": {**TEXT, "description": "unseen"}}, "string[]"),
        ({"type": "array", "items": {"anyOf": [TEXT, {"type": "null"}]}}, "(string | null)[]"),
        ({"type": "array", "items": {"type": "object", "properties": {"x": TEXT}}}, "Array<{ x?: string }>"),
        ({"properties": {"x": TEXT}}, "{ x?: string }"),
        ({"anyOf": [TEXT, {"type": "array", "items": TEXT}]}, "string | string[]"),
        ({"oneOf": [TEXT, {"type": "integer"}]}, "string | number"),
        ({"type": ["string", "null"]}, "string | null"),
    ],
)
def test_each_type_is_written_as_in_typescript(schema: Mapping[str, object], written: str) -> None:
    assert argument({"a": schema}, ["a"]) == "_: { a: " + written + " }"


def test_a_list_of_types_repeats_the_description() -> None:
    written = argument({"a": {"type": ["string", "null"], "description": "D"}})
    assert written == "_: {\n// D\na?:\n // D\n | string\n // D\n | null,\n}"


def test_an_array_of_described_objects_breaks() -> None:
    item = {"type": "object", "title": "Item", "properties": {"x": {**TEXT, "title": "X"}}}
    written = argument({"a": {"type": "array", "items": item}}, ["a"])
    assert written == "_: {\na: Array<\n// Item\n{\n// X\nx?: string,\n}\n>,\n}"


def test_references_are_followed_and_what_stands_beside_them_counts() -> None:
    definitions = {"City": {"type": "object", "properties": {"name": TEXT}}}
    reference = {"$ref": "#/$defs/City", "description": "Where."}
    assert argument({"a": reference}, more={"$defs": definitions}) == "_: {\n// Where.\na?: { name?: string },\n}"
    older = {"definitions": definitions}
    assert argument({"a": {"$ref": "#/definitions/City"}}, more=older) == "_: { a?: { name?: string } }"
    assert argument({"a": {"$ref": "#/$defs/Gone"}}) == "_: { a?: any }"


def test_a_schema_that_contains_itself_is_cut() -> None:
    loop = {"$defs": {"N": {"$ref": "#/$defs/N"}, "T": {"type": "object", "properties": {"t": {"$ref": "#/$defs/T"}}}}}
    assert argument({"a": {"$ref": "#/$defs/N"}}, more=loop) == "_: { a?: any }"
    assert argument({"a": {"$ref": "#/$defs/T"}}, more=loop).count("t?:") < 30


def test_a_schema_that_doubles_at_each_step_is_cut() -> None:
    definitions: dict[str, object] = {"0": TEXT}
    for level in range(1, 64):
        below = {"$ref": f"#/$defs/{level - 1}"}
        definitions[str(level)] = {"type": "object", "properties": {"l": below, "r": below}}
    schema = {"properties": {"a": {"$ref": "#/$defs/63"}}, "$defs": definitions}
    one, many = render_tools([function(schema)]), render_tools([function(schema)] * 100)
    assert (one.whole, many.whole) == (False, False)
    assert len(many.text) < len(one.text) + 100_000


def test_tools_are_read_from_chat_responses_and_the_first_form() -> None:
    declared = {"name": "f", "description": "D", "parameters": {"type": "object"}}
    expected = (Function(name="f", description="D", parameters={"type": "object"}),)
    assert tools_of({"tools": [{"type": "function", "function": declared}]}).functions == expected
    assert tools_of({"tools": [{"type": "function", **declared}]}).functions == expected
    assert tools_of({"functions": [declared]}).functions == expected
    assert tools_of({"tools": [{"type": "web_search"}, 7, None]}).foreign == 1


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "f"),
        ({"tool_choice": {"type": "function", "name": "f"}}, "f"),
        ({"function_call": {"name": "f"}}, "f"),
        ({"tool_choice": "required"}, ""),
        ({}, ""),
    ],
)
def test_the_demanded_function_is_found(body: Mapping[str, object], name: str) -> None:
    assert named_choice(body) == name


def test_a_schema_is_compact_ascii_without_what_the_decoder_enforces() -> None:
    schema = {
        "type": "object",
        "properties": {"default": {"type": "integer", "minimum": 1, "default": 2, "description": "é"}},
        "required": ["default"],
        "additionalProperties": False,
        "$defs": {"required": {"items": [{"maximum": 3, "type": "number"}]}},
    }
    assert render_schema(AnswerSchema(name="N", description="D", schema=schema)) == (
        '# Response Formats\n\n## N\n\n// D\n{"type":"object","properties":{"default":{"type":"integer",'
        '"description":"\\u00e9"}},"$defs":{"required":{"items":[{"type":"number"}]}}}'
    )


def test_a_schema_that_nests_without_end_is_cut() -> None:
    schema: dict[str, object] = {}
    for _ in range(3000):
        schema = {"items": schema}
    assert len(render_schema(AnswerSchema(name="N", description="", schema=schema))) < 1000


def test_a_schema_is_read_from_chat_and_from_responses() -> None:
    declared = {"name": "N", "schema": {"type": "object"}}
    expected = AnswerSchema(name="N", description="", schema={"type": "object"})
    assert schema_of({"response_format": {"type": "json_schema", "json_schema": declared}}) == expected
    assert schema_of({"text": {"format": {"type": "json_schema", **declared}}}) == expected
    assert schema_of({"response_format": {"type": "json_object"}}) is None
    assert schema_of({}) is None


def test_arguments_lose_their_spaces() -> None:
    assert compact_arguments('{"a": 1,\n "b": "c d"}') == '{"a":1,"b":"c d"}'
    assert compact_arguments('{"a": ') == '{"a": '
    assert compact_arguments("[" * 100_000) == "[" * 100_000


def test_calls_side_by_side_are_one_json() -> None:
    text = render_parallel([Call("1", "f", '{"a": 1}'), Call("2", "g", "oops")])
    uses = [
        {"recipient_name": "functions.f", "parameters": {"a": 1}},
        {"recipient_name": "functions.g", "parameters": "oops"},
    ]
    assert json.loads(text) == {"tool_uses": uses}
    assert ": " not in text


def test_a_chat_becomes_turns() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "user", "name": "bob", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": "Let me see.", "tool_calls": [call]},
        {"role": "assistant", "content": None, "tool_calls": [call, call]},
        {"role": "tool", "tool_call_id": "1", "content": "r"},
        {"role": "assistant", "content": None, "function_call": {"name": "g", "arguments": "{}"}},
        {"role": "function", "name": "g", "content": "s"},
        {"role": "assistant", "content": None, "refusal": "No."},
        {"role": "user", "content": [{"type": "input_audio"}, {"type": "image_url", "image_url": {"url": "u"}}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u", "detail": "low"}}]},
        {"role": "assistant", "audio": {"id": "x"}},
    ]
    expected: list[Turn] = [
        Said(role="user", text="ab", name="bob"),
        Said(role="assistant", text="Let me see."),
        Called((Call("1", "f", "{}"),)),
        Called((Call("1", "f", "{}"), Call("1", "f", "{}"))),
        Returned("1", "", "r"),
        Called((Call("", "g", "{}"),)),
        Returned("", "g", "s"),
        Said(role="assistant", text="No."),
        Said(role="user", text="", pictures=(Picture("u"),), opaque=1),
        Said(role="user", text="", pictures=(Picture("u", "low"),)),
        Said(role="assistant", text="", opaque=1),
    ]
    assert list(chat_turns({"messages": messages})) == expected


def test_a_responses_input_becomes_turns() -> None:
    given = [
        {"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": "u"}]},
        {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}", "id": "fc_1"},
        {"type": "reasoning", "encrypted_content": "..."},
        {"type": "function_call", "call_id": "2", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "1", "output": "r"},
        {"type": "function_call_output", "call_id": "2", "output": [{"type": "input_image", "image_url": "u"}]},
        {"type": "web_search_call"},
        {"type": "custom_tool_call", "call_id": "3", "name": "c", "input": "free"},
    ]
    turns = list(responses_turns({"instructions": "I", "input": given}))
    assert turns[:2] == [
        Said(role="developer", text="I"),
        Said(role="user", text="a", pictures=(Picture("u"),)),
    ]
    calls = Called((Call("1", "f", "{}", by_id=True), Call("2", "f", "{}")))
    assert [turn for turn in turns[2:] if turn != Unseen()] == [
        calls,
        Returned("1", "", "r"),
        Returned("2", "", ""),
        Called((Call("3", "c", "free"),)),
    ]
    assert turns.count(Unseen()) == 3
    assert list(responses_turns({"input": "a"})) == [Said(role="user", text="a")]


def png(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", width, height)


def jpeg(width: int, height: int, marker: int = 0xC2) -> bytes:
    thumbnail = b"\xff\xe1" + struct.pack(">H", 40) + b"\0" * 38
    return b"\xff\xd8" + thumbnail + struct.pack(">BBHBHH", 0xFF, marker, 17, 8, height, width) + b"\0" * 10


WEBP = b"RIFF\0\0\0\0WEBP"


@pytest.mark.parametrize(
    ("image", "size"),
    [
        (png(640, 480), (640, 480)),
        (png(0, 480), None),
        (b"\x89PNG\r\n\x1a\n", None),
        (b"GIF89a" + struct.pack("<HH", 3, 5), (3, 5)),
        (jpeg(640, 480), (640, 480)),
        (jpeg(640, 480, 0xC4), None),
        (jpeg(640, 480)[:20], None),
        (WEBP + b"VP8X" + b"\0" * 8 + b"\x7f\x02\0\xdf\x01\0", (640, 480)),
        (WEBP + b"VP8L\0\0\0\0\x2f" + struct.pack("<I", 639 | 479 << 14), (640, 480)),
        (WEBP + b"VP8 " + b"\0" * 10 + struct.pack("<HH", 640, 480), (640, 480)),
        (WEBP + b"VP9 " + b"\0" * 20, None),
        (b"BM", None),
        (b"", None),
    ],
)
def test_dimensions_are_read_from_the_header(image: bytes, size: tuple[int, int] | None) -> None:
    assert dimensions(image) == size


def data_url(image: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(image).decode()}"


@pytest.mark.parametrize(
    ("model", "size", "tokens"),
    [
        # The examples of OpenAI's guide.
        ("gpt-4o", (1024, 1024), 85 + 4 * 170),
        ("gpt-4o", (2048, 4096), 85 + 6 * 170),
        ("gpt-4o-mini", (640, 480), 2833 + 2 * 5667),
        ("openai/gpt-5", (640, 480), 70 + 2 * 140),
        ("ft:gpt-4o:acme", (512, 512), 85 + 170),
        # 300 patches times 1.62 is a trifle more than 486 in floating point, and so it is billed.
        ("gpt-4.1-mini", (640, 480), 1 + 487),
        # 1800 x 2400 shrinks to 1056 x 1408, which is 33 x 44 patches.
        ("o4-mini", (1800, 2400), 1 + 2498),
        ("gpt-4.1-nano", (1, 4_000_000_000), 1 + 3),
    ],
)
def test_an_image_in_the_request_is_counted(model: str, size: tuple[int, int], tokens: int) -> None:
    assert picture_tokens(Picture(data_url(png(*size))), model) == (tokens, True)


def test_a_low_detail_needs_no_size() -> None:
    assert picture_tokens(Picture("https://x.example/i.png", "low"), "gpt-4o") == (85, True)


@pytest.mark.parametrize(
    "url", ["https://x.example/i.png", "", "data:image/png;base64,", "data:,x", "data:;base64,\u00e9\u00e9\u00e9\u00e9"]
)
def test_an_image_elsewhere_is_guessed(url: str) -> None:
    assert picture_tokens(Picture(url), "gpt-4o") == (425, False)


def test_an_image_for_an_unknown_model_is_guessed() -> None:
    assert picture_tokens(Picture(data_url(png(1024, 1024))), "llava") == (765, False)
