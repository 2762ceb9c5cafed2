"""A field that nobody has heard of, added to any request of any dialect, never finds another request's answer."""

import asyncio
import copy
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.call import Call, Candidate
from proxy.dialects import BY_SUFFIX
from proxy.headers import Fields
from proxy.model import Key
from proxy.reception import Reception
from proxy.semantic.question import Question
from proxy.settings import CacheSettings
from tests import answers
from tests.comparison import Ways

TURNS = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is rain?"}]
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]
REQUESTS: Mapping[str, dict[str, Any]] = {
    "/chat/completions": {"model": "m", "messages": TURNS, "temperature": 0, "tools": TOOLS, "stream": True},
    "/completions": {"model": "m", "prompt": ["What is rain?"], "temperature": 0, "echo": True, "n": 2},
    "/responses": {"model": "m", "input": TURNS, "temperature": 0, "reasoning": {"effort": "low"}, "stream": False},
    "/embeddings": {"model": "m", "input": ["What is rain?", "What is snow?"], "dimensions": 3},
    "/messages": {
        "model": "m",
        "system": [{"type": "text", "text": "Be brief."}],
        "messages": TURNS[1:],
        "max_tokens": 9,
        "temperature": 0,
    },
}

NAMES = st.text(min_size=1, max_size=12) | st.sampled_from(
    ["seed", "top_p", "cache", "user_id", "Temperature", "model "]
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


def considered(suffix: str, body: Mapping[str, Any]) -> Candidate:
    """What a request is to the cache."""
    reception = Reception(CacheSettings(), secret=b"secret", trusted=lambda _: False)
    dialect = BY_SUFFIX[suffix]
    call = Call(
        method=b"POST",
        target=b"/v1" + suffix.encode(),
        fields=Fields(((b"Authorization", b"Bearer sk-x"),)),
        body=answers.compact(body),
        dialect=dialect,
    )
    return asyncio.run(reception.consider(call, dialect))


def found_by(candidate: Candidate) -> set[Key | str]:
    """Everything by which an answer of another request could be found."""
    scope = candidate.question.scope if isinstance(candidate.question, Question) else None
    return {each for each in (candidate.identity, *candidate.pieces, scope) if each is not None}


def objects(value: object) -> list[dict[str, Any]]:
    """Every object in *value*, itself included."""
    if isinstance(value, dict):
        return [value, *(each for below in value.values() for each in objects(below))]
    if isinstance(value, list):
        return [each for below in value for each in objects(below)]
    return []


@given(suffix=st.sampled_from(sorted(REQUESTS)), name=NAMES, value=VALUES, place=st.integers(0, 10))
def test_a_field_that_is_added_anywhere_makes_another_request(
    suffix: str, name: str, value: object, place: int
) -> None:
    plain = REQUESTS[suffix]
    more = copy.deepcopy(plain)
    targets = objects(more)
    target = targets[place % len(targets)]
    top = target is more
    if name in target or (top and name in BY_SUFFIX[suffix].left_out):
        return
    target[name] = value
    one, other = considered(suffix, plain), considered(suffix, more)
    assert one.identity is not None
    if top and name == "stream_options":
        # It says how the answer is framed, and separates as its form.
        assert one.form != other.form or found_by(one).isdisjoint(found_by(other))
        return
    assert found_by(one).isdisjoint(found_by(other))


@given(suffix=st.sampled_from(sorted(REQUESTS)), value=VALUES, place=st.integers(0, 30))
def test_a_value_that_is_changed_anywhere_makes_another_request(suffix: str, value: object, place: int) -> None:
    plain = REQUESTS[suffix]
    more = copy.deepcopy(plain)
    members = [(each, name) for each in objects(more) for name in each]
    target, name = members[place % len(members)]
    before = target[name]
    if (target is more and name in BY_SUFFIX[suffix].left_out) or _same(before, value):
        return
    target[name] = value
    one, other = considered(suffix, plain), considered(suffix, more)
    identities = {one.identity, *one.pieces} - {None}
    assert identities.isdisjoint({other.identity, *other.pieces} - {None})


def _same(one: object, other: object) -> bool:
    """Whether two values are one in JSON."""
    return answers.compact(one) == answers.compact(other) or (
        isinstance(one, int | float)
        and isinstance(other, int | float)
        and not isinstance(one, bool)
        and not isinstance(other, bool)
        and one == other
    )


# The contract's C-statements, in every dialect, from outside.

DIALECTS = pytest.mark.parametrize("suffix", sorted(REQUESTS))


def octets(ways: Ways, suffix: str, **more: object) -> bytes:
    """A request in this dialect that holds the nonce."""
    texts: dict[str, Any] = {
        "/chat/completions": {"messages": [{"role": "user", "content": f"Say {ways.nonce}."}]},
        "/completions": {"prompt": f"Say {ways.nonce}."},
        "/responses": {"input": f"Say {ways.nonce}."},
        "/embeddings": {"input": f"Say {ways.nonce}."},
        "/messages": {"messages": [{"role": "user", "content": f"Say {ways.nonce}."}], "max_tokens": 9},
    }
    temperature = {} if suffix == "/embeddings" else {"temperature": 0}
    body = {"model": "gpt-4o-mini", **temperature, **texts[suffix], **more}
    return ways.post(f"/v1{suffix}", answers.compact(body))


def outcome(ways: Ways, request: bytes) -> str | None:
    """How the cache answers it."""
    return ways.through(request).answer.get("x-cache")


@pytest.mark.proxy_only
@DIALECTS
def test_c08_a_field_that_is_new_separates_in_every_dialect(ways: Ways, suffix: str) -> None:
    plain, new = octets(ways, suffix), octets(ways, suffix, brand_new_knob={"deep": [1]})
    assert [outcome(ways, each) for each in (plain, plain, new, new, plain)] == ["MISS", "HIT", "MISS", "HIT", "HIT"]


@pytest.mark.proxy_only
@DIALECTS
@pytest.mark.parametrize("status", [400, 429, 500, 529])
def test_c05_no_error_is_kept_in_any_dialect(ways: Ways, suffix: str, status: int) -> None:
    ways.plays(answers.whole(b'{"error":{"message":"no"}}', status=status))
    assert [outcome(ways, octets(ways, suffix)) for _ in range(2)] == ["MISS", "MISS"]
    assert len(ways.received()) == 2


@pytest.mark.proxy_only
@pytest.mark.parametrize("suffix", sorted(set(REQUESTS) - {"/embeddings"}))
def test_c09_no_sampled_answer_is_kept_in_any_dialect(ways: Ways, suffix: str) -> None:
    for temperature in (1, None):
        asked = octets(ways, suffix, temperature=temperature)
        assert [outcome(ways, asked) for _ in range(2)] == ["BYPASS", "BYPASS"]


@pytest.mark.proxy_only
@DIALECTS
def test_c06_no_truncated_answer_is_kept_in_any_dialect(ways: Ways, suffix: str) -> None:
    ways.plays(answers.whole(b'{"object":"list","data":['))
    assert [outcome(ways, octets(ways, suffix)) for _ in range(2)] == ["MISS", "MISS"]


@pytest.mark.proxy_only
@pytest.mark.parametrize("suffix", sorted(set(REQUESTS) - {"/embeddings"}))
def test_c04_a_stream_and_a_whole_answer_never_answer_each_other_in_the_wrong_format(ways: Ways, suffix: str) -> None:
    whole, stream = octets(ways, suffix), octets(ways, suffix, stream=True)
    for request in (whole, stream, whole, stream):
        told = ways.through(request).answer
        kind = told.get("content-type") or ""
        assert kind.startswith("text/event-stream" if request is stream else "application/json")
        assert bytes(told.body).lstrip()[:1] in ((b"d", b"e") if request is stream else (b"{",))
