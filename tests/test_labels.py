"""What the proxy says about its answers."""

import json
import re

import pytest

from proxy import labels
from proxy.model import Apart, Entry, Key, Outcome, Reason
from proxy.semantic.recall import Recalled

KEY = Key("0123456789abcdef" * 4)
# A list of items with parameters (RFC 8941): what every reader of Cache-Status (RFC 9211) must be able to parse.
STATUS = re.compile(r'askonce(; [a-z]+(=([a-z_-]+|[0-9]+|"[0-9a-f]+"))?)*')
OF_OUTCOME = {
    Outcome.HIT: "hit",
    Outcome.JOINED: "fwd=miss; collapsed",
    Outcome.MISS: "fwd=uri-miss",
    Outcome.BYPASS: "fwd=bypass",
}


def fields(block: bytes) -> dict[str, str]:
    """The field lines of *block* by name."""
    assert block == b"" or block.endswith(b"\r\n")
    return dict(line.split(": ", 1) for line in block.decode("ascii").split("\r\n")[:-1])


def test_a_full_hit_says_everything() -> None:
    said = labels.labels("full", Outcome.HIT, Reason.FOUND, key=KEY, tier="exact", age_s=7, ttl_s=3593, saved_tokens=42)
    assert fields(said) == {
        "x-cache": "HIT",
        "x-cache-reason": "found",
        "x-cache-tier": "exact",
        "x-cache-key": "0123456789abcdef",
        "x-cache-saved-tokens": "42",
        "age": "7",
        "cache-status": 'askonce; hit; ttl=3593; key="0123456789abcdef"; detail=found',
    }


def test_a_full_miss_says_no_more_than_it_knows() -> None:
    assert fields(labels.labels("full", Outcome.MISS, Reason.NOT_FOUND)) == {
        "x-cache": "MISS",
        "x-cache-reason": "not_found",
        "cache-status": "askonce; fwd=uri-miss; detail=not_found",
    }


def test_zeros_are_said() -> None:
    said = fields(labels.labels("full", Outcome.HIT, Reason.FOUND, age_s=0, ttl_s=0, saved_tokens=0))
    assert (said["age"], said["x-cache-saved-tokens"]) == ("0", "0")
    assert "; ttl=0;" in said["cache-status"]


@pytest.mark.parametrize("outcome", list(Outcome))
def test_minimal_labels_are_the_outcome_and_its_reason(outcome: Outcome) -> None:
    said = labels.labels("minimal", outcome, Reason.FOUND, key=KEY, tier="exact", age_s=1, ttl_s=1, saved_tokens=1)
    assert fields(said) == {"x-cache": str(outcome), "x-cache-reason": "found"}


@pytest.mark.parametrize("outcome", list(Outcome))
def test_no_labels_are_no_octets(outcome: Outcome) -> None:
    assert labels.labels("none", outcome, Reason.FOUND, key=KEY, tier="exact", age_s=1) == b""


@pytest.mark.parametrize(
    ("level", "told"),
    [
        ("none", {"x-cache-tier": "semantic"}),
        ("minimal", {"x-cache": "HIT", "x-cache-reason": "similar"}),
    ],
)
def test_an_answer_to_another_question_says_so_at_every_level(level: str, told: dict[str, str]) -> None:
    entry = Entry(key=KEY, dialect="chat", status=200, phrase=b"OK", head=b"", body=b"", created=0)
    found = Recalled(id="i", asked=KEY, entry=entry, age_s=1, similarity=0.97, score=0.98, kind="plain")
    said = labels.labels(level, Outcome.HIT, Reason.SIMILAR, key=KEY, tier="semantic", recalled=found, age_s=1)
    assert fields(said) == told


@pytest.mark.parametrize("reason", list(Reason))
@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_cache_status_can_be_parsed(outcome: Outcome, reason: Reason) -> None:
    said = fields(labels.labels("full", outcome, reason, key=KEY, ttl_s=5))["cache-status"]
    assert STATUS.fullmatch(said)
    assert said.endswith(f"; detail={reason}")


@pytest.mark.parametrize(("outcome", "told"), OF_OUTCOME.items())
def test_cache_status_tells_how_the_answer_was_had(outcome: Outcome, told: str) -> None:
    said = fields(labels.labels("full", outcome, Reason.FOUND))["cache-status"]
    assert said == f"askonce; {told}; detail=found"


def test_cache_status_of_an_error_tells_of_no_forwarding() -> None:
    said = fields(labels.labels("full", Outcome.ERROR, Reason.INTERNAL))["cache-status"]
    assert said == "askonce; detail=internal"


@pytest.mark.parametrize(
    ("reason", "forwarded"),
    [
        (Reason.NO_CACHE, "request"),
        (Reason.TOO_OLD, "stale"),
        (Reason.OTHER_FORM, "vary-miss"),
        (Reason.OTHER_ENCODING, "vary-miss"),
        (Reason.CACHE_FAULT, "uri-miss"),
    ],
)
def test_cache_status_tells_why_a_miss_was_forwarded(reason: Reason, forwarded: str) -> None:
    said = fields(labels.labels("full", Outcome.MISS, reason))["cache-status"]
    assert said.startswith(f"askonce; fwd={forwarded};")


def test_the_lifetime_is_told_of_a_hit_alone() -> None:
    assert b"ttl=" not in labels.labels("full", Outcome.MISS, Reason.NOT_FOUND, ttl_s=5)


def test_a_key_is_never_shown_whole() -> None:
    assert KEY.encode() not in labels.labels("full", Outcome.HIT, Reason.FOUND, key=KEY)


def test_an_error_has_the_shape_that_clients_of_openai_read() -> None:
    assert json.loads(labels.error_body('it "broke"\n', "upstream_broke")) == {
        "error": {"message": 'it "broke"\n', "type": "askonce_error", "param": None, "code": "upstream_broke"}
    }


def test_an_error_may_say_anything() -> None:
    assert json.loads(labels.error_body("\udcff é", "x"))["error"]["message"] == "\udcff é"


@pytest.mark.parametrize("status", [400, 404, 405, 408, 431, 500, 501, 502, 503, 504])
def test_every_status_of_the_proxys_own_has_a_phrase(status: int) -> None:
    assert labels.PHRASES[status]


@pytest.mark.parametrize("apart", list(Apart))
def test_a_miss_says_why_no_other_questions_answer_was_given(apart: Apart) -> None:
    said = fields(labels.labels("full", Outcome.MISS, Reason.NOT_FOUND, apart=apart))
    assert said["cache-status"] == f"askonce; fwd=uri-miss; detail=not_found; semantic={apart}"
    assert STATUS.fullmatch(said["cache-status"])
    assert labels.labels("minimal", Outcome.MISS, Reason.NOT_FOUND, apart=apart).count(b"\r\n") == 2
