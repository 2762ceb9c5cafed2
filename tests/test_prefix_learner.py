"""Chains and the map of known prefixes: what two prompts share is found, bounded, aged, kept apart by tenant."""

import random
import time
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.prefix import rules
from proxy.prefix.chain import BLOCK_OCTETS, Chain, chain_of, salt_for
from proxy.prefix.heads import Heads
from proxy.prefix.learner import Learner
from proxy.prefix.prompt import Part, Prompt, Segment, prompt_of, steers_itself
from proxy.prefix.pulse import Pulse
from proxy.prefix.reach import NOWHERE, reach

RULES = rules.read()
ANTHROPIC = RULES.find("api.anthropic.com", "claude-sonnet-5")
OPENAI_56 = RULES.find("api.openai.com", "gpt-5.6")
TTL_S = 300.0


def prompt(*texts: str, model: str = "m") -> Prompt:
    """A prompt of system text and turns."""
    segments = [
        Segment(part=Part.TURN if n else Part.SYSTEM, at=("messages", n), role="user", octets=text.encode())
        for n, text in enumerate(texts)
    ]
    return Prompt(model=model, settings=(), segments=tuple(segments))


def chain(*texts: str, tenant: str = "t", model: str = "m") -> Chain:
    built = prompt(*texts, model=model)
    return chain_of(built, salt=salt_for(b"secret", built, tenant=tenant, upstream=b"https://p"))


def learner(max_nodes: int = 1000) -> Learner:
    return Learner(max_nodes=max_nodes)


def see(known: Learner, seen: Chain, now: float = 0.0) -> None:
    known.observe(seen, now=now, ttl_s=TTL_S, written=None)


# --- chains ----------------------------------------------------------------------------------------------------------

texts = st.lists(st.text(max_size=40).map(lambda text: text * 70), max_size=5)


@given(texts, texts, texts)
def test_two_prompts_share_as_many_digests_as_they_share_whole_segments(
    common: list[str], one: list[str], other: list[str]
) -> None:
    a, b = chain(*common, *one), chain(*common, *other)
    shared = sum(1 for x, y in zip(a.digests, b.digests, strict=False) if x == y)
    in_common = a.bounds[len(common) - 1] if common else 0
    assert shared >= in_common
    # From the first digest that differs on, all do.
    assert not set(a.digests[shared:]) & set(b.digests[shared:])


@given(texts)
def test_a_chain_covers_the_prompt(parts: list[str]) -> None:
    built = chain(*parts)
    assert built.octets == sum(len(part.encode()) for part in parts)
    assert len(built.bounds) == len(parts)
    assert list(built.ends) == sorted(set(built.ends))
    assert all(b - a <= BLOCK_OCTETS for a, b in zip((0, *built.ends), built.ends, strict=False))


def test_where_one_part_ends_and_the_next_begins_counts() -> None:
    assert chain("ab", "c").digests[-1] != chain("a", "bc").digests[-1]


def test_tenants_and_models_share_nothing() -> None:
    same = [chain("x" * 5000), chain("x" * 5000, tenant="u"), chain("x" * 5000, model="n")]
    assert len({digest for each in same for digest in each.digests}) == 15


# --- the learner -----------------------------------------------------------------------------------------------------


def test_the_longest_known_prefix_is_found() -> None:
    known = learner()
    see(known, chain("s" * 3000, "one"))
    found = known.known(chain("s" * 3000, "two"), now=1.0, ttl_s=TTL_S)
    assert (found.ever, found.alive, found.cached) == (3, 3, 3)
    assert known.known(chain("t" * 3000), now=1.0, ttl_s=TTL_S).ever == 0


def test_a_prefix_ages() -> None:
    known = learner()
    see(known, chain("s" * 3000), 0.0)
    found = known.known(chain("s" * 3000), now=TTL_S + 1, ttl_s=TTL_S)
    assert (found.ever, found.alive, found.cached) == (3, 0, 0)


