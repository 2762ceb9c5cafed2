"""Clients: keys that are written down as digests, what each may, and a file that is whole at every moment."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.accounts.money import PARTS, Cost
from proxy.accounts.periods import DAY_S
from proxy.errors import CacheError, ClientsError
from proxy.headers import Fields
from proxy.keys import clients
from proxy.keys.budgets import Budgets
from proxy.keys.clients import ANYBODY, KEY_PREFIX, Client, Roster
from proxy.keys.credential import Credential
from proxy.keys.gate import Gate
from proxy.keys.keyfile import KeyFile
from proxy.stores.shelf import MemoryTallies
from tests.awaited import awaited

KEY = b"sk-askonce-the-clients-own"
PROVIDERS = b"sk-the-providers"

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,20}", fullmatch=True)
CLIENTS = st.builds(
    Client,
    name=NAMES,
    team=st.text(max_size=10),
    digest=st.binary(max_size=8).map(clients.digest),
    budget=st.none() | st.integers(0, 10**20),
    models=st.lists(st.text(max_size=10), max_size=3).map(tuple),
    issued=st.just("2026-01-01T00:00:00Z"),
    revoked=st.sampled_from(["", "2026-02-01T00:00:00Z"]),
)


def named(name: str, key: bytes = KEY, **more: Any) -> Client:
    """A client whose key is *key*."""
    return Client(name=name, digest=clients.digest(key), **more)


def bearer(key: bytes) -> Fields:
    """The fields of a request that carries *key*."""
    return Fields(((b"Authorization", b"Bearer " + key),))


# --- the roster ------------------------------------------------------------------------------------------------------


@given(listed=st.lists(CLIENTS, max_size=5, unique_by=lambda client: client.name))
def test_a_roster_is_read_as_it_was_written(listed: list[Client]) -> None:
    roster = Roster(tuple(listed))
    assert clients.read(clients.write(roster)) == roster


def test_a_name_is_taken_until_its_key_is_taken_back() -> None:
    roster = Roster().with_new(named("ann"))
    with pytest.raises(ClientsError, match="ann already"):
        roster.with_new(named("ann", b"another"))
    again = roster.without("ann", at="now").with_new(named("ann", b"another"))
    assert [client.revoked for client in again] == ["now", ""]
    assert set(again.good()) == {clients.digest(b"another")}
    with pytest.raises(ClientsError, match="nobody called bob"):
        again.without("bob", at="now")


@pytest.mark.parametrize("name", ["", "-x", "a b", "a\nb", "x" * 65, "ä", "a/b"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ClientsError, match="no name"):
        Roster().with_new(named(name))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not JSON"),
        ("[]", "schema 1"),
        ('{"schema": 2, "clients": []}', "schema 1"),
        ('{"schema": 1, "clients": [1]}', r"clients\[0\] is no object"),
        ('{"schema": 1, "clients": [{"name": "a"}]}', r"clients\[0\].sha256"),
        ('{"schema": 1, "clients": [{"name": 1, "sha256": "00"}]}', r"clients\[0\].name is no text"),
    ],
)
def test_a_file_that_is_wrong_is_told_where(text: str, said: str) -> None:
    with pytest.raises(ClientsError, match=said):
        clients.read(text)


def test_two_good_keys_of_one_name_are_refused() -> None:
    row = json.loads(clients.write(Roster((named("ann"),))))["clients"][0]
    with pytest.raises(ClientsError, match="ann already"):
        clients.read(json.dumps({"schema": 1, "clients": [row, row]}))


@pytest.mark.parametrize("amount", ["", "x", "-1", "nan", "inf", "1e10"])
def test_what_is_no_amount_is_refused(amount: str) -> None:
    with pytest.raises(ClientsError, match="no amount"):
        clients.dollars(amount)


def test_keys_are_unlike_one_another() -> None:
    keys = {clients.new_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(key.startswith(KEY_PREFIX) and len(key) > 50 for key in keys)


@pytest.mark.parametrize(
    ("models", "asked", "may"),
    [
        ((), ("anything", ""), True),
        (("gpt-4o*",), ("gpt-4o-mini",), True),
        (("gpt-4o*", "o3"), ("o3", "gpt-4o"), True),
        (("gpt-4o*",), ("gpt-4o", "o3"), False),
        (("gpt-4o*",), ("",), False),
        (("gpt-4o",), ("GPT-4o",), False),
    ],
)
def test_a_client_may_use_the_models_of_its_list(models: tuple[str, ...], asked: tuple[str, ...], may: bool) -> None:
    assert named("ann", models=models).may_use(*asked) is may


# --- the file --------------------------------------------------------------------------------------------------------


def test_many_writers_lose_nobody(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"

    def issue(number: int) -> None:
        KeyFile(path).change(lambda roster: roster.with_new(named(f"client-{number}", b"%d" % number)))

    threads = [threading.Thread(target=issue, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {client.name for client in KeyFile(path).read()} == {f"client-{number}" for number in range(12)}
    assert path.stat().st_mode & 0o777 == 0o600
    assert sorted(each.name for each in tmp_path.iterdir()) == [".keys.json.lock", "keys.json"]


def test_a_change_that_is_refused_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "keys.json")
    file.change(lambda roster: roster.with_new(named("ann")))
    before = file.stamp()
    with pytest.raises(ClientsError):
        file.change(lambda roster: roster.with_new(named("ann")))
    assert (file.stamp(), len(file.read().clients)) == (before, 1)


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(ClientsError, match="cannot be written"):
        KeyFile(tmp_path / "no such folder" / "keys.json").change(lambda roster: roster)


# --- the gate --------------------------------------------------------------------------------------------------------


class Door:
    """A gate and its file."""

    def __init__(self, path: Path, *, anonymous: bool = False) -> None:
        self.path = path
        self.file = KeyFile(path)
        self.file.change(lambda roster: roster.with_new(named("ann", team="red")))
        self.changes = 0
        self.gate = Gate(self.file, anonymous=anonymous, changed=self.changed)

    def changed(self) -> None:
        self.changes += 1

    def opens(self, fields: Fields, target: bytes = b"/v1/models") -> str | None:
        """Who enters with *fields*."""
        client = self.gate.admit(fields, target)
        return client.name if client is not None else None


@pytest.mark.parametrize(
    "fields",
    [
        ((b"Authorization", b"Bearer " + KEY),),
        ((b"authorization", b"bearer  " + KEY + b" "),),
        ((b"api-key", KEY),),
        ((b"X-Api-Key", KEY),),
        ((b"Sec-WebSocket-Protocol", b"realtime, openai-insecure-api-key." + KEY + b", beta"),),
        ((b"Authorization", b"Bearer other"), (b"x-api-key", KEY)),
    ],
)
def test_a_key_opens_wherever_it_stands(tmp_path: Path, fields: Any) -> None:
    assert Door(tmp_path / "keys.json").opens(Fields(fields)) == "ann"


@pytest.mark.parametrize(
    "fields",
    [
        (),
        ((b"Authorization", b"Bearer " + KEY + b"x"),),
        ((b"Authorization", b"Bearer " + KEY[:-1]),),
        ((b"Authorization", KEY),),
        ((b"Authorization", b"Bearer"),),
        ((b"api-key", b""),),
        ((b"Authorization", b"Bearer " + clients.digest(KEY).encode()),),
        ((b"x-key", KEY),),
    ],
)
def test_nothing_else_opens(tmp_path: Path, fields: Any) -> None:
    assert Door(tmp_path / "keys.json").opens(Fields(fields)) is None


def test_a_key_that_stands_in_the_address_too_does_not_open(tmp_path: Path) -> None:
    assert Door(tmp_path / "keys.json").opens(bearer(KEY), b"/v1/models?key=" + KEY) is None


def test_where_everybody_is_trusted_a_key_of_ours_must_still_be_good(tmp_path: Path) -> None:
    door = Door(tmp_path / "keys.json", anonymous=True)
    assert door.opens(Fields(())) == door.opens(bearer(b"sk-anything")) == ""
    assert door.opens(bearer(KEY)) == "ann"
    assert door.opens(bearer(KEY_PREFIX.encode() + b"gone")) is None


@awaited
async def test_a_gate_follows_its_file(tmp_path_factory: pytest.TempPathFactory) -> None:
    door = Door(tmp_path_factory.mktemp("gate") / "keys.json")
    await door.gate.look()
    assert door.changes == 0
    door.file.change(lambda roster: roster.with_new(named("bob", b"bobs")))
    await door.gate.look()
    assert (door.opens(bearer(b"bobs")), door.opens(bearer(KEY)), door.changes) == ("bob", "ann", 1)
    door.file.change(lambda roster: roster.without("ann", at="now"))
    await door.gate.look()
    assert (door.opens(bearer(b"bobs")), door.opens(bearer(KEY)), door.changes) == ("bob", None, 2)


@awaited
async def test_who_stays_leaves_when_the_key_is_taken_back(tmp_path_factory: pytest.TempPathFactory) -> None:
    door = Door(tmp_path_factory.mktemp("gate") / "keys.json", anonymous=True)
    ann = door.gate.admit(bearer(KEY), b"/")
    assert ann is not None
    left: list[str] = []
    with door.gate.staying(ann, lambda: left.append("ann")), door.gate.staying(ANYBODY, lambda: left.append("one")):
        with door.gate.staying(ann, lambda: left.append("gone before")):
            door.file.change(lambda roster: roster.with_new(named("bob", b"bobs")))
            await door.gate.look()
            assert left == []
        door.file.change(lambda roster: roster.without("ann", at="now"))
        await door.gate.look()
        assert left == ["ann"]
        # The handshake may have taken longer than the key was good.
        with door.gate.staying(ann, lambda: left.append("late")):
            assert left == ["ann", "late"]


@awaited
async def test_a_file_that_breaks_locks_nobody_out_and_lets_nobody_in(tmp_path_factory: pytest.TempPathFactory) -> None:
    door = Door(tmp_path_factory.mktemp("gate") / "keys.json")
    door.path.write_text("{")
    for _ in range(2):
        await door.gate.look()
        assert (door.opens(bearer(KEY)), door.opens(bearer(b"bobs")), door.changes) == ("ann", None, 0)
    door.path.write_text(clients.write(Roster((named("bob", b"bobs"),))))
    await door.gate.look()
    assert (door.opens(bearer(KEY)), door.opens(bearer(b"bobs")), door.changes) == (None, "bob", 1)


# --- the provider's key ----------------------------------------------------------------------------------------------

FIELD_NAMES = st.sampled_from(
    [b"Authorization", b"API-Key", b"x-api-key", b"Host", b"X-Trace", b"X-Auth-Token", b"sec-websocket-protocol"]
)
VALUES = st.sampled_from(
    [
        b"",
        KEY,
        b"Bearer " + KEY,
        b"Basic " + KEY,
        b"realtime, openai-insecure-api-key." + KEY,
        b"openai-insecure-api-key." + KEY,
        b"plain",
        b"before " + KEY + b" after",
    ]
)


@given(sent=st.lists(st.tuples(FIELD_NAMES, VALUES), max_size=6), key=st.sampled_from([PROVIDERS, None]))
def test_the_key_that_opened_the_gate_never_goes_up(sent: list[tuple[bytes, bytes]], key: bytes | None) -> None:
    put = Credential(key).put(sent)
    if KEY in clients.presented(Fields(tuple(sent))):
        assert not any(KEY in value for _, value in put)
    assert sum(PROVIDERS in value for _, value in put) == (key is not None)
    others = [pair for pair in sent if pair[1] == b"plain" and pair[0] in (b"Host", b"X-Trace", b"X-Auth-Token")]
    assert [pair for pair in put if pair in others] == others


@pytest.mark.parametrize(
    ("came", "went"),
    [
        ((b"Authorization", b"Bearer " + KEY), (b"Authorization", b"Bearer " + PROVIDERS)),
        ((b"api-key", KEY), (b"api-key", PROVIDERS)),
        ((b"X-API-Key", KEY), (b"X-API-Key", PROVIDERS)),
    ],
)
def test_the_providers_key_goes_where_the_clients_stood(came: tuple[bytes, bytes], went: tuple[bytes, bytes]) -> None:
    assert Credential(PROVIDERS).put([(b"A", b"1"), came, (b"B", b"2")]) == [(b"A", b"1"), went, (b"B", b"2")]


# --- budgets ---------------------------------------------------------------------------------------------------------


class Clock:
    """A clock that goes when it is told to."""

    time = 20_000.0 * DAY_S + 100

    def __call__(self) -> float:
        return self.time


def usd(amount: float) -> Cost:
    """A cost of *amount* dollars."""
    return Cost(round(amount * PARTS), round(amount * PARTS))


@awaited
async def test_a_budget_is_spent_by_all_processes_together_and_renewed_at_midnight() -> None:
    clock = Clock()
    tallies = MemoryTallies(now=clock)
    one, other = Budgets(tallies, now=clock), Budgets(tallies, now=clock)
    ann = named("ann", budget=3 * PARTS)
    for budgets in (one, other, one):
        assert not one.spent(ann)
        budgets.spend("ann", usd(1))
        await budgets.settle()
        await one.settle()
    assert one.spent(ann)
    await other.settle()
    assert other.spent(ann)
    restarted = Budgets(tallies, now=clock)
    await restarted.settle()
    assert restarted.spent(ann)
    assert 0 < one.left_s() <= DAY_S
    clock.time += one.left_s()
    assert not one.spent(ann)
    await one.settle()
    assert not one.spent(ann)


def test_a_budget_knows_at_once_what_was_spent_here() -> None:
    budgets = Budgets(MemoryTallies())
    ann, bob = named("ann", budget=PARTS), named("bob")
    for client in ("ann", "bob", ""):
        budgets.spend(client, usd(1))
        budgets.spend(client, None)
    assert [budgets.spent(client) for client in (ann, bob, None, named("cyd", budget=1))] == [True, False, False, False]
    assert budgets.spent(named("dan", budget=0))


@awaited
async def test_a_budget_holds_while_the_store_fails() -> None:
    class Failing(MemoryTallies):
        async def add(self, *_: Any, **__: Any) -> None:
            raise CacheError("gone")

    budgets = Budgets(Failing())
    budgets.spend("ann", usd(1))
    for _ in range(2):
        await budgets.settle()
        assert budgets.spent(named("ann", budget=PARTS))
