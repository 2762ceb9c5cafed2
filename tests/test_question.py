"""Which questions may be compared by meaning, and within which scope."""

import copy
import json
import random
from functools import partial
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from proxy import canonical, fingerprint
from proxy.canonical import Unfit
from proxy.dialects import BY_SUFFIX
from proxy.dialects.last_turn import HOLE, lift
from proxy.fingerprint import Fingerprint
from proxy.headers import Fields
from proxy.model import Apart, Json, TenantId
from proxy.semantic.question import apart, symbols
from tests.json_texts import objects, same

fit = partial(apart, max_chars=500, fresh=False, personal=False)

ASKED = "How do I reset my password?"


@pytest.mark.parametrize(
    "text",
    [
        ASKED,
        "reset password",
        "git: undo most recent commit, leave working tree changes intact",
        "What is the capital of Côte d'Ivoire?",
        "Explain how == differs from === in JavaScript",
        "Why is π irrational?",
        "What does HTTP 429 mean?",
        "Is it safe to eat raw eggs when you're pregnant? 🥚",
        "What's the difference between “affect” and “effect”?",
        "yes",
        "42",
        "Where is Rio de Janeiro?",
        "How far is it from Los Angeles to San Jose del Cabo?",
        "Can I run the migration while the app is live?",
        "if my phone is being tapped, what should I do?",
    ],
)
def test_an_ordinary_question_may_be_compared(text: str) -> None:
    assert fit(text) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", Apart.EMPTY),
        (" \n\t ", Apart.EMPTY),
        ("?!", Apart.EMPTY),
        ("🙂🙃", Apart.EMPTY),
        ("a" * 501, Apart.TOO_LONG),
        ("x y " * 25_000, Apart.TOO_LONG),
        ("How do I reset my pass\x00word?", Apart.CONTROLS),
        ("How do I\x1b[2J reset it?", Apart.CONTROLS),
        ("How do I \u202ereset\u202c it?", Apart.CONTROLS),
        ("How do I re\u200bset it?", Apart.CONTROLS),
        ("What is \U000e0041\U000e0042 this?", Apart.CONTROLS),
        ("What is \ud83d this?", Apart.CONTROLS),
        ("パスワードをリセットする方法は？", Apart.SCRIPT),
        ("如何重置密码", Apart.SCRIPT),
        ("كيف أعيد تعيين كلمة المرور؟", Apart.SCRIPT),
        ("Как сбросить пароль?", Apart.SCRIPT),
        ("איך לאפס סיסמה", Apart.SCRIPT),
        ("पासवर्ड कैसे रीसेट करें", Apart.SCRIPT),
        ("What does 如何重置 mean?", Apart.SCRIPT),
        ("Wie setze ich mein Passwort zurück?", Apart.LANGUAGE),
        ("Comment puis-je réinitialiser mon mot de passe ?", Apart.LANGUAGE),
        ("¿Cómo puedo restablecer mi contraseña?", Apart.LANGUAGE),
        ("Come posso reimpostare la mia password?", Apart.LANGUAGE),
        ("Hoe kan ik mijn wachtwoord opnieuw instellen?", Apart.LANGUAGE),
        ("Jak zresetować moje hasło?", Apart.LANGUAGE),
        ("Làm thế nào để đặt lại mật khẩu?", Apart.LANGUAGE),
        ("for (int i = 0; i < n; i++) { sum += a[i]; }", Apart.CODE),
        ("What is aGVsbG8gd29ybGQgaGVsbG8gd29ybGQgaGVsbG8gd29ybGQ= ?", Apart.CODE),
        ("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", Apart.CODE),
        ("Is jane.doe@example.com a valid address?", Apart.PERSONAL),
        ("Can you call me at 908-405-0112?", Apart.PERSONAL),
        ("Is 4111 1111 1111 1111 blocked?", Apart.PERSONAL),
        ("My name is Ada, who am I?", Apart.PERSONAL),
        ("Is DE89 3704 0044 0532 0130 00 right?", Apart.PERSONAL),
        ("My social security number is lost", Apart.PERSONAL),
        ("What is the weather in Paris?", Apart.FRESH),
        ("Who is the current president?", Apart.FRESH),
        ("What happened yesterday?", Apart.FRESH),
        ("What's the latest version of Python?", Apart.FRESH),
        ("What should we do now?", Apart.FRESH),
        ("What time is it?", Apart.FRESH),
    ],
)
def test_a_question_that_is_not_for_the_model_stays_out(text: str, reason: Apart) -> None:
    assert fit(text) is reason