@given(st.integers(2, 60), st.lists(st.integers(0, 30), max_size=120))
def test_the_map_stays_within_its_bound_and_keeps_what_was_seen_last(most: int, numbers: list[int]) -> None:
    known = learner(most)
    for number in numbers:
        seen = chain("common", f"{number}")
        see(known, seen)
        assert len(known) <= most + 1
        if most >= 8:
            assert known.known(seen, now=0.0, ttl_s=TTL_S).ever == 2


def test_what_is_seen_again_in_time_counts_and_what_is_not_lapses() -> None:
    known = learner()
    level = known.level(b"wide", b"family", "head")
    for n in range(10):
        seen = chain(f"always the same {n}")
        see(known, seen, n * 10.0)
        known.await_again(seen.digests[-1], level, until=n * 10.0 + TTL_S)
    assert (level.again, level.lapsed, level.chance) == (0, 0, 0)
    see(known, chain("always the same 9"), 200.0)
    assert (level.again, level.lapsed) == (1, 0)
    see(known, chain("something else"), 10_000.0)
    assert (level.again, level.lapsed) == (1, 9)
    assert level.wider is not None
    assert (level.wider.again, level.wider.lapsed) == (1, 9)


def test_a_chance_rises_with_every_time_something_comes_again() -> None:
    known = learner()
    seen, level = chain("again and again"), known.level(b"w", b"f", "head")
    chances = []
    for n in range(8):
        see(known, seen, n * 1.0)
        chances.append(known.chance(seen.digests[-1], level))
    assert chances == sorted(chances)
    assert chances[0] == 0.0
    assert chances[-1] > 0.5


@pytest.mark.timed
def test_a_17k_token_prompt_takes_less_than_half_a_millisecond_of_cpu() -> None:
    built = prompt(*["".join(random.Random(n).choices("abcdefgh ", k=6900)) for n in range(10)])
    known, salt = learner(100_000), salt_for(b"s", built, tenant="t", upstream=b"u")

    def once() -> float:
        start = time.thread_time()
        seen = chain_of(built, salt=salt)
        known.known(seen, now=0.0, ttl_s=TTL_S)
        see(known, seen)
        return time.thread_time() - start

    assert min(once() for _ in range(50)) < 0.0005


# --- the provider ----------------------------------------------------------------------------------------------------


def messages(*contents: object, system: object = "s" * 3000) -> dict[str, object]:
    turns = [{"role": ("user", "assistant")[n % 2], "content": content} for n, content in enumerate(contents)]
    return {"model": "claude-sonnet-5", "system": system, "messages": turns}


def text(said: str, *, marked: bool = False) -> list[dict[str, object]]:
    return [{"type": "text", "text": said, **({"cache_control": {"type": "ephemeral"}} if marked else {})}]


def at(request: Mapping[str, object], dialect: str = "messages") -> tuple[Prompt, Chain]:
    built = prompt_of(dialect, request)
    assert built is not None
    return built, chain_of(built, salt=b"")


def test_a_provider_with_breakpoints_reads_only_what_ends_at_one() -> None:
    known = learner()
    first, first_chain = at(messages("hello", system=text("s" * 3000, marked=True)))
    said = reach(first, first_chain, ANTHROPIC)
    assert said.written == frozenset({3})
    known.observe(first_chain, now=0.0, ttl_s=TTL_S, written=said.written)
    second, second_chain = at(messages("good bye", system=text("s" * 3000, marked=True)))
    again = reach(second, second_chain, ANTHROPIC)
    assert known.known(second_chain, now=1.0, ttl_s=TTL_S, reach=again).cached == 3
    bare, bare_chain = at(messages("good bye"))
    assert reach(bare, bare_chain, ANTHROPIC) == reach(*at({"model": "m"}), ANTHROPIC) == NOWHERE
    assert known.known(bare_chain, now=1.0, ttl_s=TTL_S, reach=NOWHERE).cached == 0


