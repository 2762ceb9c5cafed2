"""The sqlite store with what happens to files: other processes, damage, locks, full disks, sudden ends."""

import asyncio
import dataclasses
import multiprocessing
import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from proxy.accounts.usage import Usage
from proxy.errors import CacheError
from proxy.model import Entry, Key
from proxy.stores.codec import Codec
from proxy.stores.guard import PAUSE_S
from proxy.stores.sealing import seal_of
from proxy.stores.sqlite import SqliteStore
from proxy.stores.sqlite_file import SCHEMA, SqliteFile
from proxy.stores.sqlite_shelf import SqliteShelf, SqliteTallies
from proxy.stores.sqlite_threads import SqliteThreads
from tests.awaited import awaited

ROOM = 8 << 20


def entry(key: str, body: bytes = b"body", **more: object) -> Entry:
    made = Entry(key=Key(key), dialect="chat", status=200, phrase=b"OK", head=b"A: 1\r\n", body=body, created=1.0)
    return dataclasses.replace(made, **more)  # type: ignore[arg-type]


@asynccontextmanager
async def opened(path: Path, *, max_bytes: int = ROOM, codec: Codec | None = None) -> AsyncIterator[SqliteStore]:
    threads = SqliteThreads(SqliteFile(path), deadline_s=10.0)
    store = SqliteStore(threads, codec or Codec(), max_bytes=max_bytes)
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "below" / "askonce.db"


@awaited
async def test_entries_outlast_the_process_that_put_them(path: Path) -> None:
    async with opened(path) as store:
        await store.put(entry("a"))
    async with opened(path) as store:
        assert await store.get(Key("a")) == entry("a")


@awaited
async def test_two_who_have_the_file_open_see_each_others_entries(path: Path) -> None:
    async with opened(path) as mine, opened(path) as theirs:
        await mine.put(entry("a"))
        await theirs.put(entry("b"))
        assert await theirs.get(Key("a")) == entry("a")
        assert await mine.get(Key("b")) == entry("b")


@awaited
async def test_the_file_is_for_its_owner_alone(path: Path) -> None:
    async with opened(path) as store:
        await store.put(entry("a"))
        modes = {stat.S_IMODE(os.stat(f"{path}{ending}").st_mode) for ending in ("", "-wal", "-shm")}
    assert modes == {0o600}


@awaited
async def test_the_file_stays_within_its_budget_and_what_is_worth_most_stays(path: Path) -> None:
    noise = random.Random(1)
    dear = Usage(input_tokens=10**6, output_tokens=10**6)
    async with opened(path, max_bytes=1 << 20) as store:
        await store.put(entry("dear", noise.randbytes(20_000), usage=dear))
        for number in range(200):
            usage = Usage(input_tokens=10, output_tokens=10)
            assert await store.put(entry(f"k{number}", noise.randbytes(20_000), usage=usage))
        assert store.bytes_used <= store.max_bytes
        assert store.evicted >= 140
        assert await store.get(Key("dear")) is not None
        assert await store.get(Key("k199")) is not None
    assert path.stat().st_size <= 1.3 * (1 << 20)


@awaited
async def test_what_is_used_stays_longer_than_what_is_not(path: Path) -> None:
    noise = random.Random(1)
    usage = Usage(input_tokens=10, output_tokens=10)
    async with opened(path, max_bytes=1 << 20) as store:
        for number in range(40):
            await store.put(entry(f"k{number}", noise.randbytes(20_000), usage=usage))
        store.used(Key("k13"), 50)
        for number in range(40, 80):
            await store.put(entry(f"k{number}", noise.randbytes(20_000), usage=usage))
        assert await store.get(Key("k13")) is not None
        assert await store.get(Key("k14")) is None


@awaited
async def test_many_entries_at_once_are_all_kept(path: Path) -> None:
    async with opened(path) as store:
        assert all(await asyncio.gather(*(store.put(entry(f"k{number}")) for number in range(700))))
        assert len(store) == 700


@awaited
async def test_a_withdrawal_reaches_who_else_has_the_file_open(path: Path) -> None:
    heard: asyncio.Queue[str | None] = asyncio.Queue()
    async with opened(path) as mine, opened(path) as theirs:
        await mine.put(entry("a"))
        heeding = asyncio.ensure_future(theirs.heed(heard.put_nowait, every_s=0.01))
        await mine.put(entry("b"))
        while not heard.qsize():
            # It heeds from when it has looked for the first time.
            await mine.drop(Key("a"))
            await asyncio.sleep(0.01)
        assert await heard.get() == "a"
        await mine.clear()
        while await heard.get() is not None:
            pass
        heeding.cancel()


