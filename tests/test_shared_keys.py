"""Shared-key mode, as everybody meets it: the operator, the client, the provider, and whoever reads the logs."""

import base64
import contextlib
import io
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from proxy import cli
from tests import answers, raw_client
from tests.comparison import Ways
from tests.conftest import StartProxy
from tests.contract.test_w_websocket import CREATED, ECHO, accepted, next_frame, opened
from tests.observation import assert_adds_up, settled, stats, wait_for_stats
from tests.raw_client import RawAnswer
from tests.scripted_provider import Exchange, Gate, Script, ScriptedProvider, steps
from tests.websocket_frames import Frame, Opcode, encode

pytestmark = pytest.mark.proxy_only

PROVIDERS = "sk-the-providers-own-key-0123456789"
USAGE = {"prompt_tokens": 2000, "completion_tokens": 100, "total_tokens": 2100}
# gpt-4o-mini: 0.15 dollars for a million tokens in, 0.60 out.
COST = 0.15 * 2000 / 1e6 + 0.60 * 100 / 1e6
UPGRADE = (
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", base64.b64encode(bytes(16)).decode()),
)


def run(*arguments: str) -> tuple[int, str]:
    """The exit status of ``askonce keys`` with *arguments*, and what it printed."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as told:
        status = cli.main(["keys", *arguments])
    return status, out.getvalue() if status == 0 else told.getvalue()


@dataclass
class House:
    """A proxy that holds the provider's key."""

    ways: Ways
    file: Path

    def issue(self, name: str, *more: str) -> str:
        """A key for *name*."""
        status, printed = run("new", name, "--file", str(self.file), *more)
        assert status == 0, printed
        return printed.strip()

    def ask(self, key: str | None, *, path: str = "/v1/chat/completions", **asked: Any) -> RawAnswer:
        """The answer to a chat request with *key*."""
        keyed = (("Authorization", f"Bearer {key}"),) if key is not None else ()
        return raw_client.exchange(self.ways.proxy, self.ways.chat(headers=keyed, path=path, **asked))

    def send(self, method: str, target: str, key: str | None, *fields: tuple[str, str], body: Any = None) -> RawAnswer:
        """The answer to some request with *key*."""
        keyed = (("Authorization", f"Bearer {key}"),) if key is not None else ()
        return raw_client.exchange(self.ways.proxy, self.ways.request(method, target, (*keyed, *fields), body))

    def comes_to(self, answer: Callable[[], RawAnswer], status: int) -> RawAnswer:
        """What *answer* gives once its status is *status*; fails where that takes more than three seconds."""
        deadline = time.monotonic() + 3
        while (got := answer()).status != status:
            assert time.monotonic() < deadline, got.status_line
            time.sleep(0.02)
        return got

    def seen(self) -> list[Any]:
        """What reached the provider."""
        return list(self.ways.provider.requests(self.ways.nonce))


@pytest.fixture
def house(start_proxy: StartProxy, tmp_path: Path) -> House:
    file = tmp_path / "keys.json"
    secret = tmp_path / "provider.key"
    secret.write_text(PROVIDERS + "\n")
    ways = start_proxy(
        keys__mode="shared", keys__file=str(file), upstream__key_file=str(secret), accounting__provider="openai"
    )
    ways.plays(answers.whole(answers.compact({**json.loads(answers.chat_body("Four.")), "usage": USAGE})))
    return House(ways, file)


def error(answer: RawAnswer) -> Any:
    """The error that *answer* tells, in OpenAI's shape."""
    told = json.loads(answer.body)["error"]
    assert set(told) == {"message", "type", "param", "code"}
    return told


# --- keys ------------------------------------------------------------------------------------------------------------


def test_a_client_asks_with_its_own_key_and_the_provider_sees_the_providers(house: House) -> None:
    key = house.issue("ann")
    first = house.comes_to(lambda: house.ask(key), 200)
    again = house.ask(key)
    assert (first.get("x-cache"), again.get("x-cache")) == ("MISS", "HIT")
    (received,) = house.seen()
    assert received.values("authorization") == [f"Bearer {PROVIDERS}".encode()]
    assert key.encode() not in repr(received).encode() + received.body


