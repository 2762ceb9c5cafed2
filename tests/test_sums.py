"""The books add up: whatever many clients do at once, /stats says what they saw and what the provider saw."""

import itertools
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests import answers, raw_client
from tests.answers import DONE, EVENTS, JSON, chunk
from tests.comparison import Ways
from tests.conftest import StartProxy
from tests.observation import OUTCOMES, Stats, assert_adds_up, settled, stats
from tests.proxy_process import ProxyProcess
from tests.raw_client import Ending, Headers, RawAnswer, RawConnection
from tests.scripted_provider import End, Gate, Pause, Script, ScriptedProvider, steps

pytestmark = pytest.mark.proxy_only

CHAT = "/v1/chat/completions"
CACHED = re.compile(rb"POST /v1/(chat/completions|embeddings|responses|messages) ")
WHOLE_BODY = answers.chat_body("Always the same.")
FIRST_EVENTS = b"".join(answers.chat_events(["Half ", "of ", "it "], finish=None))
"""What a stream of the scripts below sends before it breaks off or stalls."""

COUNTER = dict(zip(("HIT", "JOINED", "MISS", "BYPASS", "ERROR"), OUTCOMES, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One call as its client saw it end."""

    outcome: str | None
    """The ``x-cache`` word; None for calls that the cache has no part in."""
    reason: str | None = None
    model: str = ""
    sent: int = 0
    got: int = 0
    status: int = 0
    whole: bool = True
    """The answer came to its end."""
    usage: tuple[int, int] | None = None
    """Input and output tokens that the answer names."""
    own: bool = False
    """A page of the proxy's own."""


@dataclass(slots=True, repr=False)
class House:
    """A proxy, its provider, and everything its clients saw so far."""

    provider: ScriptedProvider
    proxy: ProxyProcess
    seen: list[Seen] = field(default_factory=list)
    rounds: Iterator[int] = field(default_factory=itertools.count)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def fetched(self, text: str = "") -> int:
        """How many requests on cached paths that mention *text* reached the provider."""
        return sum(bool(CACHED.match(each.head)) for each in self.provider.requests(text))


def _start(provider: ScriptedProvider, log: pytest.TempPathFactory) -> ProxyProcess:
    stalled = steps(answers.chunked_head(EVENTS), chunk(FIRST_EVENTS), Gate())
    broken = steps(answers.chunked_head(EVENTS), chunk(FIRST_EVENTS), Pause(0.005), End.RESET)
    scripts: dict[str, Script] = {
        "it-fails": steps(answers.whole(b'{"error":{"message":"no"}}', status=500)),
        "it-breaks": broken,
        "it-dies": steps(End.RESET),
        "it-stalls": stalled,
        "it-is-silent": steps(Gate()),
    }
    for text, script in scripts.items():
        provider.on(text, script)
    return ProxyProcess(provider.origin, log.mktemp("sums") / "log")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """One proxy for all examples: the books must be right after each of them, and all of them."""
    with ScriptedProvider(latency_s=0.005) as provider, _start(provider, tmp_path_factory) as proxy:
        yield House(provider, proxy)


@pytest.fixture(scope="module")
def busy_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Another one, for clients of whom nobody knows how far they came."""
    with ScriptedProvider(latency_s=0.005) as provider, _start(provider, tmp_path_factory) as proxy:
        yield House(provider, proxy)


# --- what a client may do --------------------------------------------------------------------------------------------


def request(prompt: str, *, model: str = "model-a", headers: Headers = (), **more: object) -> bytes:
    """A chat request at temperature 0, unless *more* says otherwise."""
    body = {"model": model, "messages": [{"role": "user", "content": prompt}], "temperature": 0, **more}
    return post(CHAT, answers.compact(body), headers)


def post(path: str, body: bytes, headers: Headers = ()) -> bytes:
    """A JSON request with a key."""
    return raw_client.request("POST", path, (("Authorization", "Bearer sk-sums"), *JSON, *headers), body)


WITH_USAGE = {"include_usage": True}
"""An answer given from the cache in the other form names its usage only where it was asked for."""

Act = Callable[[House, str], Seen]
"""What one client does; the text is a prompt that others of the same round use too."""


def asks(prompt: str = "", *, headers: Headers = (), model: str = "model-a", **more: object) -> Act:
    """Ask and read to the end; with *prompt*, about something that a script is meant for."""

    def act(house: House, shared: str) -> Seen:
        return answered(house, request(f"{prompt} {shared}", model=model, headers=headers, **more), model)

    return act


def sends(make: Callable[[str], bytes], *, model: str) -> Act:
    """Send what *make* makes of the prompt and read to the end."""
    return lambda house, shared: answered(house, make(shared), model)


def answered(house: House, octets: bytes, model: str) -> Seen:
    """Send *octets*, read to the end, and tell what was seen."""
    answer = raw_client.exchange(house.proxy.address, octets)
    outcome, reason = answer.get("x-cache"), answer.get("x-cache-reason")
    if answer.ending is not Ending.WHOLE:
        outcome, reason = "ERROR", "upstream_broke"
    return Seen(
        outcome=outcome,
        reason=reason,
        model=model,
        sent=len(octets.partition(b"\r\n\r\n")[2]),
        got=answer.size,
        status=answer.status,
        whole=answer.ending is Ending.WHOLE,
        usage=usage_in(answer),
    )


def usage_in(answer: RawAnswer) -> tuple[int, int] | None:
    """The tokens that the answer names, in whatever dialect."""
    found = re.findall(rb'"(?:prompt|input)_tokens": ?([0-9]+)', bytes(answer.body))
    made = re.findall(rb'"(?:completion|output)_tokens": ?([0-9]+)', bytes(answer.body))
    return (int(found[-1]), int(made[-1]) if made else 0) if found else None


def leaves_in_mid_stream(house: House, _: str) -> Seen:
    """Ask for something nobody else asks for, read the beginning, and hang up."""
    octets = request(f"it-stalls {next(house.numbers)}", stream=True)
    with RawConnection(house.proxy.address) as connection:
        connection.send(octets)
        answer = connection.start_answer("POST")
        answer.read_size(len(FIRST_EVENTS))
        connection.reset()
    return Seen(
        outcome=answer.get("x-cache"),
        reason=answer.get("x-cache-reason"),
        model="model-a",
        sent=len(octets.partition(b"\r\n\r\n")[2]),
        got=answer.size,
        status=200,
        whole=False,
    )


def leaves_before_the_head(house: House, _: str) -> Seen:
    """Ask for something nobody else asks for, and hang up before anything comes."""
    text = f"it-is-silent {next(house.numbers)}."
    octets = request(text)
    with RawConnection(house.proxy.address) as connection:
        connection.send(octets)
        house.provider.wait_for(text)
        connection.reset()
    body = len(octets.partition(b"\r\n\r\n")[2])
    return Seen(outcome="MISS", reason="not_found", model="model-a", sent=body, whole=False)


def looks_at(path: str) -> Act:
    """Read one of the proxy's own pages."""

    def act(house: House, _: str) -> Seen:
        answer = raw_client.exchange(house.proxy.address, raw_client.request("GET", path))
        assert answer.status == 200
        assert answer.get("x-cache") is None
        return Seen(outcome=None, own=True)

    return act


def embedding(shared: str) -> bytes:
    """A request on another cached path."""
    return post("/v1/embeddings", answers.compact({"model": "model-e", "input": shared}))


def responses(shared: str) -> bytes:
    """A request on one more."""
    return post("/v1/responses", answers.compact({"model": "model-r", "input": shared, "temperature": 0}))


ACTS: dict[str, Act] = {
    "whole": asks(),
    "stream": asks(stream=True, stream_options=WITH_USAGE),
    "another model": asks(model="model-b"),
    "embedding": sends(embedding, model="model-e"),
    "responses": sends(responses, model="model-r"),
    "sampled": asks(temperature=1),
    "no temperature": asks(temperature=None, stream=True, stream_options=WITH_USAGE),
    "no-store": asks(headers=(("Cache-Control", "no-store"),)),
    "no-cache": asks(headers=(("Cache-Control", "no-cache"),)),
    "only-if-cached": asks("nobody asked", headers=(("Cache-Control", "only-if-cached"),)),
    "not JSON": sends(lambda shared: post(CHAT, b'{"messages": %s' % shared.encode()), model=""),
    "fails": asks("it-fails"),
    "breaks": asks("it-breaks", stream=True),
    "dies": asks("it-dies"),
    "leaves in mid-stream": leaves_in_mid_stream,
    "leaves before the head": leaves_before_the_head,
    "models": sends(lambda _: raw_client.request("GET", "/v1/models"), model=""),
    "upload": sends(lambda shared: post("/v1/files", shared.encode()), model=""),
    "GET of a cached path": sends(lambda _: raw_client.request("GET", CHAT), model=""),
    "stats": looks_at("/stats"),
    "healthz": looks_at("/healthz"),
}

MIXES = st.lists(st.tuples(st.sampled_from(sorted(ACTS)), st.integers(0, 2)), min_size=10, max_size=50)
"""Who does what, and about which of a few things."""

EVERYTHING = [(name, thing) for name in ACTS for thing in (0, 0, 0, 1, 0)]


def play(house: House, mix: list[tuple[str, int]]) -> list[Seen]:
    """Let everybody act at once, eight at a time."""
    number = next(house.rounds)
    with ThreadPoolExecutor(8) as threads:
        running = [threads.submit(ACTS[name], house, f"round {number} thing {thing}.") for name, thing in mix]
        return [one.result(15) for one in running]


# --- what the books must say -----------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mix=MIXES)
@example(mix=EVERYTHING)
def test_the_books_say_what_clients_and_provider_saw(house: House, mix: list[tuple[str, int]]) -> None:
    house.seen += play(house, mix)
    if mix == EVERYTHING:
        assert {each.outcome for each in house.seen} == {*COUNTER, None}, "not a fair test: some outcome never occurred"
    calls = [each for each in house.seen if each.outcome is not None]
    shown = settled(house.proxy.address, requests=len(calls), fetches=house.fetched())
    assert_adds_up(shown)
    assert_outcomes(shown, calls)
    assert_fetches(shown, house)
    assert_tokens(shown, calls, house)
    assert_bytes(shown, calls)
    assert shown["forwarded"] == sum(each.outcome is None and not each.own for each in house.seen)
    assert shown["clients_left"] == sum(not each.whole and each.outcome == "MISS" for each in calls)
    assert shown["in_flight"] == 0
    if mix == EVERYTHING:
        assert_windows(house)


def told_in_peace(house: House, target: str) -> tuple[Stats, Stats]:
    """What stands at *target* and at /stats, once no answer without usage is being counted any more."""
    octets = raw_client.request("GET", target, host=b"localhost")
    until = time.monotonic() + 5
    while True:
        told: Stats = json.loads(raw_client.exchange(house.proxy.address, octets).body)
        shown = stats(house.proxy.address)
        if told["tokens"] == shown["tokens"] or time.monotonic() > until:
            return told, shown
        time.sleep(0.05)


def assert_windows(house: House) -> None:
    """Every window, and everything told apart in every way, comes to the same."""
    for window, by in (("1h", "model"), ("24h", "tier"), ("7d", "day"), ("all", "client"), ("1h", "team")):
        target = f"/stats?window={window}&by={by}"
        told, shown = told_in_peace(house, target)
        assert told["requests"] == shown["requests"]
        for part in ("reasons", "fetches", "kept", "unkept", "tokens", "savings", "bytes", *OUTCOMES):
            assert told[part] == shown[part]
        assert_models_add_up({**told, "models": told["groups"]})
        for name in ("requests", *OUTCOMES):
            assert sum(step[name] for step in told["series"]) == shown[name]
        assert sum(step["saved"]["tokens"] for step in told["series"]) == (
            shown["tokens"]["saved"]["input"] + shown["tokens"]["saved"]["output"]
        )


def assert_outcomes(shown: Stats, calls: list[Seen]) -> None:
    """Every outcome, reason and model was counted as often as a client saw it."""
    tally = Counter(COUNTER[each.outcome] for each in calls if each.outcome)
    assert {name: shown[name] for name in OUTCOMES} == {name: tally[name] for name in OUTCOMES}
    assert {word: count for word, count in shown["reasons"].items() if count} == Counter(each.reason for each in calls)
    asked = Counter((each.model, COUNTER[each.outcome]) for each in calls if each.outcome)
    counted = {(model, name): row[name] for model, row in shown["models"].items() for name in OUTCOMES if row[name]}
    assert counted == asked
    assert_models_add_up(shown)
    assert_models_add_up({**shown, "models": shown["tiers"]})
    for outcome, name in COUNTER.items():
        assert shown["latency_ms"][outcome]["count"] == shown[name]
    begun = Counter(each.outcome for each in calls if each.status)
    assert {outcome: row["count"] for outcome, row in shown["first_byte_ms"].items() if row["count"]} == begun


def assert_models_add_up(shown: Stats) -> None:
    """The sums over the models are the totals."""
    models = shown["models"].values()
    for name in ("requests", *OUTCOMES):
        assert sum(row[name] for row in models) == shown[name]
    for kind in ("spent", "saved"):
        for way in ((), ("counted",), ("estimated",)):
            total, rows = shown["tokens"][kind], [row["tokens"][kind] for row in models]
            for name in way:
                total, rows = total[name], [row[name] for row in rows]
            for part, figure in total.items():
                if isinstance(figure, int):
                    assert sum(row[part] for row in rows) == figure
                elif isinstance(figure, str):
                    assert sum(Decimal(row[part]) for row in rows) == Decimal(figure)


def assert_fetches(shown: Stats, house: House) -> None:
    """What the provider saw on cached paths is what was fetched, and each fetch was kept or not for a reason."""
    assert shown["fetches"] == house.fetched()
    # A bypass is not a candidate: nothing is said about why it was not kept.
    assert shown["kept"] + sum(shown["unkept"].values()) + shown["bypassed"] == shown["fetches"]
    assert shown["unkept"]["status"] == house.fetched("it-fails")
    assert shown["unkept"]["broke_off"] == house.fetched("it-breaks") + house.fetched("it-dies")
    assert shown["unkept"]["abandoned"] == house.fetched("it-stalls") + house.fetched("it-is-silent")
    assert shown["store"]["entries"] <= shown["kept"]


def assert_tokens(shown: Stats, calls: list[Seen], house: House) -> None:
    """Spent is what the provider billed, saved what was given without asking it."""
    good = [each for each in calls if each.status == 200 and each.whole]
    for kind, outcomes in (("spent", ("MISS", "BYPASS")), ("saved", ("HIT", "JOINED"))):
        counted = [each for each in good if each.outcome in outcomes]
        assert all(each.usage is not None for each in counted)
        tokens = shown["tokens"][kind]
        assert tokens["input"] == sum(each.usage[0] for each in counted if each.usage)
        assert tokens["output"] == sum(each.usage[1] for each in counted if each.usage)
        # Answers that broke off or were left are answers too, but name no usage.
        broken = house.fetched("it-breaks") + house.fetched("it-stalls") if kind == "spent" else 0
        assert (tokens["answers"], tokens["without_usage"]) == (len(counted) + broken, broken)
    refused = sum(each.reason == "temperature" for each in good)
    assert 0 <= shown["opportunity"]["repeats"] <= max(0, refused - 1)
    assert shown["time_saved_s"] >= 0


def assert_bytes(shown: Stats, calls: list[Seen]) -> None:
    """The octets are those of the bodies, errors of the proxy's own included."""
    counted = shown["bytes"]
    assert counted["from_clients"] == sum(each.sent for each in calls)
    assert counted["to_clients"] == sum(each.got for each in calls)
    fetched = sum(each.got for each in calls if each.outcome in ("MISS", "BYPASS"))
    # Of an answer that broke off or was left, some more may have come than anybody was given.
    broke = sum(shown["unkept"][word] for word in ("broke_off", "abandoned"))
    assert fetched <= counted["from_upstream"] <= fetched + broke * len(FIRST_EVENTS)


def leaves_at_random(house: House, shared: str, after: int) -> bool:
    """Ask for what others ask for too, read a little, and hang up; whether the call was on a cached path."""
    octets = [
        request(shared, stream=True),
        request(shared),
        request(shared, temperature=1, stream=True),
        embedding(shared),
    ]
    with RawConnection(house.proxy.address) as connection:
        connection.send(octets[after % 4])
        if after % 3:
            answer = connection.start_answer("POST")
            if after % 3 == 2:
                answer.read_size(1)
        if after % 2:
            connection.reset()
    return True


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mix=MIXES, leavers=st.lists(st.integers(0, 23), min_size=1, max_size=20))
def test_the_books_add_up_whenever_clients_leave(
    busy_house: House, mix: list[tuple[str, int]], leavers: list[int]
) -> None:
    house = busy_house
    number = next(house.rounds)
    with ThreadPoolExecutor(8) as threads:
        leaving = [
            threads.submit(leaves_at_random, house, f"round {number} thing {turn % 3}.", turn) for turn in leavers
        ]
        staying = [threads.submit(ACTS[name], house, f"round {number} thing {thing}.") for name, thing in mix]
        house.seen += [one.result(15) for one in staying]
        assert all(one.result(15) for one in leaving)
    # Who hangs up at once may be gone before the proxy has read the request: all that is known is that it is quiet.
    shown = quiet_stats(house)
    assert_adds_up(shown)
    assert_models_add_up(shown)
    assert shown["requests"] >= sum(each.outcome is not None for each in house.seen)
    # A fetch that is given up at once may be gone before the provider has read it.
    assert house.fetched() <= shown["fetches"] <= house.fetched() + shown["clients_left"]
    assert shown["kept"] + sum(shown["unkept"].values()) <= shown["fetches"]
    assert shown["tokens"]["saved"]["answers"] <= shown["hits"] + shown["joined"]
    assert shown["tokens"]["spent"]["answers"] <= shown["fetches"]
    for outcome, name in COUNTER.items():
        assert shown["first_byte_ms"][outcome]["count"] <= shown["latency_ms"][outcome]["count"] == shown[name]


def quiet_stats(house: House) -> Stats:
    """What stands at /stats once nobody else is connected and nothing is accounted for any more."""
    before: Stats = {}
    with RawConnection(house.proxy.address) as connection:
        for _ in range(200):
            connection.send(raw_client.request("GET", "/stats"))
            shown: Stats = json.loads(connection.read_answer().body)
            quiet = (shown["connections"], shown["in_flight"]) == (1, 0) and shown["fetches"] >= house.fetched()
            if quiet and before and shown["fetches"] == before["fetches"]:
                return shown
            before = shown if quiet else {}
            house.provider.wait_until(lambda: False, 0.05)
    raise AssertionError(f"it never became quiet: {shown}")


# --- one number at a time --------------------------------------------------------------------------------------------


def ask(ways: Ways, *, times: int = 1, key: str = "sk-contract", headers: Headers = (), **asked: object) -> None:
    """Ask the same thing *times* times."""
    octets = ways.post(CHAT, ways.chat_body(**asked), headers=headers).replace(b"sk-contract", key.encode())
    for _ in range(times):
        raw_client.exchange(ways.proxy, octets)


def test_repeats_that_the_temperature_gate_refused_are_an_opportunity(start_proxy: StartProxy) -> None:
    ways = start_proxy()
    ways.plays(answers.whole(WHOLE_BODY))
    ask(ways, times=3, temperature=1)
    ask(ways, times=2, temperature=None)
    shown = settled(ways.proxy, requests=5, fetches=5)
    usage = json.loads(WHOLE_BODY)["usage"]
    assert shown["opportunity"]["repeats"] == 3
    assert shown["opportunity"]["tokens"] == {
        "input": 3 * usage["prompt_tokens"],
        "output": 3 * usage["completion_tokens"],
    }
    assert shown["tokens"]["saved"]["answers"] == 0


def test_a_repeat_in_another_form_is_an_opportunity_too(start_proxy: StartProxy) -> None:
    ways = start_proxy()
    stream = b"".join([*answers.chat_events(["Always ", "the same."]), DONE])
    ways.plays(answers.whole(WHOLE_BODY), answers.whole(stream, EVENTS))
    ask(ways, temperature=1)
    ask(ways, temperature=1, stream=True)
    assert settled(ways.proxy, requests=2, fetches=2)["opportunity"]["repeats"] == 1


NO_OPPORTUNITY: dict[str, bytes] = {
    "status-500": answers.whole(b'{"error":{"message":"no"}}', status=500),
    "cut-at-length": answers.whole(answers.chat_body("Cut", finish="length")),
    "error-inside": answers.whole(b'{"error":{"message":"overloaded"}}'),
    "not-json": answers.whole(b"<html>", (("Content-Type", "text/html"),)),
}


@pytest.mark.parametrize("name", NO_OPPORTUNITY)
def test_a_repeat_of_what_would_not_have_been_kept_is_no_opportunity(start_proxy: StartProxy, name: str) -> None:
    ways = start_proxy()
    ways.plays(NO_OPPORTUNITY[name])
    ask(ways, times=3, temperature=1)
    shown = settled(ways.proxy, requests=3, fetches=3)
    assert shown["bypassed"] == 3
    assert shown["opportunity"]["repeats"] == 0


def test_a_repeat_that_breaks_off_is_no_opportunity(start_proxy: StartProxy) -> None:
    ways = start_proxy()
    ways.plays(steps(answers.chunked_head(EVENTS), chunk(FIRST_EVENTS), End.RESET))
    ask(ways, times=3, temperature=1, stream=True)
    shown = settled(ways.proxy, requests=3, fetches=3)
    assert (shown["errors"], shown["opportunity"]["repeats"]) == (3, 0)


def test_what_was_kept_out_for_another_reason_is_no_opportunity(start_proxy: StartProxy) -> None:
    ways = start_proxy()
    ways.plays(answers.whole(WHOLE_BODY))
    ask(ways, times=2, temperature=1, headers=(("Cache-Control", "no-store"),))
    ask(ways, times=2, temperature=1, store=True)
    ask(ways, temperature=1, key="sk-one")
    ask(ways, temperature=1, key="sk-other")
    assert settled(ways.proxy, requests=6, fetches=6)["opportunity"]["repeats"] == 0


def test_hits_save_the_time_that_the_provider_took(start_proxy: StartProxy) -> None:
    ways = start_proxy()
    ways.plays(steps(Pause(0.3), answers.whole(WHOLE_BODY)))
    ask(ways)
    miss = settled(ways.proxy, requests=1, fetches=1)
    assert miss["time_saved_s"] == 0
    took_s = miss["latency_ms"]["MISS"]["max"] / 1000
    assert took_s > 0.25
    ask(ways, times=4)
    shown = settled(ways.proxy, requests=5, fetches=1)
    spent_s = shown["latency_ms"]["HIT"]["mean"] * 4 / 1000
    # A millisecond each for the clock of the loop.
    assert shown["time_saved_s"] == pytest.approx(4 * took_s - spent_s, abs=0.05)


@pytest.mark.parametrize("good", [True, False])
def test_those_who_joined_are_spared_a_fetch_each_where_it_was_worth_something(
    start_proxy: StartProxy, good: bool
) -> None:
    ways = start_proxy()
    gate = Gate()
    body = WHOLE_BODY if good else b'{"error":{"message":"no"}}'
    ways.plays(steps(gate, answers.whole(body, status=200 if good else 500)))
    octets = ways.chat()
    connections = [ways.connect() for _ in range(5)]
    for connection in connections:
        connection.send(octets)
    ways.provider.wait_for(ways.nonce)
    ways.settle()
    gate.open()
    for connection in connections:
        connection.read_answer("POST")
        connection.close()
    shown = settled(ways.proxy, requests=5, fetches=1)
    usage = json.loads(WHOLE_BODY)["usage"]
    assert shown["joined"] == 4
    saved = shown["tokens"]["saved"]
    assert {part: saved[part] for part in ("input", "output", "answers", "without_usage")} == {
        "input": 4 * usage["prompt_tokens"] * good,
        "output": 4 * usage["completion_tokens"] * good,
        "answers": 4 * good,
        "without_usage": 0,
    }


def test_the_proxys_own_pages_are_not_counted(start_proxy: StartProxy) -> None:
    ways = start_proxy()
    for path in ("/stats", "/healthz", "/health", "/_askonce/stats", "/_askonce/healthz"):
        for method in ("GET", "HEAD"):
            assert raw_client.exchange(ways.proxy, raw_client.request(method, path)).status == 200
    shown = stats(ways.proxy)
    assert (shown["requests"], shown["forwarded"], shown["bytes"]["from_clients"]) == (0, 0, 0)
