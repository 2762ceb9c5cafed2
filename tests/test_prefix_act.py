"""What is set in requests: never in a client's stead, always by splice, and never dearer than doing nothing."""

import asyncio
import copy
import json
import random
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.accounts.pricing import Prices
from proxy.accounts.till import Till
from proxy.accounts.usage import read_usage
from proxy.call import Call, Candidate
from proxy.dialects import BY_SUFFIX
from proxy.headers import Fields
from proxy.keys.clients import Client
from proxy.model import WHOLE, Finding, Key, Reason, TenantId
from proxy.policy import Control, Plan
from proxy.prefix import rules
from proxy.prefix.acting import Action, shaped
from proxy.prefix.keys import Keys
from proxy.prefix.marks import Marks
from proxy.prefix.prompt import prompt_of
from proxy.prefix.splice import NotThere, Text, with_insertions
from proxy.providers.provider import Incoming
from proxy.providers.routing import Route
from proxy.settings import PrefixSettings
from proxy.tasks import Tasks
from proxy.tiers.prefix import PrefixTier
from tests import answers, raw_client
from tests.comparison import Ways
from tests.conftest import StartProxy
from tests.prefix_mixes import HOT, MIXES, Traffic, traffic
from tests.prompt_caching import PromptCache, caching, chat_usage, messages_usage, render
from tests.scripted_provider import steps
from tests.test_prefix_diagnosis import MANUAL
from tests.test_prefix_tier import chat, told

RULES = rules.read()
ANTHROPIC = ("anthropic", "messages", "claude-sonnet-4-5")
OPENAI_56 = ("openai-5.6", "chat", "gpt-5.6")
OPENAI_54 = ("openai", "chat", "gpt-5.4")
DEEPSEEK = ("deepseek", "chat", "deepseek-chat")


def cache_of(provider: str, model: str) -> PromptCache:
    """The cache of a provider, with its published prices."""
    rule = RULES.find(provider, model)
    kinds = {"anthropic": "breakpoint", "openai-5.6": "implicit", "openai": "block", "deepseek": "unit"}
    return PromptCache(
        kinds[provider], min_tokens=rule.min_tokens, ttl_s=rule.ttl_s, read_price=rule.read, write_price=rule.write
    )


# --- what it costs ---------------------------------------------------------------------------------------------------


class _Answered:
    """An answer's head."""

    status = 200

    async def __aenter__(self) -> "_Answered":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class _Provider:
    """Stands where the upstream does, and keeps a prompt cache."""

    def __init__(self, cache: PromptCache, clock: list[float]) -> None:
        self.cache = cache
        self.clock = clock
        self.spent = 0.0
        self.last = (0, 0, 0)
        self.changed = 0

    async def ask(self, fields: Fields, body: object) -> Incoming:
        assert isinstance(body, bytes)
        assert int(fields.get(b"content-length") or b"") == len(body)
        request = json.loads(body)
        self.last = self.cache.ask(request, self.clock[0])
        self.spent += self.cache.cost(self.last)
        return cast(Incoming, _Answered())


def tier_for(provider: str, clock: list[float], **more: Any) -> PrefixTier:
    """A tier that may act."""
    settings: dict[str, Any] = {"mode": "act", "provider": provider, "hold_out": 0.0, **more}
    return PrefixTier(
        PrefixSettings(**settings),
        rules=RULES,
        urls={"": "http://127.0.0.1:1"},
        providers={},
        tills={"": Till(Prices(), upstream="openai")},
        secret=b"s" * 32,
        tasks=Tasks(),
        now=lambda: clock[0],
    )


def call_of(body: bytes, dialect: str, model: str) -> tuple[Call, Candidate]:
    spoken = BY_SUFFIX["/messages" if dialect == "messages" else "/chat/completions"]
    fields = Fields(((b"Content-Length", b"%d" % len(body)),))
    call = Call(method=b"POST", target=b"/", fields=fields, body=body, dialect=spoken)
    plan = Plan(read=True, write=True, join=True, reason=Reason.NOT_FOUND)
    asked = Control()
    candidate = Candidate(
        model=model, asked=asked, plan=plan, form=WHOLE, tenant=TenantId("t"), identity=Key("k"), route=Route()
    )
    return call, candidate


