"""Moving house and keeping it: entries from one store to another by a file, and away by what they are."""

import asyncio
import dataclasses
import io
import json
import os
import stat
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import cli
from proxy.errors import AskonceError
from proxy.housekeeping import Progress
from proxy.model import Entry
from proxy.moving import Moved, bring_in, take_out
from proxy.settings import StoreSettings
from proxy.storage import Storage, storage
from tests import raw_client
from tests.awaited import awaited
from tests.conftest import StartProxy
from tests.observation import settled
from tests.redis_server import RedisServer
from tests.test_store_contract import entry

PATIENT_MS = 10_000.0


def of(key: str, **more: object) -> Entry:
    return dataclasses.replace(entry(key), **more)  # type: ignore[arg-type]


async def filled(kept: Storage, *entries: Entry) -> Storage:
    for each in entries:
        assert await kept.store.put(each)
    return kept


async def all_of(kept: Storage) -> dict[str, Entry]:
    return {each.key: each async for each in kept.store.entries()}


def sqlite(path: Path, **more: object) -> Storage:
    return storage(StoreSettings(kind="sqlite", path=str(path), deadline_ms=PATIENT_MS, **more))  # type: ignore[arg-type]


@awaited
async def test_what_is_taken_out_of_one_store_is_in_the_next(tmp_path: Path, redis_server: RedisServer) -> None:
    sealed = {"encryption_keys": (f"a:{'A' * 43}=",)}
    one = await filled(sqlite(tmp_path / "one.db", **sealed), *[of(f"k{number}") for number in range(600)])
    secret = await one.secret()
    url, prefix = redis_server.url, f"{time.time_ns()}:"
    other = storage(StoreSettings(kind="redis", url=url, prefix=prefix, deadline_ms=PATIENT_MS))
    file = io.StringIO()
    told: list[int] = []
    assert await take_out(one, file, told.append) == 600
    assert told[-1] == 600
    file.seek(0)
    assert await bring_in(other, file, told.append) == Moved(kept=600)
    assert await all_of(other) == await all_of(one)
    # Its clients find again what was kept for them.
    assert await other.secret() == secret
    await one.store.close()
    await other.store.close()


@awaited
async def test_what_has_expired_or_is_no_entry_is_left_behind(tmp_path: Path) -> None:
    one = await filled(sqlite(tmp_path / "one.db"), of("live"), of("brief", expires=time.time() + 0.2))
    file = io.StringIO()
    await take_out(one, file, lambda _: None)
    lines = file.getvalue().splitlines()
    garbled = [line.replace('"packed":"', '"packed":"A') for line in lines[1:]]
    await asyncio.sleep(0.25)
    other = sqlite(tmp_path / "other.db")
    moved = await bring_in(other, [*lines, *garbled, "", "{}", "[]"], lambda _: None)
    assert moved == Moved(kept=1, expired=1, unreadable=5)
    assert list(await all_of(other)) == ["live"]
    await one.store.close()
    await other.store.close()


@awaited
async def test_a_store_with_a_secret_of_its_own_keeps_it_and_it_is_said(tmp_path: Path) -> None:
    one, other = sqlite(tmp_path / "one.db"), sqlite(tmp_path / "other.db")
    await one.secret()
    mine = await other.secret()
    file = io.StringIO()
    await take_out(one, file, lambda _: None)
    file.seek(0)
    assert (await bring_in(other, file, lambda _: None)).other_tenants
    assert await other.secret() == mine
    await one.store.close()
    await other.store.close()


@given(st.text(max_size=60) | st.builds(json.dumps, st.dictionaries(st.text(max_size=8), st.integers(), max_size=3)))
@awaited
async def test_a_file_of_anybody_else_is_refused(head: str) -> None:
    with pytest.raises(AskonceError):
        await bring_in(storage(StoreSettings()), [head], lambda _: None)


def test_moving_by_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other, file = tmp_path / "one.db", tmp_path / "other.db", tmp_path / "entries.jsonl"

    async def fill() -> None:
        kept = await filled(sqlite(one), of("a"), of("b", model="gpt-x", tag="old"))
        await kept.store.close()

    asyncio.run(fill())
    of_one = ["--set", "store.kind=sqlite", "--set", f"store.path={one}"]
    of_other = ["--set", "store.kind=sqlite", "--set", f"store.path={other}"]
    assert cli.main(["export", str(file), *of_one]) == 0
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600
    assert cli.main(["import", str(file), *of_other]) == 0
    assert capsys.readouterr().err.splitlines() == ["2 entries written", "2 entries kept"]
    assert cli.main(["purge", "--tag", "old", "--dry-run", *of_other]) == 0
    assert cli.main(["purge", "--tag", "new", *of_other]) == 0
    assert cli.main(["purge", "--tag", "old", *of_other]) == 0
    assert cli.main(["purge", *of_other]) == 0
    told = ["1 entries would be removed", "0 entries removed", "1 entries removed", "1 entries removed"]
    assert capsys.readouterr().out.splitlines() == told


def test_a_memory_store_is_within_the_proxy(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["export", str(tmp_path / "file")]) == 2
    assert cli.main(["purge"]) == 2
    assert capsys.readouterr().err.count("a memory store is within the proxy itself") == 2


def test_a_file_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    settings = ["--set", "store.kind=sqlite", "--set", f"store.path={tmp_path / 'one.db'}"]
    assert cli.main(["import", str(tmp_path / "none"), *settings]) == 1
    assert "No such file" in capsys.readouterr().err


@pytest.mark.proxy_only
def test_a_running_proxy_is_purged_by_tag(start_proxy: StartProxy, capsys: pytest.CaptureFixture[str]) -> None:
    ways = start_proxy(admin__token="word")
    ways.plays(ways.fixed())
    for number, tag in enumerate(("one", "one", "two")):
        prompt = [{"role": "user", "content": f"{ways.nonce} {number}"}]
        raw_client.exchange(ways.proxy, ways.chat(messages=prompt, headers=(("x-askonce-tag", tag),)))
    settled(ways.proxy, requests=3, fetches=3)
    at = ["--at", f"127.0.0.1:{ways.proxy[1]}"]
    assert cli.main(["purge", "--tag", "one", *at]) == 1
    assert "admin.token" in capsys.readouterr().err
    assert cli.main(["purge", "--tag", "one", *at, "--set", "admin.token=word"]) == 0
    assert cli.main(["purge", *at, "--set", "admin.token=word"]) == 0
    assert capsys.readouterr().out.splitlines() == ["2 entries removed", "1 entries removed"]


def test_progress_tells_how_far_it_is() -> None:
    progress = Progress("lines read", whole=200, at=lambda: 50)
    assert progress.line(1000, 2.0) == f"[{'#' * 8}{' ' * 22}]  25%  1,000 lines read, 500 a second"
    assert Progress("entries written").line(7, 0.0) == "7 entries written"
