"""Accounting as a client sees it: dollars in headers and pages, answers without usage counted apart."""

import asyncio
import gzip
import io
import json
import math
import socket
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from prometheus_client.parser import text_string_to_metric_families

from proxy import app, cli
from proxy.accounts import counting
from proxy.accounts.counting import Counting, Uncounted
from proxy.accounts.usage import Method
from proxy.dialects import BY_SUFFIX
from proxy.model import Form
from proxy.pages import metrics, table
from proxy.settings import AccountingSettings, Config, UpstreamSettings
from proxy.tasks import Tasks
from proxy.tokens.counter import TokenCounter
from tests import answers, raw_client
from tests.answers import EVENTS
from tests.comparison import Ways
from tests.conftest import StartProxy
from tests.observation import Stats, settled, stats, wait_for_stats
from tests.scripted_provider import Gate, steps

pytestmark = pytest.mark.proxy_only

PRICES = {"accounting__provider": "openai"}
MODEL = "gpt-4o-mini"
ROOT = Path(__file__).resolve().parent.parent
SCHEMA = json.loads((ROOT / "docs" / "stats.schema.json").read_text(encoding="utf-8"))

USAGE = {
    "prompt_tokens": 2000,
    "completion_tokens": 100,
    "total_tokens": 2100,
    "prompt_tokens_details": {"cached_tokens": 1024},
}


def answer(content: str = "Four.", *, usage: object = USAGE, **more: Any) -> bytes:
    """A whole chat answer with *usage*, or with none."""
    body = json.loads(answers.chat_body(content, **more))
    body.pop("usage", None)
    return answers.whole(answers.compact({**body, **({"usage": usage} if usage else {})}))


def ask(ways: Ways, **asked: Any) -> raw_client.RawAnswer:
    """The answer to a chat request."""
    return raw_client.exchange(ways.proxy, ways.chat(**asked))


def ask_together(ways: Ways, said: bytes) -> None:
    """Two ask the same at the same time; one of them leads, and both are told *said*."""
    gate = Gate()
    ways.plays(steps(gate, said))
    with ways.connect() as leader, ways.connect() as follower:
        for connection in (leader, follower):
            connection.send(ways.chat())
        ways.settle()
        gate.open()
        for connection in (leader, follower):
            connection.read_answer("POST")


def requests(ways: Ways) -> list[dict[str, Any]]:
    """What stands at /_askonce/requests."""
    page = raw_client.exchange(ways.proxy, raw_client.request("GET", "/_askonce/requests", host=b"localhost"))
    assert page.status == 200
    rows: list[dict[str, Any]] = json.loads(page.body)["requests"]
    return rows


