"""Which of several replicas gets a request, and what becomes of one that fails."""

import json
import random
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.prefix import contests
from bench.prefix.traffic import traffic
from proxy.prefix.chain import Chain, chain_of
from proxy.prefix.prompt import Part, Prompt, Segment
from proxy.prefix.replicas import Load, Replicas, Routing
from proxy.providers import fleet
from proxy.providers.hearsay import Hearsay
from proxy.settings import UpstreamSettings
from tests import answers, raw_client
from tests.proxy_process import ProxyProcess
from tests.scripted_provider import ScriptedProvider, steps
from tests.test_prefix_diagnosis import MANUAL


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def replicas(
    count: int, routing: Routing = Routing.PREFIX, *, tokens: int = 100_000, clock: Clock | None = None
) -> Replicas:
    return Replicas(count, routing=routing, tokens=tokens, now=clock or Clock(), chance=random.Random(1).random)


def chain(*texts: str) -> Chain:
    segments = [Segment(part=Part.TURN, at=(n,), role="user", octets=each.encode()) for n, each in enumerate(texts)]
    return chain_of(Prompt(model="m", settings=(), segments=tuple(segments)), salt=b"")


def send(fleet_: Replicas, prompt: Chain, *, seconds: float | None = None) -> int:
    """Send *prompt*, have it answered and over; the replica that got it."""
    number = fleet_.choose(prompt)
    fleet_.answered(number, fleet_.began(number, prompt), seconds=seconds)
    fleet_.ended(number)
    return number


def test_a_prefix_goes_where_it_is_held() -> None:
    known = replicas(4)
    for n in range(4):
        send(known, chain("x" * 4000 + str(n) * 4000, "one"))
    held = []
    for turn, n in enumerate((2, 0, 3, 1) * 20):
        prompt = chain("x" * 4000 + str(n) * 4000, f"{turn}")
        before = [each.holds(prompt) for each in known.all]
        held.append(before[send(known, prompt)] >= 8000)
    # But for the few that explore.
    assert sum(held) >= 76


def test_a_queue_outweighs_a_prefix() -> None:
    known = replicas(2)
    shared = chain("s" * 8000)
    home = send(known, shared)
    known.all[home].busy_until = 60.0
    assert known.choose(chain("s" * 8000, "next")) == 1 - home


def test_no_replica_is_crowded_whatever_it_holds() -> None:
    known = replicas(4, Routing.AFFINITY)
    shared = chain("s" * 8000)
    got = []
    for _ in range(40):
        number = known.choose(shared)
        known.began(number, shared)
        got.append(number)
    assert max(got.count(n) for n in range(4)) <= 1.5 * 10 + 3


def test_what_another_process_sent_is_held_and_waits() -> None:
    here, there = replicas(2), replicas(2)
    prompt = chain("s" * 8000)
    number = there.choose(prompt)
    load = there.began(number, prompt)
    here.heard(number, prompt, load)
    # What waits there takes longer than computing it elsewhere.
    assert here.choose(chain("s" * 8000, "next")) == 1 - number
    assert here.all[number].holds(prompt) == 8000
    assert here.all[number].under_way == 0
    # Its own prompt is behind that one: once its answer begins, nothing waits any more.
    here.answered(number, here.began(number, chain("s" * 8000, "next")), seconds=None)
    assert here.choose(chain("s" * 8000, "last")) == number
    heard = here.heard(number, chain("t" * 80000), Load(fresh=20000))
    assert here.choose(chain("s" * 8000, "behind it")) == 1 - number
    here.heard_answered(number, heard)
    assert here.choose(chain("s" * 8000, "after it")) == number


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=80))
def test_answers_in_any_order_leave_no_queue_behind(steps_: list[tuple[int, bool]]) -> None:
    clock = Clock()
    known = replicas(2, clock=clock)
    waiting: list[tuple[int, Load]] = []
    for n, begins in steps_:
        clock.now += 0.1
        if begins or not waiting:
            prompt = chain(f"{n}" * 4000)
            number = known.choose(prompt)
            waiting.append((number, known.began(number, prompt)))
        else:
            number, load = waiting.pop(n % len(waiting))
            known.answered(number, load, seconds=1.0)
            known.ended(number)
    for number, load in waiting:
        known.answered(number, load, seconds=1.0)
        known.ended(number)
    assert all(each.busy_until <= clock.now and not each.under_way for each in known.all)