def test_the_operator_may_allow_what_is_fresh_and_what_is_personal() -> None:
    assert apart("What is the weather like?", max_chars=500, fresh=True, personal=False) is None
    assert apart("My name is Ada, who am I?", max_chars=500, fresh=False, personal=True) is None


@given(st.text(st.characters(exclude_categories=()), max_size=700))
def test_no_text_makes_it_stumble(text: str) -> None:
    assert fit(text) in (None, *Apart)


@pytest.mark.parametrize("text", ["x" * 100_000, "(" * 100_000, "a@" * 50_000, "1 " * 50_000, "my " * 33_000])
def test_a_long_text_is_refused_without_being_read(text: str) -> None:
    assert fit(text) is Apart.TOO_LONG


@pytest.mark.parametrize(
    ("one", "other"), [("Is it 🔥?", "Is it ❄?"), ("20 € or", "20 £ or"), ("Is x ≤ 3?", "Is x ≥ 3?"), ("π", "σ")]
)
def test_what_the_model_hardly_knows_tells_questions_apart(one: str, other: str) -> None:
    assert symbols(one) != symbols(other)


def test_punctuation_and_accents_tell_nothing_apart() -> None:
    assert symbols("It’s “fine” – naïve café…") == symbols("its fine naive cafe") == []


def turn(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


CHAT: dict[str, Any] = {"model": "m", "temperature": 0, "messages": [{"role": "system", "content": "Be brief."}]}


@pytest.mark.parametrize(
    ("dialect", "request_body", "text"),
    [
        ("chat", {"messages": [turn(ASKED)]}, ASKED),
        ("chat", {"messages": [{"role": "user", "content": [{"type": "text", "text": ASKED}]}]}, ASKED),
        ("messages", {"messages": [{"role": "user", "content": [{"type": "text", "text": ASKED}]}]}, ASKED),
        ("responses", {"input": ASKED}, ASKED),
        ("responses", {"input": [turn(ASKED)]}, ASKED),
        ("responses", {"input": [{"role": "user", "content": [{"type": "input_text", "text": ASKED}]}]}, ASKED),
        ("responses", {"input": [{"type": "message", "role": "user", "content": ASKED}]}, ASKED),
    ],
)
def test_the_last_user_turn_is_the_question(dialect: str, request_body: Json, text: str) -> None:
    lifted = lift(dialect, request_body)
    assert lifted is not None
    assert lifted.text == text
    assert ASKED not in json.dumps(lifted.around)


@pytest.mark.parametrize(
    ("dialect", "request_body"),
    [
        ("chat", {}),
        ("chat", {"messages": []}),
        ("chat", {"messages": "hello"}),
        ("chat", {"messages": ["hello"]}),
        ("chat", {"messages": [{"role": "system", "content": ASKED}]}),
        ("chat", {"messages": [turn(ASKED), {"role": "assistant", "content": "Click"}]}),
        ("chat", {"messages": [turn(ASKED), {"role": "tool", "tool_call_id": "1", "content": "42"}]}),
        ("chat", {"messages": [{"role": "user", "content": None}]}),
        ("chat", {"messages": [{"role": "user", "content": HOLE}]}),
        ("chat", {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}] * 2}]}),
        (
            "chat",
            {
                "messages": [
                    {
                        "role": "user",
                        "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "x"}}],
                    }
                ]
            },
        ),
        ("chat", {"messages": [{"role": "user", "content": [{"type": "input_text", "text": ASKED}]}]}),
        ("responses", {"input": [{"type": "function_call_output", "call_id": "1", "output": "42"}]}),
        ("responses", {"input": [{"role": "user", "type": "item_reference", "id": "1"}]}),
        ("completions", {"prompt": ASKED}),
        ("embeddings", {"input": ASKED}),
    ],
)
def test_what_is_no_plain_user_turn_is_no_question(dialect: str, request_body: Json) -> None:
    assert lift(dialect, request_body) is None