def figures(ways: Ways) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample at /metrics, as the parser of prometheus-client reads it."""
    page = raw_client.exchange(ways.proxy, raw_client.request("GET", "/metrics"))
    assert (page.get("content-type") or "").startswith("text/plain")
    families = list(text_string_to_metric_families(page.body.decode()))
    assert all(family.documentation and family.name.startswith("askonce_") for family in families)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def total(found: Mapping[tuple[str, tuple[tuple[str, str], ...]], float], name: str, **labels: str) -> float:
    """The sum over the samples of *name* with *labels*."""
    return sum(value for (at, told), value in found.items() if at == name and labels.items() <= dict(told).items())


# --- dollars ---------------------------------------------------------------------------------------------------------

# gpt-4o-mini: 0.15 for a million tokens in, 0.075 from the prompt cache, 0.60 out.
NET = Decimal("0.15") * 976 / 10**6 + Decimal("0.075") * 1024 / 10**6 + Decimal("0.60") * 100 / 10**6
LIST = Decimal("0.15") * 2000 / 10**6 + Decimal("0.60") * 100 / 10**6


def test_a_hit_tells_what_it_saved_and_the_books_agree(start_proxy: StartProxy) -> None:
    ways = start_proxy(**PRICES)
    ways.plays(answer())
    first = ask(ways)
    settled(ways.proxy, requests=1, fetches=1)
    # The ordinary way, then the short one.
    again = [ask(ways) for _ in range(3)]
    assert first.get("x-cache-saved-usd") is None
    assert {Decimal(each.get("x-cache-saved-usd") or "-1") for each in again} == {NET}
    shown = settled(ways.proxy, requests=4, fetches=1)
    Draft202012Validator(SCHEMA).validate(shown)
    for tokens in (shown["tokens"], shown["models"][MODEL]["tokens"]):
        assert (Decimal(tokens["spent"]["usd"]), Decimal(tokens["spent"]["usd_list"])) == (NET, LIST)
        assert (Decimal(tokens["saved"]["usd"]), Decimal(tokens["saved"]["usd_list"])) == (3 * NET, 3 * LIST)
        assert tokens["spent"]["unpriced"] == tokens["saved"]["unpriced"] == 0
    assert shown["tokens"]["coverage"]["sentence"] == (
        f"100 % of saved tokens measured; prices as of {shown['prices_as_of']}"
    )


def test_a_call_that_joined_saves_what_the_fetch_cost(start_proxy: StartProxy) -> None:
    ways = start_proxy(**PRICES)
    ask_together(ways, answer())
    shown = settled(ways.proxy, requests=2, fetches=1)
    assert Decimal(shown["tokens"]["saved"]["usd"]) == Decimal(shown["tokens"]["spent"]["usd"]) == NET
    assert [Decimal(row["usd"]) for row in requests(ways)] == [NET, NET]
    assert {row["counts_as"] for row in requests(ways)} == {"spent", "saved"}


@pytest.mark.parametrize("settings", [{}, {**PRICES, "asked": "no-such-model"}])
def test_what_has_no_price_saves_tokens_only(start_proxy: StartProxy, settings: dict[str, str]) -> None:
    model = settings.pop("asked", MODEL)
    ways = start_proxy(**settings)
    body = json.loads(answer().partition(b"\r\n\r\n")[2])
    ways.plays(answers.whole(answers.compact({**body, "model": model})))
    ask(ways, model=model)
    settled(ways.proxy, requests=1, fetches=1)
    hit = ask(ways, model=model)
    assert (hit.get("x-cache"), hit.get("x-cache-saved-usd"), hit.get("x-cache-saved-tokens")) == ("HIT", None, "2100")
    saved = settled(ways.proxy, requests=2, fetches=1)["tokens"]["saved"]
    assert (saved["usd"], saved["unpriced"], saved["input"]) == ("0", 1, 2000)


def test_a_service_tier_without_a_price_is_unpriced(start_proxy: StartProxy) -> None:
    ways = start_proxy(**PRICES)
    ways.plays(answer(service_tier="no-such-tier"))
    ask(ways)
    settled(ways.proxy, requests=1, fetches=1)
    assert ask(ways).get("x-cache-saved-usd") is None
    assert settled(ways.proxy, requests=2, fetches=1)["tokens"]["spent"]["unpriced"] == 1


def test_a_flat_rate_saves_no_money(start_proxy: StartProxy) -> None:
    ways = start_proxy(accounting__flat_rate="true")
    ways.plays(answer())
    ask(ways)
    settled(ways.proxy, requests=1, fetches=1)
    assert ask(ways).get("x-cache-saved-usd") == "0"
    saved = settled(ways.proxy, requests=2, fetches=1)["tokens"]["saved"]
    assert (saved["usd"], saved["usd_list"], saved["unpriced"], saved["input"]) == ("0", "0", 0, 2000)


def test_a_price_of_ones_own_holds(start_proxy: StartProxy) -> None:
    ways = start_proxy(**{"accounting__prices.gpt-4o*": "{input: 1000}"})
    ways.plays(answer())
    ask(ways)
    settled(ways.proxy, requests=1, fetches=1)
    assert ask(ways).get("x-cache-saved-usd") == "2"


@pytest.mark.parametrize("level", ["minimal", "none"])
def test_dollars_are_said_in_full_headers_only(start_proxy: StartProxy, level: str) -> None:
    ways = start_proxy(headers=level, **PRICES)
    ways.plays(answer())
    ask(ways)
    settled(ways.proxy, requests=1, fetches=1)
    assert ask(ways).get("x-cache-saved-usd") is None
    assert Decimal(settled(ways.proxy, requests=2, fetches=1)["tokens"]["saved"]["usd"]) == NET


def test_what_the_temperature_kept_out_has_its_dollars(start_proxy: StartProxy) -> None:
    ways = start_proxy(**PRICES)
    ways.plays(answer(), answer())
    for _ in range(2):
        ask(ways, temperature=1)
    opportunity = settled(ways.proxy, requests=2, fetches=2)["opportunity"]
    assert (opportunity["repeats"], Decimal(opportunity["usd"])) == (1, NET)


# --- answers without usage -------------------------------------------------------------------------------------------


def once_counted(ways: Ways) -> Stats:
    """What stands at /stats once an answer was counted."""
    return wait_for_stats(ways.proxy, lambda shown: shown["tokens"]["spent"]["counted"]["answers"] > 0, timeout_s=15)


def streamed() -> bytes:
    """A chat stream without its usage."""
    events = [event for event in answers.chat_events(["Two and two ", "are four."]) if b'"usage":{' not in event]
    return answers.chunked(b"".join(events) + answers.DONE, EVENTS)


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_without_usage_is_counted_afterwards_and_so_are_its_hits(
    start_proxy: StartProxy, stream: bool
) -> None:
    ways = start_proxy(**PRICES)
    ways.plays(streamed() if stream else answer("Two and two are four.", usage=None))
    ask(ways, **({"stream": True} if stream else {}))
    spent = once_counted(ways)["tokens"]["spent"]
    assert (spent["answers"], spent["without_usage"], spent["input"], spent["usd"]) == (1, 1, 0, "0")
    counted = spent["counted"]
    # The answer is of seven tokens, the stop included as the rules have it.
    assert 5 <= counted["output"] <= 8
    assert counted["input"] > 10
    assert Decimal(counted["usd"]) > 0
    assert (counted["lower_bounds"], spent["estimated"]["answers"]) == (0, 0)
    for _ in range(3):
        hit = ask(ways, **({"stream": True} if stream else {}))
        assert hit.get("x-cache-saved-method") == "counted"
        assert hit.get("x-cache-saved-tokens") == str(counted["input"] + counted["output"])
        assert hit.get("x-cache-saved-usd") == counted["usd"]
    shown = settled(ways.proxy, requests=4, fetches=1)
    saved = shown["tokens"]["saved"]
    assert (saved["answers"], saved["without_usage"], saved["counted"]["answers"]) == (3, 3, 3)
    assert Decimal(saved["counted"]["usd"]) == 3 * Decimal(counted["usd"])
    assert saved["usd"] == "0"
    assert shown["tokens"]["coverage"]["counted"] == 1
    assert {row["tokens"]["method"] for row in requests(ways)} == {"counted"}
    Draft202012Validator(SCHEMA).validate(shown)


def test_a_call_that_joined_a_fetch_without_usage_saves_what_was_counted(start_proxy: StartProxy) -> None:
    ways = start_proxy(**PRICES)
    ask_together(ways, answer("Four.", usage=None))
    once_counted(ways)
    shown = wait_for_stats(ways.proxy, lambda shown: shown["tokens"]["saved"]["counted"]["answers"] == 1)
    assert shown["tokens"]["saved"] == shown["tokens"]["spent"]


def uncounted(body: bytes, *, name: str = "/chat/completions", stream: bool = False, **more: Any) -> Uncounted:
    """An answer that waits to be counted."""
    request = {"model": MODEL, "messages": [{"role": "user", "content": "What are two and two?"}]}
    usual: dict[str, Any] = {"encoding": "", "form": Form(stream=stream), "model": MODEL}
    return Uncounted(dialect=BY_SUFFIX[name], body=body, **{"request": answers.compact(request), **usual, **more})


@pytest.fixture(scope="module")
def counter() -> TokenCounter:
    """One counter for all: it loads its vocabulary once."""
    return TokenCounter()


def test_a_stream_and_its_whole_form_are_worth_the_same(counter: TokenCounter) -> None:
    stream = b"".join(answers.chat_events(["Two and two ", "are four."])) + b"data: [DONE]\n\n"
    whole = answers.chat_body("Two and two are four.")
    assert counting.count(uncounted(stream, stream=True), counter) == counting.count(uncounted(whole), counter)


@pytest.mark.parametrize("finish", ["stop", None])
def test_a_stream_that_everybody_left_is_worth_what_came_of_it(counter: TokenCounter, finish: str | None) -> None:
    came = b"".join(answers.chat_events(["Two and two ", "are four."], finish=finish)) + b'data: {"choices": [{"in'
    whole = answers.chat_body("Two and two are four.")
    assert counting.count(uncounted(came, stream=True), counter) == counting.count(uncounted(whole), counter)


def test_a_coded_answer_is_decoded(counter: TokenCounter) -> None:
    whole = answers.chat_body("Two and two are four.")
    coded = uncounted(gzip.compress(whole), encoding="gzip")
    assert counting.count(coded, counter) == counting.count(uncounted(whole), counter)


@pytest.mark.parametrize(
    ("body", "more"),
    [
        (b"data: {}\n\n", {"stream": True}),
        (b"not JSON", {}),
        (b"[1]", {}),
        (b"[" * 100_000, {}),
        (b"no gzip", {"encoding": "gzip"}),
    ],
)
def test_what_cannot_be_told_whole_counts_by_its_prompt_alone(
    counter: TokenCounter, body: bytes, more: dict[str, Any]
) -> None:
    usage = counting.count(uncounted(body, **more), counter)
    assert usage is not None
    assert (usage.output_tokens, usage.lower_bound, usage.method) == (0, True, Method.COUNTED)
    assert usage.input_tokens > 5


def test_an_answer_to_what_cannot_be_read_is_not_counted(counter: TokenCounter) -> None:
    assert counting.count(uncounted(answers.chat_body("Four."), request=b"nothing"), counter) is None


def test_a_model_that_nobody_knows_is_estimated(counter: TokenCounter) -> None:
    usage = counting.count(uncounted(answers.chat_body("Four."), model="no-such-model"), counter)
    assert usage is not None
    assert usage.method is Method.ESTIMATED


async def _in_order(check: Callable[[Counting], None]) -> None:
    tasks = Tasks()
    check(Counting(tasks))
    await tasks.close()


def test_what_waits_to_be_counted_is_bounded() -> None:
    def check(waiting: Counting) -> None:
        one = uncounted(answers.chat_body("Four."))
        assert all(waiting.late(one) for _ in range(counting.MAX_WAITING))
        assert waiting.late(one) is None
        assert repr(waiting) == f"<Counting, {counting.MAX_WAITING} answers wait>"

    asyncio.run(_in_order(check))


def test_what_is_long_or_has_no_rules_is_not_counted() -> None:
    def check(waiting: Counting) -> None:
        assert waiting.late(uncounted(b"x" * (counting.MAX_BYTES + 1))) is None
        assert waiting.late(uncounted(b"{}", request=b"x" * counting.MAX_BYTES)) is None
        assert waiting.late(uncounted(b"{}", name="/messages")) is None

    asyncio.run(_in_order(check))


# --- /metrics --------------------------------------------------------------------------------------------------------


def test_the_metrics_are_the_stats(start_proxy: StartProxy) -> None:
    ways = start_proxy(**PRICES)
    ways.plays(answer(), answer(), answer())
    ask(ways)
    settled(ways.proxy, requests=1, fetches=1)
    for _ in range(2):
        ask(ways)
    ask(ways, temperature=1)
    ask(ways, model="said by a stranger")
    shown, found = settled(ways.proxy, requests=5, fetches=3), figures(ways)
    assert total(found, "askonce_requests_total") == shown["requests"] == 5
    assert total(found, "askonce_requests_total", outcome="HIT") == shown["hits"] == 2
    assert total(found, "askonce_requests_total", model="other") == 1
    assert total(found, "askonce_requests_total", model=MODEL) == 4
    assert not any("stranger" in value for _, labels in found for _, value in labels)
    for word, count in shown["reasons"].items():
        assert total(found, "askonce_reasons_total", reason=word) == count
    for kind in ("spent", "saved"):
        sums = shown["tokens"][kind]
        for direction in ("input", "output"):
            assert total(found, "askonce_tokens_total", kind=kind, direction=direction) == sums[direction]
        assert total(found, "askonce_usd_total", kind=kind) == pytest.approx(float(sums["usd"]))
        assert total(found, "askonce_usd_list_total", kind=kind) == pytest.approx(float(sums["usd_list"]))
    assert total(found, "askonce_fetches_total") == shown["fetches"]
    assert total(found, "askonce_request_duration_seconds_count", outcome="HIT") == 2
    assert total(found, "askonce_request_duration_seconds_bucket", outcome="HIT", le="+Inf") == 2
    assert total(found, "askonce_store_entries") == shown["store"]["entries"]
    assert total(found, "askonce_build_info", version=shown["version"]) == 1


def test_every_metric_is_documented_and_every_documented_one_is_there(start_proxy: StartProxy) -> None:
    found = {name for name, _ in figures(start_proxy(**PRICES))}
    told = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8").partition("\n## /metrics\n")[2]
    named = {word for word in told.split("`") if word.startswith("askonce_")}
    bases = {name.removesuffix(end) for name in found for end in ("_bucket", "_count", "_sum") if name.endswith(end)}
    plain = {name for name in found if not name.endswith(("_bucket", "_count", "_sum", "_created"))}
    assert named == plain | bases


@pytest.mark.parametrize("policy", ["off", "fixed", "adaptive", "verified", "shadow"])
def test_the_metrics_tell_where_the_semantic_bar_lies(start_proxy: StartProxy, policy: str) -> None:
    ways = start_proxy(semantic__policy=policy, semantic__threshold="0.93")
    found = {at: value for at, value in figures(ways).items() if at[0].startswith("askonce_semantic_")}
    bar = stats(ways.proxy)["semantic"]["bar"]
    threshold = {dict(labels)["class"]: value for (name, labels), value in found.items() if name.endswith("_threshold")}
    match policy:
        case "off":
            assert not found
        case "fixed" | "adaptive":
            assert threshold == {"": 0.93}
            assert total(found, "askonce_semantic_labels", policy=policy) == 0
        case _:
            assert threshold.keys() == {"plain", "dialogue", "tools"}
            for each in bar["classes"]:
                at = {"policy": policy, "class": each["class"]}
                expected = math.inf if each["threshold"] is None else pytest.approx(each["threshold"], abs=1e-3)
                assert threshold[each["class"]] == expected
                assert total(found, "askonce_semantic_error_bound", **at) == pytest.approx(each["bound"], abs=1e-4)
                assert total(found, "askonce_semantic_false_hits_at_most", **at) == each["false_hits_at_most"] == 0
    # However much is served, there are no more of them than of classes.
    assert len(found) <= 3 * 6


@pytest.mark.parametrize("name", ["gpt\n4", "a b", "é", "", "x" * 81, "-x", 'a"b'])
def test_a_name_that_is_no_label_becomes_none(name: str) -> None:
    assert metrics._LABEL.fullmatch(name) is None


# --- the last requests -----------------------------------------------------------------------------------------------


def test_the_last_requests_tell_what_was_said_about_them_and_no_texts(start_proxy: StartProxy) -> None:
    ways = start_proxy(ledger__max_requests="3", **PRICES)
    ways.plays(answer(), answer())
    tag = (("x-askonce-tag", "nightly"),)
    first = ask(ways, headers=tag)
    settled(ways.proxy, requests=1, fetches=1)
    for _ in range(3):
        ask(ways, headers=tag)
    ask(ways, temperature=1)
    settled(ways.proxy, requests=5, fetches=2)
    rows = requests(ways)
    assert [row["outcome"] for row in rows] == ["BYPASS", "HIT", "HIT"]
    assert [row["tag"] for row in rows] == ["", "nightly", "nightly"]
    assert rows[1]["key"] == first.get("x-cache-key")
    assert [Decimal(row["usd"]) for row in rows] == [NET] * 3
    assert rows[1]["tokens"] == {"input": 2000, "output": 100, "method": "measured"}
    assert ways.nonce not in json.dumps(rows)
    assert "sk-contract" not in json.dumps(rows)


async def _house(config: Config) -> app.App:
    """A house that is wired and does not listen."""
    return app.App(config)


# --- settings --------------------------------------------------------------------------------------------------------


def test_a_provider_that_nobody_knows_is_refused_with_the_near_miss(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "--set", "accounting.provider=openia"]) == 2
    assert "accounting.provider: no price list of 'openia', did you mean openai?" in capsys.readouterr().err


def test_a_house_takes_its_prices_from_its_settings() -> None:
    upstream = UpstreamSettings(url="http://h:1")
    told = Config(upstream=upstream, accounting=AccountingSettings(provider="openai"))
    assert asyncio.run(_house(told)).tills[""].listed(MODEL)
    assert not asyncio.run(_house(Config(upstream=upstream))).tills[""].listed(MODEL)


# --- the command -----------------------------------------------------------------------------------------------------


def test_tokens_counts_a_file_of_requests(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "requests.jsonl"
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]}
    file.write_text(f"{json.dumps(body)}\n\n{json.dumps({'request': body})}\nnothing\n", encoding="utf-8")
    assert cli.main(["tokens", str(file)]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == lines[1] == {"prompt_tokens": 8, "method": "counted", "model": MODEL}
    assert "error" in lines[2]


def test_tokens_reads_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO('{"model": "gpt-4o", "input": "Hello"}\n'))
    assert cli.main(["tokens"]) == 0
    assert json.loads(capsys.readouterr().out)["prompt_tokens"] > 0


def test_tokens_of_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["tokens", str(tmp_path / "none")]) == 1
    assert "cannot be read: No such file" in capsys.readouterr().err


def test_stats_shows_a_table(start_proxy: StartProxy, capsys: pytest.CaptureFixture[str]) -> None:
    ways = start_proxy(**PRICES)
    ways.plays(answer())
    ask(ways)
    settled(ways.proxy, requests=1, fetches=1)
    ask(ways)
    settled(ways.proxy, requests=2, fetches=1)
    host, port = ways.proxy
    for url in (f"http://{host}:{port}", f"{host}:{port}/stats", f"http://{host}:{port}/_askonce/stats"):
        assert cli.main(["stats", url]) == 0
        told = capsys.readouterr().out
        assert "of saved tokens measured" in told
        assert MODEL in told
        assert f"${NET:.6f}" in told


def test_stats_says_so_where_nothing_listens(closed_port: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["stats", f"http://127.0.0.1:{closed_port}"]) == 1
    assert "Connection refused; is a proxy listening there?" in capsys.readouterr().err


def test_stats_says_so_where_something_else_listens(ways: Ways, capsys: pytest.CaptureFixture[str]) -> None:
    host, port = ways.provider.address
    assert cli.main(["stats", f"http://{host}:{port}"]) == 1
    assert "askonce: http://" in capsys.readouterr().err


def test_stats_takes_no_other_address(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["stats", "file:///etc/passwd"]) == 2
    assert "expected a URL" in capsys.readouterr().err


def test_a_strangers_model_name_moves_no_cursor(start_proxy: StartProxy) -> None:
    shown = dict(stats(start_proxy().proxy))
    blank = {"spent": shown["tokens"]["spent"], "saved": shown["tokens"]["saved"]}
    row = {"requests": 1, "hits": 0, "joined": 0, "tokens": blank}
    told = table.rendered({**shown, "models": {"\x1b[2Jevil\n": row}})
    assert "\x1b" not in told
    assert "?[2Jevil?" in told


def test_nobody_listens_is_told_of_a_name_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        assert cli.main(["stats", f"127.0.0.1:{holder.getsockname()[1]}"]) == 1
    assert "is a proxy listening" in capsys.readouterr().err