@awaited
async def test_questions_that_another_process_keeps_the_answers_to_arrive(path: Path) -> None:
    async with opened(path) as mine, opened(path) as theirs:
        await mine.put(entry("before", scope="s"))
        arriving = theirs.arriving(every_s=0.01)
        first = asyncio.ensure_future(anext(arriving))
        while not first.done():
            # It looks from when it has looked for the first time.
            await mine.put(entry("a", scope="s"))
            await asyncio.sleep(0.02)
        assert await first == entry("a", scope="s")
        await mine.put(entry("apart"))
        await mine.put(entry("b", scope="s"))
        while (found := await anext(arriving)).key == "a":
            pass
        assert found == entry("b", scope="s")


def kill_in_the_middle(path: Path, seed: int) -> None:
    """A process puts entries until it is killed after a number of them."""
    script = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from tests.test_sqlite_store import put_for_ever\n"
        "asyncio.run(put_for_ever(Path(sys.argv[1]), int(sys.argv[2])))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(path), str(seed)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout as said:
        for _ in range(random.Random(seed).randrange(1, 6)):
            said.readline()
        process.send_signal(signal.SIGKILL)
        process.wait(10)


async def put_for_ever(path: Path, seed: int) -> None:
    noise = random.Random(seed)
    async with opened(path, max_bytes=4 << 20) as store:
        while True:
            numbers = [noise.randrange(300) for _ in range(20)]
            await asyncio.gather(*(store.put(of_number(number, seed)) for number in numbers))
            print(flush=True)


def of_number(number: int, seed: int) -> Entry:
    body = b"%d of %d;" % (number, seed) * (1 + number * 40)
    return entry(f"k{number}", body + random.Random(number).randbytes(number * 50))


def test_a_process_killed_in_the_middle_of_writing_leaves_every_answer_whole_or_not_there(path: Path) -> None:
    for seed in range(8):
        kill_in_the_middle(path, seed)

    async def scene() -> int:
        whole = 0
        async with opened(path, max_bytes=4 << 20) as store:
            for number in range(300):
                found = await store.get(Key(f"k{number}"))
                if found is not None:
                    assert found in [of_number(number, seed) for seed in range(8)]
                    whole += 1
            assert len(store) == whole or await store.put(entry("last"))
        return whole

    assert asyncio.run(scene()) > 20