def test_a_mark_looks_back_over_twenty_positions_and_no_further() -> None:
    turns = [f"turn {n}" for n in range(30)]
    for count, found in ((20, True), (21, False)):
        known = learner()
        _, old_chain = at(messages(text("turn 0", marked=True)))
        old = reach(*at(messages(text("turn 0", marked=True))), ANTHROPIC)
        known.observe(old_chain, now=0.0, ttl_s=TTL_S, written=old.written)
        new, new_chain = at(messages(text("turn 0"), *turns[1:count], text("at last", marked=True)))
        said = reach(new, new_chain, ANTHROPIC)
        assert (known.known(new_chain, now=1.0, ttl_s=TTL_S, reach=said).cached > 0) is found


def test_openais_implicit_breakpoints() -> None:
    request = {
        "model": "gpt-5.6",
        "messages": [{"role": "system", "content": "s" * 2000}, {"role": "user", "content": "one"}],
    }
    built, built_chain = at(request, "chat")
    assert reach(built, built_chain, OPENAI_56).written == frozenset({2, 3})
    explicit = {**request, "prompt_cache_options": {"mode": "explicit"}}
    assert reach(*at(explicit, "chat"), OPENAI_56).written == frozenset()
    assert reach(built, built_chain, OPENAI_56, frozenset({0})).written == frozenset({2, 3})


# --- what a client says ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "more",
    [
        {"prompt_cache_key": "k"},
        {"prompt_cache_key": None},
        {"prompt_cache_retention": "24h"},
        {"prompt_cache_options": {"mode": "implicit"}},
        {"cache_control": {"type": "ephemeral"}},
        {"messages": [{"role": "user", "content": text("x", marked=True)}]},
        {"messages": [{"role": "user", "content": [{"type": "tool_result", "content": text("x", marked=True)}]}]},
        {"tools": [{"name": "t", "cache_control": {"type": "ephemeral"}}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "x", "prompt_cache_breakpoint": {}}]}]},
        {"messages": [{"role": "user", "content": [{"cachePoint": {"type": "default"}}]}]},
        {"messages": [[]] * 100_000},
    ],
)
def test_a_client_that_looks_after_the_cache_itself_is_known(more: dict[str, object]) -> None:
    assert steers_itself({**messages("hello"), **more})
    assert not steers_itself(messages("hello about cache_control"))


def test_the_render_order_of_each_dialect() -> None:
    tools, user = [{"name": "t"}], [{"role": "user", "content": "hello"}]
    shape = {"type": "json_object"}
    found: dict[str, dict[str, object]] = {
        "chat": {"messages": user, "response_format": shape, "tools": tools},
        "messages": {"messages": user, "system": "s", "tools": tools},
        "responses": {"input": user, "instructions": "s", "text": {"format": shape}, "tools": tools},
        "completions": {"prompt": "hello"},
    }
    paths = {name: [segment.path for segment in at(request, name)[0].segments] for name, request in found.items()}
    assert paths == {
        "chat": ["tools[0]", "response_format", "messages[0].content"],
        "messages": ["tools[0]", "system", "messages[0].content"],
        "responses": ["tools[0]", "text.format", "instructions", "input[0].content"],
        "completions": ["prompt"],
    }
    assert prompt_of("embeddings", {"input": "x"}) is None


# --- system prompts and rates ----------------------------------------------------------------------------------------


def test_the_system_prompts_that_are_known() -> None:
    heads = Heads(capacity=2)
    for n, digest in enumerate((b"a", b"b", b"a", b"c")):
        heads.use(digest, model="m", octets=10, now=float(n))
    assert [(digest, head.uses) for digest, head in heads.most_used()] == [(b"a", 2), (b"c", 1)]
    assert (len(heads), heads.find(b"b")) == (2, None)
    assert "2 system prompts" in repr(heads)


def test_a_pulse_forgets() -> None:
    pulse = Pulse()
    for n in range(600):
        pulse.beat(n * 1.0)
    assert 55 < pulse.per_minute(599.0) < 65
    assert pulse.per_minute(599.0 + 600) < 0.1
    assert "/min" in repr(pulse)
