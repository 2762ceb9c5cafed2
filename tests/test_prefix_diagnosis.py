"""Why a prompt was not read from the provider's cache: planted defects, and traffic without any."""

import json
import string
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.prefix import rules, spans
from proxy.prefix.diagnosis import Case, Diagnosis, diagnose
from proxy.prefix.prompt import Prompt, prompt_of
from proxy.prefix.samples import Sample, Samples, kept
from proxy.prefix.spans import Code

RULES = rules.read()
OPENAI = RULES.find("api.openai.com", "gpt-5.4")
ANTHROPIC = RULES.find("api.anthropic.com", "claude-sonnet-5")

MANUAL = "\n".join(
    f"Section {n}. Clerks of desk {n} answer letters about parcel class {n * 7} before noon and file under {n * 13}."
    for n in range(120)
)
TOOLS = [
    {
        "type": "function",
        "function": {"name": name, "description": f"Does {name} for a clerk. {MANUAL[:600]}", "parameters": {"a": 1}},
    }
    for name in ("find", "post", "weigh", "count")
]


def chat(system: str = MANUAL, *turns: str, **more: object) -> dict[str, object]:
    """A chat request."""
    spoken = [
        {"role": ("user", "assistant")[n % 2], "content": turn} for n, turn in enumerate(turns or ("Where is it?",))
    ]
    return {"model": "gpt-5.4", "messages": [{"role": "system", "content": system}, *spoken], **more}


def prompt(request: Mapping[str, object], dialect: str = "chat") -> Prompt:
    found = prompt_of(dialect, request)
    assert found is not None
    return found


