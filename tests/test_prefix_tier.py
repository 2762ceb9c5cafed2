"""The prefix tier as people see it: what stands at /stats, and that not one byte of a request differs."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from proxy import cli
from tests import raw_client
from tests.comparison import Ways
from tests.conftest import StartProxy
from tests.observation import Stats, wait_for_stats
from tests.prompt_caching import PromptCache, caching
from tests.test_prefix_diagnosis import MANUAL, TOOLS

pytestmark = pytest.mark.proxy_only

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = json.loads((ROOT / "docs" / "stats.schema.json").read_text(encoding="utf-8"))
OPENAI = {"prefix__provider": "openai", "accounting__provider": "openai"}


def asked(ways: Ways, *requests: dict[str, Any], path: str = "/v1/chat/completions") -> list[raw_client.RawAnswer]:
    """The answers to *requests*, one after the other."""
    return [
        raw_client.exchange(ways.proxy, ways.post(path, json.dumps({**request, "metadata": ways.nonce}).encode()))
        for request in requests
    ]


def told(ways: Ways, *, requests: int) -> Stats:
    """What /stats says of the prefix tier when *requests* are looked at."""

    def all_there(shown: Stats) -> bool:
        prefix = shown["prefix"]
        return prefix["observed"]["requests"] + prefix["without_usage"] >= requests and not shown["in_flight"]

    shown = wait_for_stats(ways.proxy, all_there)
    Draft202012Validator(SCHEMA).validate(shown)
    section: Stats = shown["prefix"]
    return section


def chat(system: str, *turns: str, **more: object) -> dict[str, Any]:
    spoken = [{"role": ("user", "assistant")[n % 2], "content": turn} for n, turn in enumerate(turns)]
    return {"model": "gpt-5.4", "messages": [{"role": "system", "content": system}, *spoken], **more}


def test_what_the_provider_read_is_foretold_and_added_up(start_proxy: StartProxy) -> None:
    ways = start_proxy(**OPENAI)
    ways.plays(caching(PromptCache("block")))
    asked(ways, *[chat(MANUAL, f"Where is desk {n}?") for n in range(5)])
    shown = told(ways, requests=5)
    observed, forecast = shown["observed"], shown["forecast"]
    assert (observed["requests"], observed["hits"]) == (5, 4)
    assert observed["read"] == forecast["actual_tokens"] == 4 * (len(MANUAL) // 4 // 128 * 128)
    assert forecast["requests"] == forecast["within_a_block"] == 5
    assert float(observed["usd"]) > 0
    assert shown["advice"] == []
    (known,) = shown["system_prompts"]
    assert (known["uses"], known["model"]) == (5, "gpt-5.4")
    assert abs(known["tokens"] - len(MANUAL) // 4) < 8


def test_a_time_of_day_in_the_system_prompt_is_named_with_its_price(start_proxy: StartProxy) -> None:
    ways = start_proxy(**OPENAI)
    ways.plays(caching(PromptCache("block")))
    asked(ways, *[chat(f"It is 12:{n:02} now. {MANUAL}", f"Where is desk {n}?") for n in range(6)])
    (advice,) = told(ways, requests=6)["advice"]
    assert advice["code"] == "VOLATILE_CLOCK_TIME"
    assert advice["where"] == "99:99 at token 1 of messages[0].content"
    assert advice["requests"] == 5
    assert abs(advice["tokens_lost"] - len(MANUAL) // 4) < 20
    # 5 requests in an hour, 2.5 dollars a million tokens of which a tenth would have been paid.
    assert float(advice["usd_per_day"]) > 0
    assert "12:0" not in json.dumps(advice)


def test_messages_without_a_breakpoint_are_named(start_proxy: StartProxy) -> None:
    ways = start_proxy(prefix__provider="anthropic", accounting__provider="anthropic")
    ways.plays(caching(PromptCache("breakpoint", write_price=1.25)))
    turns = [
        {
            "model": "claude-sonnet-4-5",
            "max_tokens": 10,
            "system": MANUAL,
            "messages": [{"role": "user", "content": f"Where is desk {n}?"}],
        }
        for n in range(4)
    ]
    asked(ways, *turns, path="/v1/messages")
    (advice,) = told(ways, requests=4)["advice"]
    assert (advice["code"], advice["path"]) == ("NO_BREAKPOINT", "system")
    marked = [
        {**turn, "system": [{"type": "text", "text": MANUAL, "cache_control": {"type": "ephemeral"}}]} for turn in turns
    ]
    asked(ways, *marked, path="/v1/messages")
    shown = told(ways, requests=8)
    assert shown["observed"]["hits"] == 3
    assert shown["observed"]["written"] == len(MANUAL) // 4
    assert shown["diagnoses"]["NO_BREAKPOINT"] == 3


def test_writing_for_nobody_costs(start_proxy: StartProxy) -> None:
    ways = start_proxy(prefix__provider="anthropic", accounting__provider="anthropic")
    ways.plays(caching(PromptCache("breakpoint", write_price=1.25)))
    for n in range(3):
        text = f"{n} {MANUAL[n * 100 :]}"
        mark = [{"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}]
        asked(ways, {"model": "claude-sonnet-4-5", "system": mark, "messages": []}, path="/v1/messages")
    observed = told(ways, requests=3)["observed"]
    assert observed["usd"].startswith("-0.00")


def test_an_answer_without_usage_is_not_guessed(start_proxy: StartProxy) -> None:
    ways = start_proxy(**OPENAI)
    ways.plays(ways.fixed().replace(b'"usage"', b'"uzage"'))
    asked(ways, chat(MANUAL, "What?"))
    shown = told(ways, requests=1)
    assert (shown["without_usage"], shown["observed"]["requests"]) == (1, 0)


def test_short_prompts_are_added_up_and_not_looked_at(start_proxy: StartProxy) -> None:
    ways = start_proxy(**OPENAI)
    ways.plays(caching(PromptCache("block")))
    asked(ways, chat("Be brief.", "One?"), chat("Be brief.", "Two?"))
    shown = told(ways, requests=2)
    assert (shown["observed"]["requests"], shown["prefixes"], shown["system_prompts"]) == (2, 0, [])


def test_nothing_is_looked_at_where_it_is_off(start_proxy: StartProxy) -> None:
    ways = start_proxy(**OPENAI, prefix__mode_by_model="{gpt-5*: off}")
    ways.plays(caching(PromptCache("block")))
    asked(ways, chat(MANUAL, "One?"), {**chat(MANUAL, "One?"), "model": "gpt-4o"})
    assert told(ways, requests=1)["observed"]["requests"] == 1
    ways = start_proxy(**OPENAI)
    ways.plays(caching(PromptCache("block")))
    off = ways.post(
        "/v1/chat/completions", json.dumps(chat(MANUAL, "One?")).encode(), headers=(("x-askonce-prefix", "off"),)
    )
    raw_client.exchange(ways.proxy, off)
    asked(ways, chat(MANUAL, "Two?"))
    assert told(ways, requests=1)["observed"]["requests"] == 1


@pytest.mark.parametrize("long", [False, True])
def test_m10_q5_not_one_byte_differs(start_proxy: StartProxy, long: bool) -> None:
    ways = start_proxy(**OPENAI)
    text = MANUAL * (30 if long else 1)
    body = json.dumps(chat(text, "One?\u00e9", tools=TOOLS), indent=3, ensure_ascii=True).encode() + b"\n"
    for _ in range(3):
        ways.alike(ways.post("/v1/chat/completions", body, headers=(("x-nonce", ways.nonce),)))
    assert told(ways, requests=3)["observed"]["requests"] == 3


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"messages": 1, "messages": 2}', b"\xff" * 5000, b"[" * 5000])
def test_what_is_no_prompt_does_no_harm(start_proxy: StartProxy, body: bytes) -> None:
    ways = start_proxy(**OPENAI)
    ways.alike(ways.post("/v1/chat/completions", body, headers=(("x-nonce", ways.nonce),)))


def test_advise_prints_what_to_mend(start_proxy: StartProxy, capsys: pytest.CaptureFixture[str]) -> None:
    ways = start_proxy(**OPENAI)
    url = f"http://127.0.0.1:{ways.proxy[1]}"
    assert cli.main(["advise", url]) == 0
    assert "nothing seen yet" in capsys.readouterr().out
    ways.plays(caching(PromptCache("block")))
    asked(ways, chat(MANUAL, "One?"), chat(MANUAL, "Two?"))
    told(ways, requests=2)
    assert cli.main(["advise", url]) == 0
    assert "nothing to mend" in capsys.readouterr().out
    asked(ways, *[chat(f"[{n}1:0{n}] {MANUAL}", "One?") for n in range(3)])
    told(ways, requests=5)
    assert cli.main(["advise", f"{url}/stats"]) == 0
    said = capsys.readouterr().out
    assert "1. VOLATILE_CLOCK_TIME: $0." in said
    assert "99:99 at token 0 of messages[0].content (gpt-5.4, prompt" in said
    assert "in the last message" in said


def test_advise_of_what_is_no_proxy(closed_port: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["advise", f"http://127.0.0.1:{closed_port}"]) == 1
    assert "is a proxy listening there?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("prefix.provider=opnai", "prefix.provider: no rule of 'opnai', did you mean openai?"),
        ("prefix.provider=zzz", "known are openai-5.6"),
        ("prefix.mode_by_upstream={nobody: act}", "prefix.mode_by_upstream.nobody: no such upstream"),
        ("prefix.rules_file=/no/such/file", "/no/such/file: cannot be read"),
        ("prefix.hold_out=1.5", "must be a share of 0 to 1"),
    ],
)
def test_settings_that_cannot_be_are_told_at_the_start(
    setting: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["check", "--set", setting]) == 2
    assert said in capsys.readouterr().err
