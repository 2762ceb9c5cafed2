"""The demonstration itself: it does what it shows, says what it is, and leaves nothing behind."""

import importlib
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo import paper
from tests.engine import needs_engine

ROOT = Path(__file__).resolve().parent.parent
LABEL = "random weights: the words are nonsense, the protocol is real"
NONCE = "DEMO_TEST_NONCE"
# As if the engine had never been installed.
WITHOUT_ENGINE = "import runpy, sys; sys.modules['xllamacpp'] = None; runpy.run_module('demo', run_name='__main__')"

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text('abc "\\\n\0', max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abcdef", max_size=12), inner, max_size=30),
    max_leaves=60,
)


def start(*command: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Python with *command*, from the root of the project."""
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen[str], within_s: float) -> str:
    """All it printed; it is ended if it does not end."""
    try:
        return process.communicate(timeout=within_s)[0]
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(10)


def bearers_of(nonce: str) -> list[int]:
    """The processes that inherited *nonce*."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if nonce.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


@needs_engine
@pytest.mark.timeout(90)
def test_the_demonstration_keeps_its_promises() -> None:
    started = time.monotonic()
    process = start("-m", "demo")
    printed = finish(process, 60)
    assert process.returncode == 0, printed
    assert time.monotonic() - started < 60
    assert LABEL in printed
    assert "llama.cpp" in printed
    for line in (
        r"1 +Why is the sky blue\? +whole +MISS +the engine +not_found +[0-9.]+ ms +[0-9]+ +-",
        r"2 +Why is the sky blue\? +whole again +HIT +exact cache +found +[0-9.]+ ms +- +[0-9]+",
        r"3 +Why is the sky blue\? +now streamed +HIT +exact cache +transcoded",
        r"6 +Name three rivers\. +now whole +HIT +exact cache +transcoded",
        r"7 +What happened in 1969\? +async, 20 at once +.*1 MISS",
        r"1[02] +Why is the sky blue\? +at temperature 1 +BYPASS +the engine +temperature",
        r"(30 given, 6 paid for, 24|32 given, (7|8) paid for, 2(4|5)) free",
        r"its own counters: [678] requests, [0-9]+ tokens generated",
        r'"requests": 3[02], .*"misses": [456],\s+"bypassed": 2, "errors": 0',
        r"Everything happened as promised",
    ):
        assert re.search(line, printed, re.MULTILINE), f"{line}\nis not in\n{printed}"
    assert max(map(len, printed.splitlines())) <= paper.WIDTH
    assert "\033" not in printed


@pytest.mark.timeout(90)
def test_without_an_engine_it_says_so_and_goes_on() -> None:
    process = start("-c", WITHOUT_ENGINE)
    printed = finish(process, 60)
    assert process.returncode == 0, printed
    assert "cannot be had (xllamacpp not installed" in " ".join(printed.split())
    assert "scripted provider" in printed
    assert "llama.cpp" not in printed
    assert "Everything happened as promised" in printed


@linux_only
@pytest.mark.timeout(60)
@pytest.mark.parametrize("blow", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda blow: blow.name)
def test_whatever_ends_it_no_process_is_left_behind(blow: signal.Signals) -> None:
    nonce = secrets.token_hex(16)
    process = start("-m", "demo", environment={NONCE: nonce})
    assert process.stdout is not None
    for line in process.stdout:
        if "OPENAI_BASE_URL=" in line:
            break
    children = [pid for pid in bearers_of(nonce) if pid != process.pid]
    process.send_signal(blow)
    finish(process, 30)
    deadline = time.monotonic() + 15
    while bearers_of(nonce) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(children) >= 2, "not a fair test: the provider and the proxy should have been running"
    assert bearers_of(nonce) == []
    assert process.returncode != 0


@needs_engine
def test_the_model_is_written_once_and_again_when_it_is_damaged(tmp_path: Path) -> None:
    # The engine's packages are there, or this test would not run.
    model = importlib.import_module("demo.random_model")
    recipe = model.Recipe(layers=1, hidden=256, longest_answer=70, words_per_place=2)
    path = model.ready_model(tmp_path, recipe)
    written, octets = path.stat().st_mtime_ns, path.read_bytes()
    assert model.ready_model(tmp_path, recipe) == path
    assert path.stat().st_mtime_ns == written
    path.write_bytes(octets[:-1])
    assert model.ready_model(tmp_path, recipe) == path
    assert path.read_bytes() == octets
    assert sorted(file.suffix for file in tmp_path.iterdir()) == [".gguf", ".sha256"]


@given(json_values)
def test_folded_json_is_the_same_json(value: object) -> None:
    assert json.loads(paper.folded(value)) == value


def test_folded_json_keeps_to_the_width() -> None:
    flat = {f"a_reason_with_a_long_name_{number}": number for number in range(40)}
    folded = paper.folded({"totals": flat, "nested": {"inner": flat, "few": {"a": 1}}})
    assert max(map(len, folded.splitlines())) <= paper.WIDTH
    assert '"few": {"a": 1}' in folded
