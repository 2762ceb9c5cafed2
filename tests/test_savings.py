"""What counts as saved, rule by rule; every recorded answer, asked for twice, saves its cost to the token."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proxy.accounts.books import Axis
from proxy.accounts.ledger import Ledger
from proxy.accounts.money import PARTS, Cost
from proxy.accounts.pricing import Prices
from proxy.accounts.receipts import FetchReceipt, Overhead, OverheadReceipt, Receipt
from proxy.accounts.till import Till
from proxy.accounts.usage import Method, Usage, read_usage
from proxy.accounts.warmth import Warmth, warm_tokens
from proxy.model import CutOff, Entry, Key, Outcome, Unkept
from proxy.prefix.rules import Rule, Semantics
from tests import answers, raw_client, receipts
from tests.answers import EVENTS
from tests.comparison import Ways
from tests.conftest import StartProxy
from tests.observation import settled
from tests.receipts import COST, TEN, hit
from tests.scripted_provider import steps

VECTORS = Path(__file__).resolve().parents[2] / "shared" / "data" / "usage_vectors.jsonl"


def fetch(**more: Any) -> FetchReceipt:
    """A fetch that was paid for."""
    return receipts.fetch(**{"cost": COST, **more})


def savings(ledger: Ledger) -> Any:
    """What ``savings`` shows."""
    return json.loads(json.dumps(ledger.shown()))["savings"]


# --- rule by rule ----------------------------------------------------------------------------------------------------


def test_a_hit_saves_gross_without_the_prompt_cache_and_net_with_it() -> None:
    ledger = Ledger()
    ledger.record(hit())
    told = savings(ledger)
    assert (told["gross"], told["net"]) == ("4", "3")


def test_the_providers_prompt_cache_is_a_bucket_of_its_own_and_no_saving_of_ours() -> None:
    ledger = Ledger()
    ledger.fetched(fetch())
    ledger.fetched(fetch(cost=Cost(usd=7 * PARTS, usd_list=6 * PARTS)))
    ledger.fetched(fetch(cost=Cost(usd=7 * PARTS, usd_list=5 * PARTS)))
    told = savings(ledger)
    # It took one dollar off once; writing to it cost one and then two more.
    assert told["prompt_cache"]["usd"] == "-2"
    assert (told["gross"], told["net"]) == ("0", "0")


def test_what_the_proxy_asks_of_its_own_accord_is_taken_off_the_net_and_shown() -> None:
    ledger = Ledger()
    ledger.record(hit())
    for kind, dollars in ((Overhead.EMBEDDING, 1), (Overhead.REFRESH, 5)):
        cost = Cost(usd=dollars * PARTS, usd_list=dollars * PARTS)
        ledger.overhead(OverheadReceipt(kind=kind, usage=TEN, cost=cost))
    told = savings(ledger)
    assert (told["gross"], told["net"]) == ("4", "-3")
    assert {kind: told["overhead"][kind]["usd"] for kind in Overhead} == {"embedding": "1", "refresh": "5"}


def test_a_fetch_behind_an_expired_answer_is_spent_and_taken_off_the_net() -> None:
    ledger = Ledger()
    ledger.record(hit())
    ledger.fetched(fetch(overhead=Overhead.REFRESH))
    told = savings(ledger)
    assert (told["gross"], told["net"], told["overhead"]["refresh"]["usd"]) == ("4", "0", "3")
    assert ledger.books().total.spent.measured.usd == 3 * PARTS


def test_what_was_counted_and_estimated_has_its_own_gross_and_net() -> None:
    ledger = Ledger()
    for method in Method:
        ledger.record(hit(saved=Usage(input_tokens=8, output_tokens=2, method=method)))
    told = savings(ledger)
    assert [(part["gross"], part["net"]) for part in (told, told["counted"], told["estimated"])] == [("4", "3")] * 3


def test_each_way_to_save_is_a_tier_and_their_sums_are_the_whole() -> None:
    ledger = Ledger()
    ledger.record(hit())
    ledger.record(hit(tier="semantic", saved=replace(TEN, method=Method.ESTIMATED)))
    ledger.record(hit(outcome=Outcome.JOINED, tier="", saved=None))
    ledger.spared("gpt", TEN, COST)
    ledger.spared("gpt", TEN, COST, tier="items")
    ledger.fetched(fetch())
    lines = ledger.books().lines[Axis.TIER]
    assert {tier: line.saved.answers for tier, line in lines.items()} == {
        "exact": 1,
        "semantic": 1,
        "joined": 1,
        "items": 1,
        "none": 0,
    }
    assert (lines["semantic"].saved.measured.answers, lines["semantic"].saved.estimated.answers) == (0, 1)
    assert sum(line.saved.answers for line in lines.values()) == ledger.books().total.saved.answers


@pytest.mark.parametrize(
    "receipt",
    [
        hit(cut=CutOff.CLIENT_LEFT),
        hit(cut=CutOff.BROKE_OFF),
        *(hit(outcome=outcome) for outcome in Outcome if outcome is not Outcome.HIT),
    ],
)
def test_nothing_else_saves(receipt: Receipt) -> None:
    ledger = Ledger()
    ledger.record(receipt)
    assert savings(ledger)["gross"] == savings(ledger)["net"] == "0"


@pytest.mark.parametrize("status", [None, 400, 429, 500])
def test_an_error_spends_nothing(status: int | None) -> None:
    ledger = Ledger()
    ledger.fetched(fetch(status=status, kept=False, unkept=Unkept.STATUS))
    assert ledger.books().total.spent.answers == 0


def test_reasoning_is_a_part_of_the_output_and_never_added_to_it() -> None:
    told = read_usage(
        {"prompt_tokens": 10, "completion_tokens": 300, "completion_tokens_details": {"reasoning_tokens": 256}}
    )
    assert told is not None
    assert (told.output_tokens, told.total_tokens, told.reasoning_tokens) == (300, 310, 256)


# --- the provider's prompt cache, had it been asked -------------------------------------------------------------------

BLOCK = Rule(semantics=Semantics.BLOCK, min_tokens=1024, step_tokens=128, ttl_s=300)
MARKED = Rule(semantics=Semantics.BREAKPOINT, min_tokens=1024, ttl_s=300)


@pytest.mark.parametrize(
    ("rule", "usage", "warm"),
    [
        (BLOCK, Usage(input_tokens=2000), 1920),
        (BLOCK, Usage(input_tokens=1024), 1024),
        (BLOCK, Usage(input_tokens=1023), 0),
        (replace(MARKED, implicit=True), Usage(input_tokens=2000), 2000),
        (MARKED, Usage(input_tokens=2000), 0),
        (MARKED, Usage(input_tokens=2000, cached_tokens=300, cache_write_tokens=1500), 1800),
        (Rule(), Usage(input_tokens=2000, cached_tokens=5), 0),
    ],
)
def test_what_a_warm_prompt_cache_would_have_read(rule: Rule, usage: Usage, warm: int) -> None:
    assert warm_tokens(rule, usage) == warm


def test_a_repeat_is_net_of_a_prompt_cache_that_would_still_have_been_warm() -> None:
    # gpt-4o-mini: 0.15 dollars for a million tokens in, half of that from the prompt cache, 0.60 out.
    usage = Usage(input_tokens=2000, output_tokens=100)
    entry = Entry(
        key=Key("k"), dialect="chat", status=200, phrase=b"OK", head=b"", body=b"", model="gpt-4o-mini", created=1.79e9
    )
    till, warmth = Till(Prices(), upstream="openai"), Warmth()
    full = 2000 * 150_000 + 100 * 600_000
    warm = (1920 * 75_000 + 80 * 150_000) + 100 * 600_000
    for after, net in ((10, warm), (309, warm), (610, full), (612, warm)):
        cost = warmth.cost(entry, usage, entry.created + after, till=till, rule=lambda: BLOCK)
        assert cost is not None
        assert (cost.usd, cost.usd_list, cost.net) == (full, full, net), after


def test_the_net_is_what_the_ledger_adds_up_and_the_headline_is_as_billed() -> None:
    ledger = Ledger()
    ledger.record(hit(saved_cost=replace(COST, usd_net=2 * PARTS)))
    told = savings(ledger)
    assert (told["gross"], told["net"]) == ("4", "2")
    assert ledger.books().total.saved.measured.usd == 3 * PARTS


# --- recorded answers ------------------------------------------------------------------------------------------------

PATHS = {
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "responses": "/v1/responses",
    "embeddings": "/v1/embeddings",
}


def vectors() -> Iterator[dict[str, Any]]:
    """The recorded requests that can be made into an answer, with the usage that the provider billed."""
    with VECTORS.open(encoding="utf-8") as lines:
        for line in lines:
            vector = json.loads(line)
            if vector["usage"] and vector["endpoint"] in PATHS:
                yield vector


def replayed(vector: dict[str, Any], number: int) -> bytes:
    """An answer with the usage of *vector*, in the form that its request asks for."""
    endpoint, usage, model = vector["endpoint"], vector["usage"], vector["model"]
    streams = bool(vector["request"].get("stream"))
    said = f"Answer {number}."
    match endpoint:
        case "embeddings":
            items = [{"object": "embedding", "index": 0, "embedding": [0.5, number]}]
            return answers.whole(answers.compact({"object": "list", "data": items, "model": model, "usage": usage}))
        case "responses":
            part = {"type": "output_text", "text": said, "annotations": []}
            message = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
            whole = {"id": f"resp_{number}", "object": "response", "status": "completed", "model": model}
            whole |= {"output": [message], "usage": usage, "error": None}
            if not streams:
                return answers.whole(answers.compact(whole))
            told = {"type": "response.completed", "response": whole, "sequence_number": 0}
            return streamed([answers.event(told, "response.completed")])
        case "completions":
            choice = {"index": 0, "text": said, "finish_reason": "stop", "logprobs": None}
            kind = "text_completion"
        case _:
            choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
            kind = "chat.completion"
    whole = {"id": f"x-{number}", "object": kind, "created": 1, "model": model, "choices": [choice], "usage": usage}
    if not streams:
        return answers.whole(answers.compact(whole))
    if endpoint == "chat":
        choice = {"index": 0, "delta": {"role": "assistant", "content": said}, "finish_reason": "stop"}
    chunk = {**whole, "object": kind if endpoint == "completions" else "chat.completion.chunk"}
    return streamed(
        [
            answers.event({**chunk, "choices": [choice], "usage": None}),
            answers.event({**chunk, "choices": []}),
            answers.DONE,
        ]
    )


def streamed(events: list[bytes]) -> bytes:
    """*events* as a whole answer."""
    return answers.chunked_head(EVENTS) + b"".join(map(answers.chunk, events)) + answers.chunk(b"")


@pytest.mark.proxy_only
@pytest.mark.skipif(not VECTORS.exists(), reason="needs the recorded usage vectors beside the checkout")
@pytest.mark.timeout(120)
def test_every_recorded_usage_is_saved_to_the_token_by_a_repeat(start_proxy: StartProxy) -> None:
    ways = start_proxy(cache__when="always", accounting__provider="openai", ledger__max_models="1000")
    tokens = {"input": 0, "output": 0}
    asked = repeated = 0
    with ways.connect() as connection:
        for number, vector in enumerate(vectors()):
            usage = read_usage(vector["usage"])
            assert usage is not None
            outcomes = twice(ways, connection, vector, number)
            if outcomes is None:
                continue
            asked += 1
            assert outcomes[0] in ("MISS", "BYPASS"), vector["source"]
            # A flight can be joined until its answer is put away.
            if outcomes in (("MISS", "HIT", str(usage.total_tokens)), ("MISS", "JOINED", None)):
                repeated += 1
                tokens["input"] += usage.input_tokens
                tokens["output"] += usage.output_tokens
            else:
                assert outcomes[1] == "BYPASS", (vector["source"], outcomes, vector["request"])
    shown = settled(ways.proxy, requests=2 * asked, fetches=2 * asked - repeated)
    saved = shown["tokens"]["saved"]
    assert {name: saved[name] for name in tokens} == tokens
    assert saved["answers"] == repeated == shown["hits"] + shown["joined"]
    assert saved["without_usage"] == 0
    assert repeated > 1000, f"only {repeated} of {asked} could be repeated"


def twice(
    ways: Ways, connection: raw_client.RawConnection, vector: dict[str, Any], number: int
) -> tuple[str | None, str | None, str | None] | None:
    """The outcomes of *vector* asked for twice, and what the repeat says it saved."""
    nonce = f"{ways.nonce}-{number}"
    ways.provider.on(nonce, steps(replayed(vector, number)))
    body = answers.compact({**vector["request"], "n_th": number})
    request = raw_client.request("POST", PATHS[vector["endpoint"]], (("x-nonce", nonce),), body)
    got = []
    for _ in range(2):
        connection.send(request)
        got.append(connection.read_answer("POST"))
    ways.provider.forget(nonce)
    return got[0].get("x-cache"), got[1].get("x-cache"), got[1].get("x-cache-saved-tokens")
