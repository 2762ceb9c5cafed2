"""The guards, each by its table, in both directions; and what may never happen whatever the texts."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy import guards
from proxy.guards import hints, rules
from proxy.guards.parsed import parse

TABLE = Path(__file__).parent / "guard_cases.txt"


def cases() -> Iterator[tuple[str, bool, str, str]]:
    """(guard, whether it fires, one text, the other)."""
    guard = ""
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            guard = line.strip("[]")
        elif line[:2] in ("! ", "= "):
            one, _, other = line[2:].partition(" | ")
            yield guard, line[0] == "!", one, other


ALL = {**rules.HARD, **hints.SOFT}


@pytest.mark.parametrize(("guard", "fires", "one", "other"), list(cases()))
def test_a_guard_fires_on_what_its_table_says_and_on_nothing_else(
    guard: str, fires: bool, one: str, other: str
) -> None:
    for asked, cached in ((one, other), (other, one)):
        assert (ALL[guard](parse(asked), parse(cached)) is not None) == fires


def test_every_guard_has_cases_of_both_kinds() -> None:
    seen = {(guard, fires) for guard, fires, _, _ in cases()}
    assert seen == {(guard, fires) for guard in guards.NAMES for fires in (True, False)}


@pytest.mark.parametrize(("guard", "fires", "one", "other"), [case for case in cases() if case[0] in guards.HARD_NAMES])
def test_what_a_hard_guard_finds_in_short_texts_that_are_alike_is_a_veto(
    guard: str, fires: bool, one: str, other: str
) -> None:
    asked, cached = parse(one), parse(other)
    vetoes = guards.vetoes(asked, cached, guards.fired(asked, cached))
    assert (guard in {veto.guard for veto in vetoes}) == fires


def test_a_veto_tells_the_words_it_went_by() -> None:
    asked, cached = parse("Refund order 48213"), parse("Refund order 48231")
    (veto,) = guards.vetoes(asked, cached, guards.fired(asked, cached))
    assert (veto.guard, veto.asked, veto.cached) == ("numbers", "48213", "48231")


LONG = (
    "I moved here with my family a while ago and we would like to know which office we should go to with our papers, "
    "because the one that we were sent to by the clerk had been closed for good"
)


def test_in_long_texts_a_guard_vetoes_only_where_hardly_anything_else_differs() -> None:
    other = "Where do we go with our documents, now that the bureau is shut? There are 4 of us, none of them a citizen"
    asked, cached = parse(LONG), parse(other)
    assert guards.fired(asked, cached)
    assert not guards.vetoes(asked, cached, guards.fired(asked, cached))
    edited = parse(LONG.replace("closed", "opened"))
    assert guards.vetoes(asked, edited, guards.fired(asked, edited))


def test_texts_that_share_few_words_are_not_vetoed_for_a_negation() -> None:
    asked, cached = parse("I don't want the order any longer"), parse("Please cancel what I bought")
    assert not guards.vetoes(asked, cached, guards.fired(asked, cached))


texts = st.text(max_size=120) | st.lists(
    st.sampled_from(re.findall(r"\S+", TABLE.read_text(encoding="utf-8"))), max_size=30
).map(" ".join)


@settings(max_examples=300, deadline=None)
@given(texts, texts)
def test_no_text_makes_a_guard_raise_and_the_direction_does_not_matter_for_a_veto(one: str, other: str) -> None:
    asked, cached = parse(one), parse(other)
    there = {veto.guard for veto in guards.vetoes(asked, cached, guards.fired(asked, cached))}
    back = {veto.guard for veto in guards.vetoes(cached, asked, guards.fired(cached, asked))}
    assert there == back


@settings(max_examples=200, deadline=None)
@given(texts)
def test_a_text_is_never_vetoed_against_itself(text: str) -> None:
    parsed = parse(text)
    assert not guards.fired(parsed, parsed)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " " * 1000,
        "a" * 100_000,
        "1" * 100_000,
        "not " * 50_000,
        "\x00\x1b[31m",
        "مرحبا كيف حالك",
        "👍" * 5000,
        "a-" * 50_000,
    ],
)
def test_any_length_and_script_is_parsed_quickly_and_within_bounds(text: str) -> None:
    parsed = parse(text)
    assert len(parsed.words) <= 401
    guards.fired(parsed, parse("What is it?"))
