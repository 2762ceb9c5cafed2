"""Ten thousand requests to two workers on a Redis that is killed twice, and one of the workers with it."""

import asyncio
import json
import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from tests.observation import OUTCOMES, stats
from tests.proxy_process import ProxyProcess
from tests.redis_server import RedisServer, redis_7
from tests.scripted_provider import ScriptedProvider
from tests.test_workers_serving import workers_of

pytestmark = [pytest.mark.proxy_only, pytest.mark.nightly, pytest.mark.timeout(400)]

REQUESTS = int(os.environ.get("ASKONCE_ACCEPTANCE_REQUESTS", "10000"))
DISTINCT = 1000
TENANTS = ("sk-one", "sk-two", "sk-three")
AT_ONCE = 40
NUMBER = re.compile(rb'"chatcmpl-0*([0-9]+)"')


@dataclass
class Seen:
    """What the clients saw."""

    outcomes: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    broken: list[float] = field(default_factory=list)
    answers: list[tuple[str, str, bytes]] = field(default_factory=list)
    longest_s: float = 0.0


@pytest.fixture
def lasting_redis() -> Iterator[RedisServer]:
    """A Redis that finds again what it had when it was killed."""
    with RedisServer(redis_7(), options=["--appendonly", "yes", "--appendfsync", "always"]) as server:
        yield server


async def play(address: tuple[str, int], seen: Seen, disturb: dict[int, list[object]]) -> None:
    order = random.Random(6)
    queue = [(order.randrange(DISTINCT), order.choice(TENANTS)) for _ in range(REQUESTS)]
    place = iter(range(REQUESTS))
    url = f"http://{address[0]}:{address[1]}/v1/chat/completions"

    async def client(session: aiohttp.ClientSession) -> None:
        for at in place:
            for act in disturb.get(at, ()):
                await asyncio.to_thread(act)  # type: ignore[arg-type]
            number, tenant = queue[at]
            body = {
                "model": "gpt-4o-mini",
                "temperature": 0,
                "stream": number % 3 == 0,
                "messages": [{"role": "user", "content": f"Question number {number}."}],
            }
            for _ in range(3):
                began = time.monotonic()
                try:
                    headers = {"Authorization": f"Bearer {tenant}"}
                    async with session.post(url, json=body, headers=headers) as answer:
                        whole = await answer.read()
                    seen.longest_s = max(seen.longest_s, time.monotonic() - began)
                    seen.statuses[answer.status] += 1
                    seen.outcomes[answer.headers.get("x-cache", "")] += 1
                    seen.answers.append((tenant, f"Question number {number}.", whole))
                    break
                except aiohttp.ClientError:
                    seen.broken.append(time.monotonic())

    connector = aiohttp.TCPConnector(limit=AT_ONCE, force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session:
        await asyncio.gather(*(client(session) for _ in range(AT_ONCE)))


def test_nothing_wrong_is_served_and_nothing_fails(lasting_redis: RedisServer, tmp_path: Path) -> None:
    seen, killed = Seen(), []
    with ScriptedProvider(latency_s=0.02) as provider:
        settings = {"server.workers": "2", "store.kind": "redis", "store.url": lasting_redis.url}
        with ProxyProcess(provider.origin, tmp_path / "stderr.log", settings=settings) as proxy:

            def kill_worker() -> None:
                killed.append(time.monotonic())
                os.kill(min(workers_of(proxy)), signal.SIGKILL)

            disturb: dict[int, list[object]] = {
                REQUESTS * 2 // 10: [lasting_redis.stop],
                REQUESTS * 3 // 10: [lasting_redis.start],
                REQUESTS * 5 // 10: [kill_worker],
                REQUESTS * 6 // 10: [lasting_redis.stop],
                REQUESTS * 7 // 10: [lasting_redis.start],
            }
            asyncio.run(play(proxy.address, seen, disturb))
            time.sleep(5)
            shown = stats(proxy.address)
        asked = {request.number: request for request in provider.requests()}

    # Every answer was made for this very question of this very tenant.
    wrong = 0
    for tenant, question, whole in seen.answers:
        found = NUMBER.search(whole)
        assert found is not None, whole
        request = asked[int(found[1])]
        right = json.loads(request.body)["messages"][0]["content"] == question
        wrong += not (right and request.values("authorization") == [f"Bearer {tenant}".encode()])
    print(
        f"\n{len(seen.answers)} answers, {wrong} wrong, statuses {dict(seen.statuses)}, outcomes {dict(seen.outcomes)}"
        f", {len(asked)} fetches, {len(seen.broken)} connections broken by the kill, longest {seen.longest_s:.3f} s, "
        f"/stats {[(name, shown[name]) for name in ('requests', *OUTCOMES)]}, "
        f"reasons { {name: count for name, count in shown['reasons'].items() if count} }"
    )
    assert wrong == 0
    assert seen.statuses == {200: REQUESTS}
    # Only what the killed worker had in hand.
    assert len(seen.broken) <= 2 * AT_ONCE
    assert all(at - killed[0] < 5 for at in seen.broken)
    assert shown["requests"] == sum(shown[outcome] for outcome in OUTCOMES)
    # What a killed worker had not put away yet is lost: a second of counting at most, and what it had in hand.
    assert REQUESTS * 0.9 <= shown["requests"] <= REQUESTS * 1.1
    said = (tmp_path / "stderr.log").read_text()
    assert said.count("the store failed; requests go on as misses") <= 6