def test_how_fast_a_replica_is_goes_round() -> None:
    known = replicas(2)
    for n in range(100):
        known.heard(0, chain(f"{n}"), Load(fresh=1, speed=5000.0))
    assert 4900 < known.all[0].speed < 5100


def test_round_robin_is_round() -> None:
    known = replicas(3, Routing.ROUND_ROBIN)
    got = [known.choose(chain("x")) for _ in range(9)]
    assert [got.count(n) for n in range(3)] == [3, 3, 3]


def test_a_faster_replica_gets_more() -> None:
    known = replicas(2)
    got = []
    for n in range(400):
        prompt = chain(f"{n}" * 2000)
        number = known.choose(prompt)
        load = known.began(number, prompt)
        known.answered(number, load, seconds=load.fresh / (4000.0 if number == 0 else 500.0))
        known.ended(number)
        got.append(number)
    assert got[200:].count(0) > 180


def test_a_replica_that_has_been_busy_is_spared_new_prompts_not_those_that_it_holds() -> None:
    clock = Clock()
    known = replicas(2, clock=clock)
    held = chain("h" * 8000)
    home = send(known, held)
    # Else the one that was sent less would be taken.
    known.all[1 - home].sent = 100
    known.all[home].work.beat(clock.now, times=40.0)
    fresh = [known.choose(chain(f"{n}" * 8000)) for n in range(40)]
    again = [known.choose(chain("h" * 8000, f"{n}")) for n in range(40)]
    # But for the few that explore.
    assert fresh.count(1 - home) >= 37
    assert again.count(home) >= 37


@pytest.mark.parametrize("load", [2.0, 1.2])
def test_first_tokens_come_sooner_than_by_affinity_or_in_turn(load: float) -> None:
    sent = traffic(hours=0.25, seed=3)
    speed = sum(each.tokens for each in sent) / 900.0 / 4 / load
    prefix, affinity, in_turn = (
        contests.engines(sent, each, count=4, tokens_per_s=speed, holds=150_000) for each in Routing
    )
    assert prefix.mean_s < 0.97 * affinity.mean_s < in_turn.mean_s
    assert prefix.p99_s <= affinity.p99_s < in_turn.p99_s


def test_one_that_fails_is_left_out_and_comes_back_slowly() -> None:
    clock = Clock()
    known = replicas(2, clock=clock)
    for _ in range(3):
        known.began(0, None)
        known.failed(0, Load())
        known.ended(0)
    assert {known.choose(chain(f"{n}" * 900)) for n in range(50)} == {1}
    clock.now = 6.0
    assert 0 in {known.choose(chain(f"{n}" * 900)) for n in range(50)}
    known.failed(0, Load())
    clock.now = 12.0
    assert {known.choose(chain(f"{n}" * 900)) for n in range(50)} == {1}
    clock.now = 17.0
    known.answered(0, Load(), seconds=None)
    got = [known.choose(chain(f"{n}" * 900)) for n in range(50)]
    assert got.count(1) > 40
    clock.now = 40.0
    assert [send(known, chain(f"{n}" * 900)) for n in range(50)].count(0) > 10


def test_where_all_fail_all_are_asked() -> None:
    known = replicas(2)
    for number in (0, 1):
        for _ in range(3):
            known.failed(number, Load())
    assert known.choose(chain("x")) in (0, 1)
    assert known.choose(None, without=frozenset({0})) == 1


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9)), max_size=60))
def test_a_memory_is_mirrored_within_its_size(given_: list[tuple[int, int]]) -> None:
    known = replicas(2, tokens=2048)
    for head, more in given_:
        send(known, chain(f"{head}" * 3000, f"{more}" * 500 * more))
        for each in known.all:
            assert each._octets == sum(each._held.values()) <= 2048 * 4
            assert each.computing == each.under_way == 0