def test_who_has_no_key_or_none_of_ours_is_told_so_in_openais_shape(house: House) -> None:
    key = house.issue("ann")
    house.comes_to(lambda: house.ask(key), 200)
    before = stats(house.ways.proxy)
    for wrong in (None, "sk-unknown", key[:-1], PROVIDERS):
        refused = house.ask(wrong)
        assert (refused.status, error(refused)["code"]) == (401, "unknown_key")
        assert (refused.get("x-cache"), refused.get("x-cache-reason")) == ("ERROR", "unknown_key")
        assert refused.get("www-authenticate") == "Bearer"
    after = wait_for_stats(house.ways.proxy, lambda shown: shown["requests"] >= before["requests"] + 4)
    assert after["reasons"]["unknown_key"] >= before["reasons"]["unknown_key"] + 4
    assert_adds_up(after)
    assert len(house.seen()) == 1


def test_forwarded_paths_and_websockets_need_the_key_too(house: House) -> None:
    key = house.issue("ann")
    house.comes_to(lambda: house.ask(key), 200)
    for method, target, fields, body in (
        ("GET", "/v1/models", (), None),
        ("POST", "/v1/images/generations", (), b"{}"),
        ("GET", "/v1/realtime?model=gpt-realtime", UPGRADE, None),
    ):
        assert house.send(method, target, None, *fields, body=body).status == 401
        assert house.send(method, target, "sk-unknown", *fields, body=body).status == 401
        house.ways.plays(answers.whole(b"{}"))
        assert house.send(method, target, key, *fields, body=body).status == 200
        assert house.seen()[-1].values("authorization") == [f"Bearer {PROVIDERS}".encode()]
    assert len(house.seen()) == 4
    # Its own pages need none.
    assert raw_client.exchange(house.ways.proxy, raw_client.request("GET", "/healthz")).status == 200