@awaited
async def test_a_file_that_is_no_database_is_set_aside_and_told_once(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.parent.mkdir()
    path.write_bytes(b"This is no database.\n" * 1000)
    async with opened(path) as store:
        with pytest.raises(CacheError, match="damaged"):
            await store.get(Key("a"))
        assert await store.put(entry("a"))
        await asyncio.sleep(PAUSE_S)
        assert await store.get(Key("a")) == entry("a")
    assert path.with_name("askonce.db.damaged").read_bytes().startswith(b"This is no database.")
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "an empty one is in its place" in caplog.text


@awaited
async def test_damage_found_while_it_runs_is_set_aside_by_all_who_have_the_file_open(path: Path) -> None:
    async with opened(path) as mine, opened(path) as theirs:
        for number in range(300):
            await mine.put(entry(f"k{number}", random.Random(number).randbytes(3000)))
        await theirs.get(Key("k1"))
        await mine.close()
        await theirs.close()
    overwrite(path, 0.2, 0.8)
    async with opened(path) as mine, opened(path) as theirs:
        served = 0
        for _ in range(60):
            for store in (mine, theirs):
                for number in range(0, 300, 17):
                    try:
                        found = await store.get(Key(f"k{number}"))
                        assert found is None or found.body == random.Random(number).randbytes(3000)
                    except CacheError:
                        await asyncio.sleep(0)
            await asyncio.sleep(0.05)
            try:
                if await mine.put(entry("new")) and await theirs.get(Key("new")) == entry("new"):
                    served += 1
            except CacheError:
                continue
            if served > 3:
                break
        assert served > 3


def overwrite(path: Path, start: float, end: float) -> None:
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(int(size * start))
        file.write(random.Random(2).randbytes(int(size * (end - start))))


@awaited
async def test_damage_to_an_answer_alone_costs_that_answer(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with opened(path) as store:
        await store.put(entry("a", b"the first answer, short"))
        await store.put(entry("b", b"the other answer, short"))
    connection = sqlite3.connect(path)
    with connection:
        (octets,) = connection.execute("SELECT octets FROM content WHERE id = 1").fetchone()
        connection.execute("UPDATE content SET octets = ? WHERE id = 1", (octets.replace(b"first", b"worst"),))
    connection.close()
    async with opened(path) as store:
        assert [await store.get(Key("a")) for _ in range(5)] == [None] * 5
        assert await store.get(Key("b")) == entry("b", b"the other answer, short")
    assert len([record for record in caplog.records if "counts as not there" in record.message]) == 1


@awaited
async def test_a_key_that_is_not_known_any_more_makes_misses(path: Path) -> None:
    old, new = f"old:{'A' * 43}=", f"new:{'B' * 42}A="
    async with opened(path, codec=Codec(seal=seal_of([old]))) as store:
        await store.put(entry("a", b"a secret answer"))
    assert b"secret" not in path.read_bytes()
    async with opened(path, codec=Codec(seal=seal_of([new]))) as store:
        assert await store.get(Key("a")) is None
        assert await store.put(entry("b"))
    async with opened(path, codec=Codec(seal=seal_of([new, old]))) as store:
        assert [await store.get(Key(key)) is not None for key in "ab"] == [True, True]


@awaited
async def test_the_file_of_a_later_version_is_left_as_it_is(path: Path) -> None:
    async with opened(path) as store:
        await store.put(entry("a"))
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {len(SCHEMA) + 1}")
    connection.close()
    async with opened(path) as store:
        with pytest.raises(CacheError, match="later askonce"):
            await store.get(Key("a"))
    assert not path.with_name("askonce.db.damaged").exists()


@awaited
async def test_the_database_of_another_program_is_left_as_it_is(path: Path) -> None:
    path.parent.mkdir()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE theirs (a)")
    connection.close()
    async with opened(path) as store:
        with pytest.raises(CacheError, match="another program"):
            await store.get(Key("a"))


@contextmanager
def locked(path: Path) -> Iterator[None]:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


@awaited
async def test_while_somebody_holds_the_file_locked_reading_goes_on(path: Path) -> None:
    async with opened(path) as store:
        await store.put(entry("a"))
        with locked(path):
            with pytest.raises(CacheError, match="locked"):
                await store.put(entry("b"))
            assert await store.get(Key("a")) == entry("a")
            assert "locked" in store.fault
        assert await store.put(entry("b"))
        assert store.fault == ""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of two megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no small disk can be made here: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


@awaited
async def test_a_full_disk_keeps_no_more_and_still_answers(small_disk: Path) -> None:
    noise = random.Random(1)
    async with opened(small_disk / "askonce.db", max_bytes=1 << 30) as store:
        kept: list[int] = []

        async def fill() -> None:
            for number in range(200):
                assert await store.put(entry(f"k{number}", noise.randbytes(30_000)))
                kept.append(number)

        with pytest.raises(CacheError, match=r"full|I/O"):
            await fill()
        assert 10 < len(kept) < 80
        for number in kept:
            assert await store.get(Key(f"k{number}")) is not None
        assert store.fault
        # It recovers by itself when there is room again.
        subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
        until = asyncio.get_running_loop().time() + 15
        while True:
            try:
                if await store.put(entry("after")):
                    break
            except CacheError:
                assert asyncio.get_running_loop().time() < until
                await asyncio.sleep(0.05)
        assert await store.get(Key("after")) == entry("after")


@awaited
async def test_a_disk_that_became_read_only_makes_faults_and_nothing_worse(small_disk: Path) -> None:
    async with opened(small_disk / "askonce.db") as store:
        await store.put(entry("a"))
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    async with opened(small_disk / "askonce.db") as store:
        with pytest.raises(CacheError, match="Read-only"):
            await store.get(Key("a"))
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    async with opened(small_disk / "askonce.db") as store:
        assert await store.get(Key("a")) == entry("a")


@awaited
async def test_a_directory_that_may_not_be_written_makes_faults_and_nothing_worse(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    async with opened(tmp_path / "file" / "askonce.db") as store:
        with pytest.raises(CacheError, match="File exists"):
            await store.get(Key("a"))


@awaited
async def test_the_loop_goes_on_while_the_file_is_slow(path: Path) -> None:
    threads = SqliteThreads(SqliteFile(path), deadline_s=0.02)
    release = threading.Event()
    try:
        with pytest.raises(CacheError, match="longer than 20 ms"):
            await threads.read(lambda _: release.wait(10))
    finally:
        release.set()
        await threads.close()


def add_up(path: Path) -> None:
    async def scene() -> None:
        threads = SqliteThreads(SqliteFile(path), deadline_s=10.0)
        tallies, shelf = SqliteTallies(threads), SqliteShelf(threads)
        for _ in range(50):
            await tallies.add("day", {"hits": 1, "usd": 10**13}, keep_s=60)
        await shelf.create("secret", os.urandom(16))
        await threads.close()

    asyncio.run(scene())


def test_processes_that_begin_together_share_one_file_one_secret_and_one_sum(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=add_up, args=(path,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(15)
    assert [process.exitcode for process in processes] == [0, 0, 0]

    async def scene() -> None:
        threads = SqliteThreads(SqliteFile(path), deadline_s=10.0)
        assert list(await SqliteTallies(threads).read(["day"])) == [{"hits": 150, "usd": 150 * 10**13}]
        assert len(await SqliteShelf(threads).read("secret") or b"") == 16
        await threads.close()

    asyncio.run(scene())
