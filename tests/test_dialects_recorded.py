"""Real answers, recorded by others: each judged by independent rules, each change of form by the real client."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest

from proxy.dialects import BY_SUFFIX
from proxy.model import WHOLE, Finding, Form, Reason, Unkept
from tests.test_dialects import STREAM, STREAM_WITH_USAGE
from tests.test_dialects_oracles import chat_streamed, chat_whole, responses_streamed, responses_whole

RECORDED = Path(__file__).parents[2] / "shared" / "data" / "cassettes.jsonl"
PATHS = re.compile(r"(/chat/completions|/completions|/responses|/embeddings|/messages)$")


class Row:
    """One recorded call on a path that is cached."""

    def __init__(self, number: int, row: dict[str, Any], suffix: str) -> None:
        self.id = f"{number}-{suffix.rpartition('/')[2]}"
        self.dialect = BY_SUFFIX[suffix]
        self.request: dict[str, Any] = json.loads(base64.b64decode(row["request_b64"]))
        self.body = base64.b64decode(row["body_b64"])
        self.form = self.dialect.form(self.request)

    def __repr__(self) -> str:
        return f"<Row {self.id}>"

    @property
    def found(self) -> Finding:
        """What the dialect finds."""
        return self.dialect.examine(self.body, self.form)

    def rendered(self, want: Form) -> bytes | None:
        """The answer in another form."""
        return self.dialect.render(self.body, self.form, want)

    @property
    def data(self) -> list[dict[str, Any]]:
        """The objects of the answer, by a reader of our own that knows nothing but lines."""
        if not self.form.stream:
            return [json.loads(self.body)]
        lines = [line[6:] for line in self.body.decode().split("\n") if line.startswith("data: ")]
        return [json.loads(line) for line in lines if line != "[DONE]"]

    def members(self, name: str) -> list[Any]:
        """Every value of *name* at any depth of the answer, in order."""
        return list(values(self.data, name))


def values(value: Any, name: str) -> Any:
    """Every value under the key *name* within *value*."""
    if isinstance(value, dict):
        for key, member in value.items():
            if key == name:
                yield member
            yield from values(member, name)
    elif isinstance(value, list):
        for member in value:
            yield from values(member, name)


def recorded() -> list[Row]:
    """The recorded calls on cached paths; none where the data is not at hand."""
    if not RECORDED.exists():
        return []
    rows = []
    for number, line in enumerate(RECORDED.read_text().splitlines()):
        row = json.loads(line)
        found = PATHS.search(row["uri"].partition("?")[0])
        if found:
            rows.append(Row(number, row, found.group()))
    return rows


ROWS = recorded()
NEED_DATA = pytest.mark.skipif(
    not ROWS, reason="the recorded answers (shared/data/cassettes.jsonl) are not beside the project"
)
EACH = pytest.mark.parametrize("row", ROWS or [None], ids=lambda row: row.id if row else "none")
pytestmark = NEED_DATA


def expected(row: Row) -> Unkept | None:
    """The finding by rules that share nothing with the dialects."""
    text = row.body.decode()
    if row.dialect.name == "responses":
        if re.search(r'"type": ?"(web_search|code_interpreter|file_search|mcp|computer|image_generation)_call"', text):
            return Unkept.SIDE_EFFECT
        if not row.form.stream:
            return None if json.loads(text)["status"] == "completed" else Unkept.INCOMPLETE
        return None if "event: response.completed\n" in text else Unkept.INCOMPLETE
    if row.form.stream and "\ndata: [DONE]\n" not in text:
        return Unkept.INCOMPLETE
    places = {choice["index"] for choices in row.members("choices") for choice in choices}
    ended = {
        choice["index"]: choice["finish_reason"]
        for choices in row.members("choices")
        for choice in choices
        if choice.get("finish_reason")
    }
    if set(ended) != places:
        return Unkept.INCOMPLETE
    if not any(any(row.members(name)) for name in ("content", "text", "name", "refusal", "reasoning")):
        return Unkept.EMPTY
    return Unkept.LENGTH if "length" in ended.values() else None


@EACH
def test_each_answer_is_judged_as_simple_rules_say(row: Row) -> None:
    assert row.found.unkept is expected(row)


@EACH
def test_each_request_that_names_a_server_tool_is_refused(row: Row) -> None:
    kinds = {tool.get("type") for tool in row.request.get("tools", [])}
    searches = "search" in str(row.request.get("model")) or bool(kinds - {"function", None})
    assert row.dialect.refuses(row.request) is (Reason.SIDE_EFFECT if searches else None)


@EACH
def test_the_usage_of_each_answer_is_what_it_says(row: Row) -> None:
    told = [usage for usage in row.members("usage") if usage]
    usage = row.found.usage
    assert (usage.total_tokens if usage else None) == (told[-1]["total_tokens"] if told else None)


@EACH
def test_the_model_of_each_answer_is_what_it_says(row: Row) -> None:
    assert row.found.model == next(model for model in row.members("model") if model)


@EACH
def test_each_answer_in_its_own_form_is_its_bytes(row: Row) -> None:
    assert row.rendered(row.form) == row.body


def whole_of(row: Row) -> bytes | None:
    """The whole form of a good answer; skips where it is not promised."""
    if row.found.unkept not in (None, Unkept.LENGTH):
        pytest.skip(f"not kept: {row.found.unkept}")
    return row.rendered(WHOLE)


@EACH
def test_each_good_answer_with_usage_has_a_whole_form(row: Row) -> None:
    assert (whole_of(row) is not None) == (row.found.usage is not None)


def known(answer: dict[str, Any]) -> dict[str, Any]:
    """The members of a chat answer that `openai` accumulates past the first chunk."""
    around = {name: answer.get(name) for name in ("id", "created", "model", "service_tier", "usage")}
    places = ("index", "message", "finish_reason", "logprobs")
    return around | {"choices": [{name: choice.get(name) for name in places} for choice in answer["choices"]]}


@EACH
def test_the_real_client_reads_the_same_in_every_form_that_is_claimed(row: Row) -> None:
    whole = whole_of(row)
    if row.dialect.name == "chat":
        if row.form.stream and any("delta" not in choice for choices in row.members("choices") for choice in choices):
            pytest.skip("the real client cannot read the original: a choice without a delta")
        told = known(chat_streamed(row.body) if row.form.stream else chat_whole(row.body))
        claimed = [known(chat_whole(whole))] if whole else []
        streams = [
            row.rendered(STREAM),
            row.rendered(STREAM_WITH_USAGE),
            row.rendered(Form(stream=True, obfuscation=False)),
        ]
        if whole:
            streams.append(row.dialect.render(whole, WHOLE, STREAM))
            with_usage = row.dialect.render(whole, WHOLE, STREAM_WITH_USAGE)
            assert with_usage is not None
            claimed.append(known(chat_streamed(with_usage)))
        assert claimed == [told] * len(claimed)
        without = [known(chat_streamed(body)) for body in streams if body is not None]
        assert [answer | {"usage": None} for answer in without] == [told | {"usage": None}] * len(without)
    elif row.dialect.name == "responses":
        assert whole is not None
        again = row.dialect.render(whole, WHOLE, STREAM)
        assert again is not None
        told = responses_streamed(row.body) if row.form.stream else responses_whole(row.body)
        assert [responses_whole(whole), responses_streamed(again)] == [told, told]
        unpadded = row.rendered(Form(stream=True, obfuscation=False)) or b""
        assert b"obfuscation" not in unpadded
        assert responses_streamed(unpadded) == told


@EACH
def test_every_member_of_a_stream_is_somewhere_in_its_whole_form(row: Row) -> None:
    whole = whole_of(row)
    if whole is None or row.dialect.name not in ("chat", "completions"):
        pytest.skip("no whole form that was put together from chunks")
    answer = json.loads(whole)
    of_the_stream = {"obfuscation", "stream_options", "delta"}
    for chunk in row.data:
        assert set(chunk) - of_the_stream <= set(answer)
        for choice in chunk["choices"]:
            [told] = [told for told in answer["choices"] if told["index"] == choice["index"]]
            assert set(choice) - of_the_stream <= set(told)
            assert set(choice.get("delta", {})) <= set(told.get("message", {}))
    spelled = "".join(text for text in row.members("content") + row.members("text") if isinstance(text, str))
    assert len(spelled) == sum(
        len(text) for text in [*values(answer, "content"), *values(answer, "text")] if isinstance(text, str)
    )


@EACH
def test_what_is_taken_out_of_a_stream_is_all_that_changes(row: Row) -> None:
    bare = row.rendered(Form(stream=True, obfuscation=False))
    if bare is None or not row.form.stream:
        pytest.skip("not a stream with an end")
    unasked = {"obfuscation", "usage"} if row.form.include_usage else {"obfuscation"}
    was = [{name: said for name, said in chunk.items() if name not in unasked} for chunk in row.data]
    now = [json.loads(line[6:]) for line in bare.decode().split("\n") if line.startswith("data: {")]
    if row.form.include_usage and row.data[-1].get("choices") == []:
        moved = was.pop()
        was[-1] = moved | was[-1]
    assert now == was


@EACH
def test_every_whole_answer_survives_being_a_stream(row: Row) -> None:
    whole = whole_of(row)
    if whole is None:
        pytest.skip("no whole form")
    streamed = row.dialect.render(whole, WHOLE, Form(stream=True, include_usage=row.dialect.name != "responses"))
    assert streamed is not None
    again = row.dialect.render(streamed, STREAM_WITH_USAGE, WHOLE)
    assert again is not None
    assert json.loads(again) == json.loads(whole)