async def played(
    sent: Traffic, provider: str, dialect: str, model: str, cache: PromptCache
) -> tuple[float, PrefixTier]:
    """What *sent* costs with the tier acting."""
    clock = [0.0]
    tier, upstream = tier_for(provider, clock), _Provider(cache, clock)
    for moment, request in sent:
        clock[0] = moment
        body = json.dumps(request).encode()
        call, candidate = call_of(body, dialect, model)
        assert call.dialect is not None
        watch = tier.watch(call, call.dialect, candidate)
        assert watch is not None
        await tier.ask(upstream.ask, call.fields, body, watch)
        spoken = messages_usage if dialect == "messages" else chat_usage
        tier.landed(watch, Finding(usage=read_usage(spoken(upstream.last)), model=model))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    return upstream.spent, tier


def untouched(sent: Traffic, cache: PromptCache) -> float:
    """What *sent* costs as it is."""
    return sum(cache.cost(cache.ask(request, moment)) for moment, request in sent)


def clairvoyant(sent: Traffic, cache: PromptCache, *, explicit: bool) -> float:
    """What it costs with marks exactly where the same prefix is sent again in time, or was marked before."""
    again: dict[bytes, list[float]] = defaultdict(list)
    prompts = [(moment, request, render(request)) for moment, request in sent]
    for moment, _, prompt in prompts:
        for place in prompt.places:
            again[prompt.octets[: place.end]].append(moment)
    spent = 0.0
    live: dict[bytes, float] = {}
    for moment, request, prompt in prompts:
        wanted = []
        for number, place in enumerate(prompt.places):
            prefix = prompt.octets[: place.end]
            comes = any(moment < later <= moment + cache.ttl_s for later in again[prefix])
            there = moment - live.get(prefix, -1e9) <= cache.ttl_s
            if (comes or there) and place.end // 4 >= cache.min_tokens:
                wanted.append((number, prefix, comes, there))
        read, written = ([each for each in wanted if each[at]][-1:] for at in (3, 2))
        chosen = {number: prefix for number, prefix, _, _ in (*read, *written, *wanted[:2])}
        marked = copy.deepcopy(request)
        for number, prefix in chosen.items():
            set_mark(marked, number)
            live[prefix] = moment
        if explicit:
            marked["prompt_cache_options"] = {"mode": "explicit"}
        spent += cache.cost(cache.ask(marked, moment))
    return spent


def set_mark(request: dict[str, Any], number: int) -> None:
    """Mark the block *number* of *request*, tools, system and turns counted through."""
    mark: dict[str, object] = {"cache_control": {}}
    tools = request.get("tools") or []
    if number < len(tools):
        tools[number] = {**tools[number], **mark}
        return
    number -= len(tools)
    holders: list[tuple[Any, str]] = [(request, "system")] if "system" in request else []
    holders += [(turn, "content") for turn in request["messages"]]
    for holder, name in holders:
        if isinstance(holder[name], str):
            holder[name] = [{"type": "text", "text": holder[name]}]
        if number < len(holder[name]):
            holder[name][number] = {**holder[name][number], **mark}
            return
        number -= len(holder[name])
    raise AssertionError("no such block")


MARKED = [(mix, provider) for provider in (ANTHROPIC, OPENAI_56) for mix in MIXES]
UNMARKED = [
    (mix, provider) for provider in (OPENAI_54, DEEPSEEK) for mix in ("one_shot", "hot_system_prompt", "timestamps")
]


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("mix", "provider"), [*MARKED, *UNMARKED], ids=lambda each: each if isinstance(each, str) else each[0]
)
def test_acting_never_costs_more_than_doing_nothing(mix: str, provider: tuple[str, str, str]) -> None:
    name, dialect, model = provider
    sent = traffic(mix, dialect, model)
    nothing = untouched(sent, cache_of(name, model))
    acted, tier = asyncio.run(played(sent, name, dialect, model, cache_of(name, model)))
    assert acted <= nothing
    forecasts = tier.hindsight.account.forecasts
    # Where units are the provider's choice, the second request of a kind is foretold to be read, and is not.
    assert forecasts.requests == len(sent)
    assert forecasts.close >= len(sent) - (provider is DEEPSEEK)
    if provider in (ANTHROPIC, OPENAI_56) and mix in HOT:
        bound = clairvoyant(sent, cache_of(name, model), explicit=provider is OPENAI_56)
        assert acted <= 1.10 * bound, f"{acted:.0f}, doing nothing {nothing:.0f}, knowing all {bound:.0f}"