@pytest.mark.parametrize(
    ("request_body", "history", "tools"),
    [
        ({**CHAT, "messages": [*CHAT["messages"], turn("a")]}, False, False),
        ({"messages": [turn("a"), {"role": "assistant", "content": "b"}, turn("c")]}, True, False),
        ({"messages": [turn("a")], "tools": [{"type": "function"}]}, False, True),
        ({"messages": [turn("a")], "tools": []}, False, False),
    ],
)
def test_scopes_have_classes(request_body: Json, history: bool, tools: bool) -> None:
    lifted = lift("chat", request_body)
    assert lifted is not None
    assert (lifted.history, lifted.tools) == (history, tools)


def scope(request_body: Json, *, tenant: str = "t", target: bytes = b"/v1/chat/completions") -> str:
    """The scope of a chat request."""
    lifted = lift("chat", request_body)
    assert lifted is not None
    found = fingerprint.exact(
        tenant=TenantId(tenant),
        namespace=b"",
        upstream=b"u",
        dialect=BY_SUFFIX["/chat/completions"],
        target=target,
        fields=Fields(()),
        extra_headers=(),
        request=lifted.around,
    )
    assert isinstance(found, Fingerprint)
    return fingerprint.within(found, "p")


@given(objects, st.text(max_size=20), st.text(max_size=20))
def test_only_the_text_of_the_question_is_left_out_of_the_scope(more: dict[str, Any], one: str, other: str) -> None:
    base = {**more, "messages": [{"role": "system", "content": "s"}]}
    assume(not isinstance(canonical.write(more), Unfit))
    a = {**base, "messages": [*base["messages"], turn(one)]}
    b = {**base, "messages": [*base["messages"], turn(other)]}
    assert scope(a) == scope(b)


LEAVES = ["model", "temperature", "n", "tools", "response_format", "logit_bias", "a_field_that_is_yet_to_come"]


@given(objects, st.sampled_from(LEAVES), st.integers(), st.randoms(use_true_random=False))
def test_any_other_difference_separates(more: dict[str, Any], name: str, number: int, choose: random.Random) -> None:
    assume(not isinstance(canonical.write(more), Unfit))
    a: dict[str, Any] = {
        "model": "m",
        **more,
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": "before", "extra": [1, {"deep": number}]},
            {"role": "assistant", "content": "and after"},
            {"role": "user", "content": "asked", "name": "ada"},
        ],
    }
    b = copy.deepcopy(a)
    match choose.randrange(6):
        case 0:
            b[name] = [b.get(name), number]
        case 1:
            b["messages"][0]["content"] += "!"
        case 2:
            b["messages"][1]["extra"][1]["deep"] += 1
        case 3:
            b["messages"][2]["content"] = b["messages"][2]["content"].upper()
        case 4:
            b["messages"][3]["name"] = "bob"
        case _:
            del b["messages"][1]
    assume(not same(a, b))
    assert scope(a) != scope(b)


def test_the_spelling_of_the_last_turn_separates() -> None:
    in_parts = {"role": "user", "content": [{"type": "text", "text": "a"}]}
    assert scope({"messages": [turn("a")]}) != scope({"messages": [in_parts]})


def test_tenants_and_paths_separate() -> None:
    asked = {"messages": [turn("a")]}
    assert len({scope(asked), scope(asked, tenant="other"), scope(asked, target=b"/chat/completions")}) == 3