def test_a_request_that_is_answered_with_itself_holds_no_secret(start_proxy: StartProxy, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file_of_secret = tmp_path / "provider.key"
    file_of_secret.write_text(PROVIDERS)
    key = run("new", "ann", "--file", str(file))[1].strip()
    ways = start_proxy(
        keys__mode="shared",
        keys__file=str(file),
        upstream__key_file=str(file_of_secret),
        upstream__add_headers='{"X-Gateway-Secret": "hush-hush"}',
    )
    house = House(ways, file)
    for method in ("TRACE", "OPTIONS"):
        ways.plays(answers.whole(b"{}"))
        assert house.send(method, "/v1/models", key).status == 200
    traced, asked = house.seen()
    assert (traced.values("authorization"), traced.values("x-gateway-secret")) == ([], [])
    assert (len(asked.values("authorization")), len(asked.values("x-gateway-secret"))) == (1, 1)


POLICY = answers.head(
    204,
    (
        ("Access-Control-Allow-Origin", "https://app.example"),
        ("Access-Control-Allow-Methods", "POST"),
        ("Access-Control-Max-Age", "7"),
    ),
)
BROWSERS = (("Origin", "https://app.example"), ("Access-Control-Request-Method", "POST"))


@pytest.mark.parametrize("replicas", [False, True])
def test_a_preflight_which_never_carries_a_key_reaches_the_provider_without_one_of_ours(
    start_proxy: StartProxy, fresh_provider: ScriptedProvider, tmp_path: Path, replicas: bool
) -> None:
    secret = tmp_path / "provider.key"
    secret.write_text(PROVIDERS)
    ways = start_proxy(
        keys__mode="shared",
        keys__file=str(tmp_path / "keys.json"),
        upstream__key_file=str(secret),
        upstream__add_headers='{"X-Gateway-Secret": "hush-hush"}',
        upstream__replicas=f"[{fresh_provider.origin}]" if replicas else "[]",
    )
    asked = (*BROWSERS, ("Access-Control-Request-Headers", "authorization,content-type"), ("Sec-Fetch-Mode", "cors"))
    for path in ("/v1/chat/completions", "/v1/models", "/v1/realtime/sessions"):
        _, through = ways.alike(ways.request("OPTIONS", path, asked), POLICY, spelling=True)
        assert PROVIDERS.encode() not in through.only.head
        assert b"hush-hush" not in through.only.head
    # The provider's own refusal is not one of our key, which it never saw.
    ways.alike(ways.request("OPTIONS", "/v1/models", asked), answers.whole(b'{"error":"no"}', status=401))
    assert ways.process is not None
    assert "refused the provider's key" not in ways.process.said()


@pytest.mark.parametrize(
    ("method", "fields", "body"),
    [
        ("OPTIONS", BROWSERS[:1], None),
        ("OPTIONS", BROWSERS[1:], None),
        ("GET", BROWSERS, None),
        ("OPTIONS", BROWSERS, b"{}"),
        ("OPTIONS", (*BROWSERS, ("Transfer-Encoding", "chunked")), None),
        ("OPTIONS", (*BROWSERS, ("X-HTTP-Method-Override", "POST")), None),
        ("OPTIONS", (*BROWSERS, ("Authorization", "Bearer sk-askonce-not-ours")), None),
        ("OPTIONS", (*BROWSERS, ("Authorization", "Basic eDp5")), None),
        ("OPTIONS", (*BROWSERS, ("x-api-key", "sk-unknown-to-everybody")), None),
    ],
)
def test_what_only_looks_like_a_preflight_needs_a_key(house: House, method: str, fields: Any, body: Any) -> None:
    refused = house.send(method, "/v1/chat/completions", None, *fields, body=body)
    assert (refused.status, error(refused)["code"]) == (401, "unknown_key")
    assert house.seen() == []


def test_a_preflight_that_asks_for_a_websocket_is_given_none(house: House) -> None:
    house.ways.plays(POLICY)
    assert house.send("OPTIONS", "/v1/realtime", None, *BROWSERS, *UPGRADE).status == 204
    (received,) = house.seen()
    assert received.values("upgrade") == []


def test_a_key_that_is_taken_back_stops_working_without_a_restart_even_for_what_was_answered(house: House) -> None:
    ann, bob = house.issue("ann"), house.issue("bob")
    with house.ways.connect() as connection:
        # The third answer comes the short way.
        house.comes_to(lambda: house.ask(bob), 200)
        asked = house.ways.chat(headers=(("Authorization", f"Bearer {ann}"),))
        for _ in range(3):
            connection.send(asked)
            assert connection.read_answer("POST").get("x-cache") == "HIT"
        assert run("revoke", "ann", "--file", str(house.file))[0] == 0
        house.comes_to(lambda: house.ask(ann), 401)
        connection.send(asked)
        assert connection.read_answer("POST").status == 401
    assert house.ask(bob).get("x-cache") == "HIT"
    assert len(house.seen()) == 1


def test_a_websocket_ends_with_its_key_and_no_other_does(house: House) -> None:
    ann, bob = house.issue("ann"), house.issue("bob")
    house.comes_to(lambda: house.ask(bob), 200)
    house.ways.plays(ECHO)
    with (
        opened(house.ways, headers=(("Authorization", f"Bearer {ann}"),)) as (anns, _),
        opened(house.ways, headers=(("Authorization", f"Bearer {bob}"),)) as (bobs, _),
    ):
        assert next_frame(anns) == next_frame(bobs) == CREATED
        assert anns.ended(0.0) is None
        assert run("revoke", "ann", "--file", str(house.file))[0] == 0
        assert anns.ended(3.0) is not None
        of_ann = house.seen()[1].link
        assert house.ways.provider.wait_until(lambda: of_ann.closed_at is not None, 3)
        said = Frame(Opcode.TEXT, b"still here", masked=True)
        bobs.send(encode(said))
        assert next_frame(bobs).payload == said.payload


def test_a_websocket_that_nobody_reads_ends_with_its_key_too(house: House) -> None:
    ann = house.issue("ann")
    house.comes_to(lambda: house.ask(ann), 200)

    async def pour(exchange: Exchange) -> None:
        await exchange.send(accepted(exchange.request))
        while True:
            await exchange.send(encode(Frame(Opcode.BINARY, bytes(65536))))

    house.ways.plays(Script(play=pour))
    with opened(house.ways, headers=(("Authorization", f"Bearer {ann}"),)):
        stats(house.ways.proxy)
        assert run("revoke", "ann", "--file", str(house.file))[0] == 0
        of_ann = house.seen()[1].link
        assert house.ways.provider.wait_until(lambda: of_ann.closed_at is not None, 3)


def test_a_provider_that_refuses_its_key_is_not_taken_for_one_that_refuses_the_clients(house: House) -> None:
    key = house.issue("ann")
    echoed = answers.compact(
        {"error": {"message": f"Incorrect API key provided: {PROVIDERS}", "code": "invalid_api_key"}}
    )
    house.ways.plays(answers.whole(echoed, status=401))
    refused = house.comes_to(lambda: house.ask(key), 502)
    forwarded = house.send("GET", "/v1/models", key)
    for got in (refused, forwarded):
        assert (got.status, error(got)["code"]) == (502, "provider_key")
        assert PROVIDERS.encode() not in bytes(got.body)
    assert house.ways.process is not None
    assert "refused the provider's key" in house.ways.process.said()


def test_a_provider_that_goes_on_refusing_its_key_does_not_fill_the_log(house: House) -> None:
    key = house.issue("ann")
    house.ways.plays(answers.whole(b"{}", status=401))
    house.comes_to(lambda: house.ask(key), 502)
    for seed in range(7):
        assert house.ask(key, seed=seed).status == 502
    assert house.ways.process is not None
    line = f"127.0.0.1:{house.ways.provider.address[1]} refused the provider's key"
    assert house.ways.process.said().count(line) == 1
    house.ways.process.stop()
    first, last = [told for told in house.ways.process.said().splitlines() if line in told]
    assert first.endswith("(upstream.key_env, upstream.key_file)")
    assert last.endswith("(upstream.key_env, upstream.key_file), 7 times more since that was last said")


def test_everybody_shares_one_cache(house: House) -> None:
    ann, bob = house.issue("ann"), house.issue("bob")
    house.comes_to(lambda: house.ask(ann), 200)
    assert house.ask(bob).get("x-cache") == "HIT"


# --- what each may ---------------------------------------------------------------------------------------------------


def test_a_spent_budget_is_told_in_openais_shape_and_hits_stay_free(house: House) -> None:
    ann = house.issue("ann", "--budget-usd", f"{1.5 * COST:f}")
    bob = house.issue("bob", "--budget-usd", "100")
    house.comes_to(lambda: house.ask(ann), 200)
    settled(house.ways.proxy, requests=1, fetches=1)
    assert house.ask(ann, seed=1).status == 200
    wait_for_stats(house.ways.proxy, lambda shown: shown["fetches"] >= 2)
    refused = house.ask(ann, seed=2)
    assert (refused.status, error(refused)["code"]) == (429, "budget_spent")
    assert (refused.get("x-cache"), refused.get("x-should-retry")) == ("ERROR", "false")
    assert 0 < int(refused.get("retry-after") or "0") <= 86_400
    assert house.ask(ann).get("x-cache") == "HIT"
    assert house.ask(ann, temperature=1).status == 429
    assert house.send("POST", "/v1/images/generations", ann, body=b"{}").status == 429
    assert house.send("GET", "/v1/models", ann).status == 200
    assert house.ask(bob, seed=2).status == 200
    assert_adds_up(stats(house.ways.proxy))


def test_who_hangs_up_before_the_end_pays_for_what_came(house: House) -> None:
    # 2,000 words: more than 0.001 dollars by any count.
    ann = house.issue("ann", "--budget-usd", "0.001")
    house.comes_to(lambda: house.ask(ann), 200)
    gate = Gate()
    said = answers.chat_events(["penguin "] * 2000)
    house.ways.plays(
        steps(answers.chunked_head(answers.EVENTS), answers.chunk(b"".join(said)), gate, answers.LAST_CHUNK)
    )
    with house.ways.connect() as connection:
        connection.send(house.ways.chat(headers=(("Authorization", f"Bearer {ann}"),), stream=True, seed=1))
        connection.start_answer("POST").read_until(b'"finish_reason":"stop"')
    # The first count loads a vocabulary.
    wait_for_stats(house.ways.proxy, lambda shown: shown["tokens"]["spent"]["counted"]["answers"] == 1, timeout_s=15.0)
    assert house.ask(ann, seed=2).status == 429
    gate.open()


MODELS: tuple[tuple[dict[str, Any], int], ...] = (
    ({"model": "gpt-4o-mini"}, 200),
    ({"model": "o3"}, 403),
    ({"model": None}, 403),
    ({"model": "gpt-4o-mini", "models": ["gpt-4o", "gpt-4o-mini"]}, 200),
    ({"model": "gpt-4o-mini", "models": ["o3"]}, 403),
    ({"model": "gpt-4o-mini", "models": "o3"}, 403),
    ({"model": "gpt-4o-mini", "Model": "o3"}, 403),
    ({"path": "/openai/deployments/gpt-4o/chat/completions", "model": "o3"}, 200),
    ({"path": "/openai/deployments/o3/chat/completions", "model": "gpt-4o"}, 403),
    ({"path": "/openai/deployments/gpt-4o%2F..%2Fo3/chat/completions", "model": "gpt-4o"}, 403),
)


def test_a_key_for_some_models_is_for_no_other(house: House) -> None:
    key = house.issue("ann", "--models", "gpt-4o*, gpt-4o")
    house.comes_to(lambda: house.ask(key, model="gpt-4o-mini", seed=7), 200)
    for asked, status in MODELS:
        before = len(house.seen())
        got = house.ask(key, **asked)
        assert got.status == status, asked
        if status == 403:
            assert error(got)["code"] == "model_not_allowed"
            assert len(house.seen()) == before


def test_a_key_for_some_models_cannot_go_where_nobody_reads_the_model(house: House) -> None:
    key = house.issue("ann", "--models", "gpt-4o*")
    house.comes_to(lambda: house.ask(key), 200)
    assert house.send("POST", "/v1/images/generations", key, body=b'{"model": "gpt-4o"}').status == 403
    assert house.send("POST", "/v1/chat/completions", key, body=b'{"model": "o3", "model": "gpt-4o"}').status == 403
    assert house.send("GET", "/v1/models", key).status == 200


def test_naming_an_allowed_model_in_the_address_opens_nothing_where_it_does_not_decide(house: House) -> None:
    key = house.issue("ann", "--models", "gpt-4o*")
    house.comes_to(lambda: house.ask(key), 200)
    for target in ("/v1/images/generations", "/v1//chat/completions", "/v1/chat/completions/"):
        assert house.send("POST", f"{target}?model=gpt-4o", key, body=b'{"model": "o3"}').status == 403
    # Each message of such a WebSocket names a model of its own.
    assert house.send("GET", "/v1/responses?model=gpt-4o", key, *UPGRADE).status == 403
    assert house.send("GET", "/openai/realtime?deployment=o3&model=gpt-4o", key, *UPGRADE).status == 403
    assert len(house.seen()) == 1
    for target in ("/v1/realtime?model=gpt-4o", "/openai/realtime?api-version=1&deployment=gpt-4o"):
        house.ways.plays(answers.whole(b"{}"))
        assert house.send("GET", target, key, *UPGRADE).status == 200


# --- usage and secrets -----------------------------------------------------------------------------------------------


def test_usage_and_savings_are_told_by_client_and_team(house: House) -> None:
    ann, bob = house.issue("ann", "--team", "red"), house.issue("bob", "--team", "red")
    cyd = house.issue("cyd", "--team", "blue")
    house.comes_to(lambda: house.ask(ann), 200)
    settled(house.ways.proxy, requests=1, fetches=1)
    for key in (ann, ann, bob, cyd):
        assert house.ask(key).get("x-cache") == "HIT"
    settled(house.ways.proxy, requests=5, fetches=1)

    def told(by: str) -> dict[str, tuple[int, int, int]]:
        target = f"/stats?window=1h&by={by}"
        page = raw_client.exchange(house.ways.proxy, raw_client.request("GET", target, host=b"localhost"))
        return {
            name: (group["requests"], group["tokens"]["spent"]["input"], group["tokens"]["saved"]["input"])
            for name, group in json.loads(page.body)["groups"].items()
            if name
        }

    assert told("client") == {"ann": (3, 2000, 4000), "bob": (1, 0, 2000), "cyd": (1, 0, 2000)}
    assert told("team") == {"red": (4, 2000, 6000), "blue": (1, 0, 2000)}
    target = raw_client.request("GET", "/_askonce/requests", host=b"localhost")
    rows = json.loads(raw_client.exchange(house.ways.proxy, target).body)["requests"]
    assert [(row["client"], row["team"]) for row in rows[:2]] == [("cyd", "blue"), ("bob", "red")]


def test_neither_key_is_to_be_found_anywhere(house: House, tmp_path: Path) -> None:
    key = house.issue("ann")
    house.comes_to(lambda: house.ask(key), 200)
    house.ask(key)
    got = [house.ask("sk-wrong-key-of-a-stranger"), house.ask(key, seed=3)]
    house.ways.provider.on(house.ways.nonce, steps(b"garbage\r\n\r\n"))
    got += [house.ask(key, seed=4), house.send("GET", "/v1/models", key)]
    for path in ("/stats", "/metrics", "/_askonce/requests", "/stats?by=client", "/healthz"):
        got.append(raw_client.exchange(house.ways.proxy, raw_client.request("GET", path, host=b"localhost")))
    shown = b"".join(bytes(each.body) + b"".join(each.header_lines) for each in got)
    assert house.ways.process is not None
    house.ways.process.stop()
    written = b"".join(
        each.read_bytes() for each in tmp_path.rglob("*") if each.is_file() and each.name != "provider.key"
    )
    for secret in (key, PROVIDERS, "sk-wrong-key-of-a-stranger"):
        assert secret.encode() not in shown
        assert secret.encode() not in written
    assert b"ann" in written


# --- the command -----------------------------------------------------------------------------------------------------


def test_keys_are_issued_listed_and_taken_back(tmp_path: Path) -> None:
    file = str(tmp_path / "keys.json")
    more = ("--team", "red", "--budget-usd", "2.50", "--models", "a,b*")
    status, printed = run("new", "ann", "--file", file, *more)
    assert status == 0
    assert printed.startswith("sk-askonce-")
    assert run("new", "ann", "--file", file)[0] == 1
    assert run("new", "bob", "--file", file, "--budget-usd", "much") == (
        1,
        "askonce: 'much' is no amount of dollars\n",
    )
    listed = run("list", "--file", file)[1]
    assert [line.split()[:4] for line in listed.splitlines()[1:]] == [["ann", "red", "$2.5", "a,b*"]]
    assert printed.strip() not in listed + Path(file).read_text()
    assert run("revoke", "ann", "--file", file)[0] == 0
    assert run("revoke", "ann", "--file", file)[0] == 1
    assert run("new", "ann", "--file", file)[0] == 0


def test_the_file_is_the_one_of_the_settings(tmp_path: Path) -> None:
    settings = tmp_path / "askonce.yaml"
    settings.write_text(f"keys:\n  file: {tmp_path / 'mine.json'}\n")
    assert run("new", "ann", "--config", str(settings))[0] == 0
    assert "ann" in (tmp_path / "mine.json").read_text()


def test_a_shared_key_that_is_not_there_is_told_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert cli.main(["check", "--set", "keys.mode=shared"]) == 2
    assert "OPENAI_API_KEY is not set" in capsys.readouterr().err
    monkeypatch.setenv("MY_KEY", PROVIDERS)
    assert cli.main(["check", "--set", "keys.mode=shared", "--set", "upstream.key_env=MY_KEY"]) == 0
    assert PROVIDERS not in capsys.readouterr().out
    monkeypatch.setenv("MY_KEY", f"{PROVIDERS}\n{PROVIDERS}")
    assert cli.main(["check", "--set", "keys.mode=shared", "--set", "upstream.key_env=MY_KEY"]) == 2
    assert PROVIDERS not in capsys.readouterr().err
    assert cli.main(["check", "--set", "keys.mode=shared", "--set", f"upstream.key_file={tmp_path / 'none'}"]) == 2


def test_a_broken_file_of_clients_is_told_at_the_start(start_proxy: StartProxy, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_text("{")
    with pytest.raises(RuntimeError, match=r"keys\.file: .*not JSON"):
        start_proxy(keys__mode="shared", keys__file=str(file), upstream__key_env="")