def test_what_is_held_out_is_compared_with() -> None:
    sent = traffic("hot_system_prompt", "messages", "claude-sonnet-4-5")
    clock = [0.0]
    tier = tier_for("anthropic", clock, hold_out=1.0)

    async def play() -> None:
        upstream = _Provider(cache_of("anthropic", "claude-sonnet-4-5"), clock)
        for moment, request in sent[:60]:
            clock[0] = moment
            body = json.dumps(request).encode()
            call, candidate = call_of(body, "messages", "claude-sonnet-4-5")
            assert call.dialect is not None
            watch = tier.watch(call, call.dialect, candidate)
            assert watch is not None
            await tier.ask(upstream.ask, call.fields, body, watch)
            tier.landed(watch, Finding(usage=read_usage(messages_usage(upstream.last)), model="claude-sonnet-4-5"))
            await asyncio.sleep(0)

    asyncio.run(play())
    assert (tier.hindsight.account.acted.requests, tier.hindsight.account.observed.requests) == (0, 60)
    assert tier.hindsight.account.held_out.requests == tier.steering.counts.held_out > 50


def test_a_client_may_be_treated_in_its_own_way() -> None:
    tier = tier_for("anthropic", [0.0], mode="observe", mode_by_client={"ann": "act"})
    body = json.dumps(claude(1)).encode()
    call, candidate = call_of(body, "messages", "claude-sonnet-4-5")
    assert call.dialect is not None
    modes = []
    for client in (None, Client(name="bob"), Client(name="ann")):
        watch = tier.watch(replace(call, client=client), call.dialect, candidate)
        assert watch is not None
        modes.append((watch.mode, watch.acts))
    assert modes == [("observe", False), ("observe", False), ("act", True)]


# --- splices ---------------------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=5), below, max_size=3),
    max_leaves=8,
)
contents = st.text(min_size=1, max_size=20).filter(str.strip) | st.lists(
    st.builds(lambda text: {"type": "text", "text": text}, st.text(min_size=1, max_size=9).filter(str.strip)),
    min_size=1,
    max_size=3,
)
requests = st.builds(
    lambda turns, rest: {**rest, "messages": [{"role": "user", "content": turn} for turn in turns]},
    st.lists(contents, min_size=1, max_size=4),
    st.dictionaries(
        st.text(max_size=6).filter(lambda name: name not in ("messages", "tools", "system", "response_format")),
        json_values,
        max_size=4,
    ),
)


@given(requests, st.booleans(), st.sampled_from([None, 1, 3]), st.data())
def test_what_is_set_changes_nothing_else(
    request: dict[str, Any], ascii_only: bool, indent: int | None, data: st.DataObject
) -> None:
    try:
        body = json.dumps(request, ensure_ascii=ascii_only, indent=indent).encode()
    except UnicodeEncodeError:
        return
    prompt = prompt_of("chat", request)
    assert prompt is not None
    numbers = data.draw(st.sets(st.integers(0, len(prompt.segments) - 1), max_size=3))
    action = Action(key="ao-0123", marks=Marks(numbers=tuple(sorted(numbers)), explicit=True), mark="cache_control")
    told_body = shaped(body, prompt, action)
    assert told_body is not None
    # Nothing of the original is gone: it is what is left when some octets are taken out.
    left = iter(told_body)
    assert all(octet in left for octet in body)
    changed = json.loads(told_body)
    assert (changed.pop("prompt_cache_key"), changed.pop("prompt_cache_options")) == ("ao-0123", {"mode": "explicit"})
    again = prompt_of("chat", changed)
    assert again is not None
    assert {n for n, segment in enumerate(again.segments) if segment.marked} == numbers
    assert [segment.octets for segment in again.segments] == [segment.octets for segment in prompt.segments]
    for name, value in request.items():
        if name != "messages":
            assert json.dumps(changed[name]) == json.dumps(value)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"a":', b"\xff", b'{"a": [1]}', b'{"a" 1}', b"[" * 100_000])
def test_a_place_that_is_not_there_is_told(body: bytes) -> None:
    for at in (("a", "b"), ("a", 5), ("a", 0, "c"), ("z",)):
        with pytest.raises(NotThere):
            Text(body).member(at, "x", 1)
    with pytest.raises(NotThere):
        Text(b'{"a": {}}').member(("a",), "x", 1)
    with pytest.raises(NotThere):
        Text(b'{"a": {}}').wrapped(("a",), "x", 1)


def test_insertions_at_one_place_keep_their_order() -> None:
    assert with_insertions(b"ad", [(1, b"b"), (1, b"c"), (2, b"e")]) == b"abcde"


# --- keys ------------------------------------------------------------------------------------------------------------


def shares(rpm: float, *, requests: int, lineages: int = 0) -> list[int]:
    """The shares of *requests* that come evenly at *rpm*; each of so many *lineages* in turn."""
    keys, step, found = Keys(b"s"), 60.0 / rpm, []
    for n in range(requests):
        lineage = (b"lineage %d" % (n % lineages),) if lineages else (b"alone %d" % n,)
        found.append(keys.share(b"group", lineage, limit_rpm=15, goes_on=bool(lineages), now=n * step))
    return found