def test_without_replicas_there_is_no_fleet() -> None:
    assert "Fleet" not in repr(fleet.opened(UpstreamSettings(), None, Hearsay()))
    assert "Fleet of [" in repr(fleet.opened(UpstreamSettings(replicas=("http://b:1",)), None, Hearsay()))


# --- through the proxy -----------------------------------------------------------------------------------------------


@pytest.fixture
def providers() -> Iterator[list[ScriptedProvider]]:
    with ExitStack() as stack:
        yield [stack.enter_context(ScriptedProvider()) for _ in range(3)]


def started(tmp_path: Path, first: str, *others: str, routing: str = "prefix", workers: int = 1) -> ProxyProcess:
    settings = {"upstream.replicas": ",".join(others), "upstream.routing": routing, "server.workers": f"{workers}"}
    if workers > 1:
        settings |= {"store.kind": "sqlite", "store.path": str(tmp_path / "askonce.db")}
    return ProxyProcess(first, tmp_path / "proxy.log", settings=settings)


def ask(proxy: ProxyProcess, text: str, question: str) -> raw_client.RawAnswer:
    turns = [{"role": "system", "content": text}, {"role": "user", "content": question}]
    body = json.dumps({"model": "m", "messages": turns}).encode()
    fields = (("Content-Type", "application/json"),)
    octets = raw_client.request("POST", "/v1/chat/completions", fields, body)
    # A connection each: of several workers any gets it.
    return raw_client.exchange(proxy.address, octets, keep=False)


@pytest.mark.proxy_only
@pytest.mark.parametrize("workers", [1, 3])
def test_prompts_stay_with_the_replica_that_knows_them(
    providers: list[ScriptedProvider], tmp_path: Path, workers: int
) -> None:
    with started(tmp_path, *(each.origin for each in providers), workers=workers) as proxy:
        texts = [f"Application {n}. {MANUAL[n * 100 :]}" for n in range(3)]
        for number in range(10):
            for text in texts:
                assert ask(proxy, text, f"Question {number}?").status == 200
    seen = [[bytes(request.body)[:80] for request in each.requests(b"Application")] for each in providers]
    assert sum(map(len, seen)) == 30
    # One replica computes each text, but for the few that explore; then either of the two that hold it may be asked.
    assert sum(len(set(each)) for each in seen) <= 5


@pytest.mark.proxy_only
def test_a_replica_that_is_gone_costs_no_request(
    providers: list[ScriptedProvider], tmp_path: Path, closed_port: int
) -> None:
    with started(tmp_path, f"http://127.0.0.1:{closed_port}", providers[0].origin, routing="round_robin") as proxy:
        assert [ask(proxy, MANUAL, f"{n}?").status for n in range(8)] == [200] * 8
        got = raw_client.exchange(proxy.address, raw_client.request("GET", "/v1/models"))
        assert got.status == 200


@pytest.mark.proxy_only
def test_where_no_replica_can_be_reached_the_client_is_told(tmp_path: Path, closed_port: int) -> None:
    with started(tmp_path, *[f"http://127.0.0.1:{closed_port}"] * 2) as proxy:
        answer = ask(proxy, MANUAL, "Who is there?")
    assert (answer.status, answer.get("x-cache-reason")) == (502, "upstream_unreachable")


@pytest.mark.proxy_only
def test_a_replica_that_cannot_answer_is_left_out(providers: list[ScriptedProvider], tmp_path: Path) -> None:
    providers[0].on("Question", steps(answers.whole(b"{}", status=503)))
    with started(tmp_path, providers[0].origin, providers[1].origin, routing="round_robin") as proxy:
        statuses = [ask(proxy, MANUAL, f"Question {n}?").status for n in range(12)]
    # Its own word is passed on; after three of them it is not asked.
    assert statuses.count(503) == 3
    assert statuses[-5:] == [200] * 5
