"""Several workers: one port, one store, one set of figures; whoever ends is replaced, and all end together."""

import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.errors import AskonceError
from proxy.supervisor import Supervisor
from tests import raw_client
from tests.comparison import Ways
from tests.conftest import StartProxy
from tests.observation import assert_adds_up, wait_for_stats
from tests.proxy_process import ProxyProcess
from tests.scripted_provider import ScriptedProvider, spaced

pytestmark = pytest.mark.proxy_only


def workers_of(process: ProxyProcess) -> set[int]:
    """The processes that serve."""
    return {
        int(pid)
        for task in Path(f"/proc/{process.pid}/task").iterdir()
        for pid in (task / "children").read_text().split()
    }


def wait_until(holds: Callable[[], bool], *, timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def ways(start_proxy: StartProxy, tmp_path: Path) -> Ways:
    """A proxy of three workers."""
    return start_proxy(server__workers="3", store__kind="sqlite", store__path=str(tmp_path / "askonce.db"))


def running(ways: Ways) -> ProxyProcess:
    assert ways.process is not None
    return ways.process


def test_all_workers_answer_from_one_store_and_count_together(ways: Ways) -> None:
    ways.plays(ways.fixed())
    answers = []
    for number in range(60):
        # A connection each: the kernel deals them out.
        octets = ways.chat(messages=[{"role": "user", "content": f"{ways.nonce} {number % 6}"}])
        answers.append(raw_client.exchange(ways.proxy, octets, keep=False))
    assert {answer.status for answer in answers} == {200}
    shown = wait_for_stats(ways.proxy, lambda shown: shown["requests"] == 60)
    assert_adds_up(shown)
    assert shown["hits"] + shown["misses"] + shown["joined"] == 60
    assert 6 <= len(ways.received()) <= 18
    assert shown["fetches"] == len(ways.received())


def test_a_worker_that_is_killed_is_replaced(ways: Ways) -> None:
    process = running(ways)
    ways.plays(ways.fixed())
    before = workers_of(process)
    assert len(before) == 3
    victim = before.pop()
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: len(workers_of(process)) == 3 and victim not in workers_of(process))
    assert before < workers_of(process)
    assert raw_client.exchange(ways.proxy, ways.chat()).status == 200
    assert process.said().count("ended by signal 9; another takes its place") == 1


def test_all_workers_finish_what_they_are_at_when_told_to_stop(ways: Ways) -> None:
    process = running(ways)
    pieces = [b"x" * 10 for _ in range(10)]
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
    ways.plays(spaced(pieces, 0.1, before=head))
    connections = [ways.connect() for _ in range(6)]
    for number, connection in enumerate(connections):
        connection.send(ways.chat(messages=[{"role": "user", "content": f"{ways.nonce} {number}"}]))
    ways.provider.wait_for(ways.nonce, count=6)
    process.terminate()
    assert [connection.read_answer("POST").body for connection in connections] == [b"x" * 100] * 6
    assert process.wait(20) == 0
    for connection in connections:
        connection.close()


def test_workers_do_not_outlive_their_supervisor(ways: Ways) -> None:
    process = running(ways)
    workers = workers_of(process)
    process.kill_alone()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))


def test_a_memory_store_is_refused_for_several_workers(provider: ScriptedProvider, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"server\.workers: 2 processes need a store that they can share"):
        ProxyProcess(provider.origin, tmp_path / "log", settings={"server.workers": "2"})


def test_an_address_that_is_taken_is_told_before_any_worker_starts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        supervisor = Supervisor(lambda _: None, workers=2, host="127.0.0.1", port=port, drain_s=0)
        with pytest.raises(AskonceError, match=f"cannot listen on 127.0.0.1:{port}"):
            supervisor.run()