def test_below_the_rate_of_one_machine_no_key_is_set() -> None:
    assert set(shares(13, requests=60)) == {0}


@pytest.mark.parametrize("lineages", [0, 20])
def test_a_busy_prompt_is_split_into_shares_that_one_machine_takes(lineages: int) -> None:
    found = shares(60, requests=600, lineages=lineages)
    for end in range(60, 600, 7):
        minute = found[end - 60 : end]
        assert max(minute.count(share) for share in set(minute)) <= 14
    # Conversations leave room for each other's return; single requests need none.
    assert len(set(found)) <= (10 if lineages else 8)


def test_a_conversation_that_comes_back_late_finds_room_in_its_share() -> None:
    # Of forty conversations a minute two in five go on, each turn some 45 seconds after the one before.
    chance, keys = random.Random(3), Keys(b"s")
    turns: list[tuple[float, bytes, int]] = []
    now = 0.0
    while now < 3600:
        now += chance.expovariate(40 / 60)
        at = now
        for turn in range(1 if chance.random() < 0.6 else chance.randrange(3, 9)):
            turns.append((at, b"document %f" % now, turn))
            at += chance.expovariate(1 / 45)
    before: dict[bytes, int] = {}
    stayed = back = 0
    for at, document, turn in sorted(turns):
        share = keys.share(b"group", (document,), limit_rpm=15, goes_on=False, now=at)
        back += turn > 0
        stayed += turn > 0 and before[document] == share
        before[document] = share
    assert back > 2000
    assert stayed > 0.97 * back


def test_a_conversation_keeps_its_share() -> None:
    found = shares(60, requests=600, lineages=30)
    assert all(len(set(found[n::30])) == 1 for n in range(30))


def test_a_key_is_ascii_and_tells_nothing() -> None:
    keys = Keys(b"secret")
    assert re.fullmatch(r"ao-[0-9a-f]{24}", keys.key(b"group", 3))
    assert keys.key(b"group", 3) != keys.key(b"group", 4) != Keys(b"other").key(b"group", 4)
    assert "0 groups" in repr(keys)


# --- through the proxy -----------------------------------------------------------------------------------------------

ACT = {"prefix__mode": "act", "prefix__hold_out": "0"}
CLAUDE = {**ACT, "prefix__provider": "anthropic", "accounting__provider": "anthropic"}


def claude(number: int, **more: object) -> dict[str, Any]:
    turn = {"role": "user", "content": f"Where is desk {number}?"}
    return {"model": "claude-sonnet-4-5", "max_tokens": 9, "system": MANUAL, "messages": [turn], **more}


def ask(
    ways: Ways, request: Mapping[str, Any], *, path: str, headers: tuple[tuple[str, str], ...] = ()
) -> raw_client.RawAnswer:
    body = json.dumps({**request, "metadata": {"user_id": ways.nonce}}, indent=1).encode()
    return raw_client.exchange(ways.proxy, ways.post(path, body, headers=headers))


@pytest.mark.proxy_only
def test_a_hot_system_prompt_is_marked_by_splice_and_nothing_else_changes(start_proxy: StartProxy) -> None:
    ways = start_proxy(**CLAUDE)
    ways.plays(caching(PromptCache("breakpoint", write_price=1.25)))
    for n in range(8):
        assert ask(ways, claude(n), path="/v1/messages").status == 200
    shown = told(ways, requests=0)
    assert shown["acted"]["requests"] == shown["actions"]["marks"] >= 4
    assert shown["acted"]["hits"] >= 3
    assert float(shown["acted"]["usd"]) > 0
    last = ways.received()[-1]
    sent = json.dumps({**claude(7), "metadata": {"user_id": ways.nonce}}, indent=1).encode()
    quoted = json.dumps(MANUAL).encode()
    wrapped = b'[{"type":"text","text":' + quoted + b',"cache_control":{"type":"ephemeral"}}]'
    assert bytes(last.body) == sent.replace(quoted, wrapped)
    assert last.values("content-length") == [b"%d" % len(last.body)]