def told(
    old: Mapping[str, object],
    new: Mapping[str, object],
    *,
    read: int = 0,
    gap_s: float = 10.0,
    rpm: float = 1.0,
    rule: rules.Rule = OPENAI,
    dialect: str = "chat",
) -> Diagnosis | None:
    """What is said of *new*, of which *read* tokens were read, after *old* was sent."""
    before, now = prompt(old, dialect), prompt(new, dialect)
    sample = Sample(prompt=before, at_s=1000.0, tokens=before.octets // 4)
    case = Case(prompt=now, at_s=1000.0 + gap_s, tokens=now.octets // 4, read=read, rule=rule, rpm=rpm)
    return diagnose(case, [sample])


def code(found: Diagnosis | None) -> Code | None:
    return found.code if found is not None else None


VOLATILE: dict[Code, tuple[str, str]] = {
    Code.VOLATILE_ISO_TIMESTAMP: ("2026-11-25T22:01:07Z", "2026-11-25T22:03:44Z"),
    Code.VOLATILE_DATE: ("Tuesday, November 24, 2026", "Wednesday, November 25, 2026"),
    Code.VOLATILE_CLOCK_TIME: ("22:01", "22:07"),
    Code.VOLATILE_EPOCH: ("1795643021", "1795643777"),
    Code.VOLATILE_UUID: ("3f2b8c1e-9d40-4a77-8a51-0c9d7be1f200", "b71fa2c0-1e5d-4c3a-9b00-55aa66bb77cc"),
    Code.VOLATILE_HEX_BASE64_ID: ("req_8fA31kQz02LmX", "req_77bTz9KqP41Rw"),
    Code.VOLATILE_NUMBER: ("41", "4702"),
    Code.VOLATILE_TEXT: ("the quiet harbour master", "a stranger from afar"),
}


@pytest.mark.parametrize("expected", VOLATILE)
@pytest.mark.parametrize("before", ["Now it is {}. ", "value:{}\n", "[{}] "])
def test_a_value_that_changes_at_the_head_is_named(expected: Code, before: str) -> None:
    was, now = VOLATILE[expected]
    found = told(chat(before.format(was) + MANUAL), chat(before.format(now) + MANUAL))
    assert code(found) is expected
    assert found is not None
    assert found.path == "messages[0].content"
    assert found.offset <= 4
    assert found.lost > 2500


def test_what_changes_is_shown_by_its_shape_alone() -> None:
    found = told(chat(f"It is 22:01 now. {MANUAL}"), chat(f"It is 22:07 now. {MANUAL}"))
    assert found is not None
    assert (found.shape, found.offset) == ("99:99", 1)


def test_a_value_that_changes_far_in_costs_what_lies_behind_it() -> None:
    half = len(MANUAL) // 2
    texts = [f"{MANUAL[:half]} ticket 4{n}2 {MANUAL[half:]}" for n in (1, 8)]
    found = told(chat(texts[0]), chat(texts[1]), read=1500)
    assert code(found) is Code.VOLATILE_NUMBER
    assert found is not None
    assert abs(found.lost - (len(MANUAL) // 4 - 1500)) < 20


def test_white_space() -> None:
    assert code(told(chat(MANUAL), chat(MANUAL.replace("\n", "\n\n")))) is Code.WHITESPACE
    assert code(told(chat(MANUAL), chat(" " + MANUAL))) is Code.WHITESPACE


def test_a_document_in_the_turn_behind_a_time_is_lost() -> None:
    turns = [f"(asked at 12:0{n})\n{MANUAL}\nWhat is desk {n} for?" for n in (1, 2)]
    found = told(chat("Be brief.", turns[0]), chat("Be brief.", turns[1]))
    assert code(found) is Code.VOLATILE_CLOCK_TIME
    assert found is not None
    assert found.path == "messages[1].content"


TOOL_DEFECTS: dict[Code, Callable[[list[dict[str, Any]]], list[dict[str, Any]]]] = {
    Code.TOOL_ORDER: lambda tools: tools[::-1],
    Code.TOOL_SET: lambda tools: tools[1:],
    Code.JSON_KEY_ORDER: lambda tools: [dict(reversed(tool.items())) for tool in tools],
}


@pytest.mark.parametrize("expected", TOOL_DEFECTS)
def test_tools(expected: Code) -> None:
    assert code(told(chat(tools=TOOLS), chat(tools=TOOL_DEFECTS[expected](TOOLS)))) is expected


def test_settings_and_models() -> None:
    found = told(chat(reasoning_effort="low"), chat(reasoning_effort="high"))
    assert (code(found), found and found.path) == (Code.SETTINGS_CHANGED, "reasoning_effort")
    shape: dict[str, object] = {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}
    other = {**shape, "json_schema": {"name": "b", "schema": {}}}
    assert code(told(chat(response_format=shape), chat(response_format=other))) is Code.SETTINGS_CHANGED
    turned = dict(reversed(shape.items()))
    assert code(told(chat(response_format=shape), chat(response_format=turned))) is Code.JSON_KEY_ORDER
    assert code(told(chat(), chat(model="gpt-5.2"))) is Code.MODEL_CHANGED


def test_a_history_that_is_rewritten() -> None:
    turns = [MANUAL[:900], MANUAL[900:1800], MANUAL[1800:7000], MANUAL[7000:8000], "And the last question of all?"]
    before = chat("Be brief.", *turns[:3])
    slid = chat("Be brief.", *turns[2:])
    assert code(told(before, slid)) is Code.HISTORY_REWRITTEN
    cut = chat("Be brief.", turns[0], "(left out)", *turns[2:])
    found = told(before, cut)
    assert (code(found), found and found.path) == (Code.HISTORY_REWRITTEN, "messages[2].content")


def test_the_same_prefix_is_gone_for_a_reason() -> None:
    assert code(told(chat(), chat(), gap_s=OPENAI.ttl_s + 1)) is Code.TTL_GAP
    assert code(told(chat(prompt_cache_key="a"), chat(prompt_cache_key="b"))) is Code.KEY_CHANGED
    assert code(told(chat(), chat(), rpm=40)) is Code.OVER_15_RPM
    assert code(told(chat(), chat())) is Code.UPSTREAM_EVICTED
    assert code(told(chat("Be brief."), chat("Be brief."))) is Code.BELOW_MIN


def messages(*, turns: int = 1, marked: bool) -> dict[str, object]:
    """A Messages request, its system prompt and its last turn marked."""
    mark = {"cache_control": {"type": "ephemeral"}} if marked else {}
    spoken = [{"role": ("user", "assistant")[n % 2], "content": f"Turn {n} of a long talk."} for n in range(turns - 1)]
    last = {"role": "user", "content": [{"type": "text", "text": f"Turn {turns}, at last.", **mark}]}
    return {"model": "claude-sonnet-5", "system": MANUAL, "messages": [*spoken, last]}


def test_breakpoints() -> None:
    bare = {"rule": ANTHROPIC, "dialect": "messages"}
    found = told(messages(marked=False), messages(marked=False), **bare)  # type: ignore[arg-type]
    assert code(found) is Code.NO_BREAKPOINT
    # The end of what agrees: there a mark would have helped.
    far = told(messages(marked=True), messages(turns=31, marked=True), **bare)  # type: ignore[arg-type]
    assert code(far) in (Code.LOOKBACK_20, Code.NO_BREAKPOINT)
    long = messages(turns=3, marked=False)
    agreed = {**long, "messages": [*_marked(long["messages"])]}
    more = [*_marked(long["messages"], mark=False), *_turns(25)]
    found = told(agreed, {**long, "messages": more}, **bare)  # type: ignore[arg-type]
    assert code(found) is Code.LOOKBACK_20


def _marked(turns: object, *, mark: bool = True) -> list[dict[str, object]]:
    assert isinstance(turns, list)
    said = [{"type": "text", "text": MANUAL[:2000], **({"cache_control": {"type": "ephemeral"}} if mark else {})}]
    return [*turns[:-1], {"role": "user", "content": said}]


def _turns(count: int) -> list[dict[str, object]]:
    spoken: list[dict[str, object]] = [
        {"role": ("assistant", "user")[n % 2], "content": f"Turn {n} of a long talk."} for n in range(count)
    ]
    last = [{"type": "text", "text": "At last.", "cache_control": {"type": "ephemeral"}}]
    return [*spoken, {"role": "user", "content": last}]


def test_nothing_like_it_is_cold() -> None:
    case = Case(prompt=prompt(chat()), at_s=0.0, tokens=3000, read=0, rule=OPENAI)
    assert code(diagnose(case, [])) is Code.COLD


# --- traffic without a defect ----------------------------------------------------------------------------------------


def test_another_question_is_no_defect() -> None:
    read = len(MANUAL) // 4 // 128 * 128
    assert told(chat(MANUAL, "Where is desk 4?"), chat(MANUAL, "Who weighs parcels of class 9?"), read=read) is None


def test_a_conversation_that_goes_on_is_no_defect() -> None:
    before, after = chat(MANUAL, "One?", "Two.", "Three?"), chat(MANUAL, "One?", "Two.", "Three?", "Four.", "Five?")
    assert told(before, after, read=len(MANUAL) // 4 // 128 * 128) is None


def test_a_turn_that_is_asked_anew_is_no_defect() -> None:
    before = chat(MANUAL, "One?", "Two.", "What of the third desk?")
    after = chat(MANUAL, "One?", "Two.", "What of the fourth desk?")
    assert told(before, after, read=len(MANUAL) // 4 // 128 * 128) is None


@given(st.text(string.ascii_letters + " ", min_size=1, max_size=60), st.text(min_size=1, max_size=60))
def test_no_two_questions_make_a_defect(one: str, other: str) -> None:
    read = len(MANUAL) // 4 // 128 * 128
    assert told(chat(MANUAL, one), chat(MANUAL, other), read=read) is None


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda below: st.lists(below) | st.dictionaries(st.text(), below),
    )
)
def test_no_json_is_too_odd(value: object) -> None:
    odd: dict[str, object] = dict.fromkeys(("messages", "tools", "system", "input", "response_format", "text"), value)
    for dialect in ("chat", "responses", "messages", "completions"):
        told(odd, {**odd, "model": "x"}, dialect=dialect)
    in_turn = {"messages": [{"role": "user", "content": value, "tool_calls": value}, value]}
    told(in_turn, in_turn)


# --- what is shown ---------------------------------------------------------------------------------------------------


@given(st.text(max_size=200))
def test_a_shape_tells_no_letter_and_no_digit(text: str) -> None:
    assert not set(spans.shape(text)) & (set(string.ascii_letters + string.digits) - set("aA9"))


# --- families --------------------------------------------------------------------------------------------------------


def test_prompts_of_one_application_are_one_family_though_their_head_changes() -> None:
    samples = Samples()
    first = samples.family("t", prompt(chat(f"It is 22:01. {MANUAL}")))
    assert samples.family("t", prompt(chat(f"It is 23:59. {MANUAL}"))) is first
    assert samples.family("t", prompt(chat("Another application altogether. " * 40))) is not first
    assert samples.family("other tenant", prompt(chat(f"It is 22:01. {MANUAL}"))) is not first


def test_families_are_bounded() -> None:
    samples = Samples(capacity=3)
    for n in range(9):
        family = samples.family("t", prompt(chat(" ".join(f"word{n}x{m}" for m in range(20)))))
        for _ in range(5):
            family.keep(Sample(prompt=prompt(chat()), at_s=0.0, tokens=1))
        assert len(family.samples) == 4
    assert repr(samples) == "<Samples, 3 families>"


def test_a_long_prompt_is_kept_in_part() -> None:
    long = prompt(chat(MANUAL * 4, "x" * 40_000))
    assert kept(long).octets < 64 * 1024 < long.octets
    assert kept(prompt(chat())) == prompt(chat())


def test_a_mark_is_no_part_of_the_prompt() -> None:
    bare = prompt(messages(marked=False), "messages")
    marked = prompt(messages(marked=True), "messages")
    assert [s.octets for s in bare.segments] == [s.octets for s in marked.segments]
    assert json.dumps([s.path for s in marked.segments]) == '["system", "messages[0].content[0].text"]'