@pytest.mark.proxy_only
@pytest.mark.parametrize(
    ("more", "headers"),
    [
        ({"cache_control": {"type": "ephemeral"}}, ()),
        ({"system": [{"type": "text", "text": MANUAL, "cache_control": {"type": "ephemeral", "ttl": "1h"}}]}, ()),
        ({}, (("x-askonce-prefix", "observe"),)),
        ({}, (("Content-MD5", "x"),)),
    ],
)
def test_a_client_that_looks_after_it_itself_is_left_alone(
    start_proxy: StartProxy, more: dict[str, object], headers: tuple[tuple[str, str], ...]
) -> None:
    ways = start_proxy(**CLAUDE)
    ways.plays(caching(PromptCache("breakpoint", write_price=1.25)))
    for n in range(6):
        ask(ways, claude(n), path="/v1/messages")
    ask(ways, claude(9, **more), path="/v1/messages", headers=headers)
    sent = json.dumps({**claude(9, **more), "metadata": {"user_id": ways.nonce}}, indent=1).encode()
    assert bytes(ways.received()[-1].body) == sent
    assert b"cache_control" in bytes(ways.received()[-2].body)


@pytest.mark.proxy_only
@pytest.mark.parametrize("named", [True, False])
def test_what_is_refused_is_sent_again_as_it_came_and_not_tried_for_a_day(start_proxy: StartProxy, named: bool) -> None:
    ways = start_proxy(**CLAUDE)
    cache = caching(PromptCache("breakpoint", write_price=1.25))
    said = "Unknown field: cache_control" if named else "Something is not right."
    refusal = steps(answers.whole(answers.compact({"error": {"message": said}}), status=400))
    # Three to learn from, the first that is marked, the same again, and one more.
    ways.plays(*[cache] * 3, refusal, cache)
    for n in range(4):
        assert ask(ways, claude(n), path="/v1/messages").status == 200
    bodies = [bytes(each.body) for each in ways.received()]
    assert [b"cache_control" in body for body in bodies] == [False, False, False, True, False]
    ask(ways, claude(5), path="/v1/messages")
    assert b"cache_control" not in bytes(ways.received()[-1].body)
    shown = told(ways, requests=5)
    assert (shown["actions"]["refused"], shown["acted"]["requests"]) == (1, 0)
    assert ways.process is not None
    assert "off for a day" in ways.process.said()


@pytest.mark.proxy_only
def test_a_clients_own_mistake_is_answered_as_ever(start_proxy: StartProxy) -> None:
    ways = start_proxy(**CLAUDE)
    cache = caching(PromptCache("breakpoint", write_price=1.25))
    refusal = steps(answers.whole(b'{"error": "max_tokens is too large"}', status=400))
    ways.plays(*[cache] * 4, refusal, refusal, cache)
    for n in range(4):
        ask(ways, claude(n), path="/v1/messages")
    answer = ask(ways, claude(4), path="/v1/messages")
    assert (answer.status, bytes(answer.body)) == (400, b'{"error": "max_tokens is too large"}')
    ask(ways, claude(5), path="/v1/messages")
    assert b"cache_control" in bytes(ways.received()[-1].body)


@pytest.mark.proxy_only
def test_repeats_are_known_by_what_the_client_sent(start_proxy: StartProxy) -> None:
    ways = start_proxy(**CLAUDE)
    ways.plays(caching(PromptCache("breakpoint", write_price=1.25)))
    for n in range(5):
        ask(ways, claude(n, temperature=0), path="/v1/messages")
    ways.settle()
    fetched = len(ways.received())
    assert b"cache_control" in bytes(ways.received()[-1].body)
    again = ask(ways, claude(4, temperature=0), path="/v1/messages")
    assert (again.get("x-cache"), len(ways.received())) == ("HIT", fetched)


@pytest.mark.proxy_only
def test_advise_says_what_act_would_do_and_changes_nothing(start_proxy: StartProxy) -> None:
    ways = start_proxy(**{**CLAUDE, "prefix__mode": "advise"})
    ways.plays(caching(PromptCache("breakpoint", write_price=1.25)))
    for n in range(8):
        ask(ways, claude(n), path="/v1/messages")
    shown = told(ways, requests=8)
    assert shown["actions"]["marks"] >= 4
    assert shown["acted"]["requests"] == 0
    assert not any(b"cache_control" in bytes(each.body) for each in ways.received())


@pytest.mark.proxy_only
def test_a_busy_prompt_gets_keys_where_they_steer(start_proxy: StartProxy) -> None:
    ways = start_proxy(**ACT, prefix__provider="openai")
    ways.plays(caching(PromptCache("block")))
    for n in range(30):
        raw_client.exchange(
            ways.proxy,
            ways.post("/v1/chat/completions", json.dumps({**chat(MANUAL, f"Desk {n}?"), "user": ways.nonce}).encode()),
        )
    keys = [json.loads(each.body).get("prompt_cache_key") for each in ways.received()]
    assert keys[:14] == [None] * 14
    assert len({key for key in keys[14:] if key}) == 2
    assert told(ways, requests=0)["actions"]["keys"] == sum(1 for key in keys if key)
