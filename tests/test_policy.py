"""May a call read, may its answer be kept: every decision with its reason."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy import policy
from proxy.headers import Fields
from proxy.model import Finding, Reason, Unkept
from proxy.policy import Control, Plan
from proxy.settings import CacheSettings
from tests.plain_dialect import PlainDialect

COLD: dict[str, object] = {"model": "m", "temperature": 0}
READS = Plan(read=True, write=True, join=True, reason=Reason.NOT_FOUND)
DEFAULTS = CacheSettings()
GOOD = Finding()


def asks(*fields: tuple[bytes, bytes]) -> Control:
    """What a request with these fields asks of the cache."""
    return policy.control(Fields(fields))


def bypass(reason: Reason) -> Plan:
    """A plan that takes no part."""
    return Plan(read=False, write=False, join=False, reason=reason)


def planned(
    request: dict[str, object] = COLD,
    asked: Control = Control(),  # noqa: B008  (frozen)
    dialect: PlainDialect = PlainDialect(),  # noqa: B008  (frozen)
    **settings: Any,
) -> Plan:
    """The plan for a request, cold and without wishes unless said."""
    return policy.plan(request, asked, dialect, CacheSettings(**settings))


def test_a_request_without_wishes_asks_for_nothing() -> None:
    assert asks((b"Authorization", b"k")) == Control()


@pytest.mark.parametrize(
    ("value", "asked"),
    [
        (b"no-cache", Control(no_cache=True)),
        (b"NO-CACHE", Control(no_cache=True)),
        (b"no-store", Control(no_store=True)),
        (b"no-store, no-cache", Control(no_store=True, no_cache=True)),
        (b"only-if-cached", Control(only_if_cached=True)),
        (b"max-age=60", Control(max_age_s=60)),
        (b'max-age="60"', Control(max_age_s=60)),
        (b"max-age = 60", Control(max_age_s=60)),
        (b"max-age=0", Control(max_age_s=0, no_cache=True)),
        (b"max-age=60, max-age=10", Control(max_age_s=60)),
        (b"max-age=9999999999", Control(max_age_s=9999999999)),
        (b"max-age=99999999999", Control()),
        (b"max-age=-1", Control()),
        (b"max-age=1.5", Control()),
        (b"max-age", Control()),
        (b"max-age=soon", Control()),
        (b"no-transform", Control()),
        (b",,", Control()),
        (b"=", Control()),
    ],
)
def test_what_cache_control_says(value: bytes, asked: Control) -> None:
    assert asks((b"Cache-Control", value)) == asked


def test_directives_over_several_lines_count_together() -> None:
    fields = ((b"Cache-Control", b"max-age=5"), (b"cache-control", b"only-if-cached"))
    assert asks(*fields) == Control(max_age_s=5, only_if_cached=True)


def test_pragma_counts_where_there_is_no_cache_control() -> None:
    assert asks((b"Pragma", b"no-cache")) == Control(no_cache=True)


def test_pragma_does_not_count_beside_cache_control() -> None:
    assert asks((b"Pragma", b"no-cache"), (b"Cache-Control", b"max-age=5")) == Control(max_age_s=5)


@pytest.mark.parametrize(
    ("name", "value", "asked"),
    [
        (b"x-askonce-ttl", b"60", Control(ttl_s=60.0)),
        (b"X-Askonce-TTL", b" 60 ", Control(ttl_s=60.0)),
        (b"x-askonce-ttl", b"0", Control(ttl_s=0.0)),
        (b"x-askonce-ttl", b"1.5", Control()),
        (b"x-askonce-ttl", b"-1", Control()),
        (b"x-askonce-ttl", b"inf", Control()),
        (b"x-askonce-ttl", b"", Control()),
        (b"x-askonce-namespace", b" trial ", Control(namespace=b"trial")),
        (b"x-askonce-namespace", b"Trial\xff", Control(namespace=b"Trial\xff")),
        (b"x-askonce-cache", b"on", Control(opt=True)),
        (b"x-askonce-cache", b" OFF ", Control(opt=False)),
        (b"x-askonce-cache", b"maybe", Control()),
        (b"x-askonce-tag", b" batch 7 ", Control(tag="batch 7")),
        (b"x-askonce-tag", b"t" * 100, Control(tag="t" * 64)),
        (b"x-askonce-tag", b"\xe9", Control(tag="é")),
    ],
)
def test_what_our_own_request_fields_say(name: bytes, value: bytes, asked: Control) -> None:
    assert asks((name, value)) == asked


@given(
    st.sampled_from([b"cache-control", b"pragma", b"x-askonce-ttl", b"x-askonce-cache", b"x-askonce-tag"]),
    st.binary(max_size=40),
)
def test_no_value_of_a_control_field_makes_it_stumble(name: bytes, value: bytes) -> None:
    assert isinstance(asks((name, value)), Control)


@pytest.mark.parametrize("coding", [b"gzip", b"zstd", b"br, gzip", b"anything"])
def test_an_encoded_request_is_no_candidate(coding: bytes) -> None:
    assert policy.unfit_headers(Fields(((b"Content-Encoding", coding),))) is Reason.ENCODED_BODY


@pytest.mark.parametrize("coding", [b"", b"identity"])
def test_a_request_that_says_it_is_not_encoded_is_a_candidate(coding: bytes) -> None:
    assert policy.unfit_headers(Fields(((b"Content-Encoding", coding),))) is None


@pytest.mark.parametrize(
    "name",
    [b"Range", b"If-Match", b"If-None-Match", b"If-Modified-Since", b"If-Unmodified-Since", b"If-Range"],
)
def test_a_request_for_a_part_or_with_a_condition_is_no_candidate(name: bytes) -> None:
    assert policy.unfit_headers(Fields(((name, b"x"),))) is Reason.RANGE


def test_an_ordinary_request_is_a_candidate() -> None:
    assert policy.unfit_headers(Fields(((b"Content-Type", b"application/json"),))) is None


def test_a_cold_request_is_read_kept_and_joined() -> None:
    assert planned() == READS


def test_a_plan_that_reads_is_no_bypass() -> None:
    assert not READS.bypass


def test_a_plan_that_only_writes_is_no_bypass() -> None:
    assert not Plan(read=False, write=True, join=False, reason=Reason.NO_CACHE).bypass


def test_a_plan_that_does_neither_is_a_bypass() -> None:
    assert bypass(Reason.TEMPERATURE).bypass


def test_a_cache_that_is_off_takes_no_part() -> None:
    assert planned(enabled=False) == bypass(Reason.CACHE_OFF)


def test_a_request_cannot_switch_on_a_cache_that_is_off() -> None:
    assert planned(asked=Control(opt=True), enabled=False) == bypass(Reason.CACHE_OFF)


def test_a_request_may_stay_out() -> None:
    assert planned(asked=Control(opt=False)) == bypass(Reason.CACHE_OFF)


def test_no_store_is_neither_read_nor_kept() -> None:
    assert planned(asked=Control(no_store=True)) == bypass(Reason.NO_STORE)


def test_no_store_wins_over_no_cache() -> None:
    assert planned(asked=Control(no_store=True, no_cache=True)) == bypass(Reason.NO_STORE)


def test_no_cache_is_kept_but_neither_read_nor_joined() -> None:
    assert planned(asked=Control(no_cache=True)) == Plan(read=False, write=True, join=False, reason=Reason.NO_CACHE)


def test_no_cache_does_not_open_the_temperature_gate() -> None:
    assert planned({"temperature": 1}, Control(no_cache=True)) == bypass(Reason.TEMPERATURE)


def test_what_the_dialect_refuses_is_a_bypass_with_its_reason() -> None:
    assert planned({**COLD, "store": True}) == bypass(Reason.SIDE_EFFECT)


@pytest.mark.parametrize("asked", [Control(opt=True), Control(no_cache=True)])
def test_no_wish_overrides_what_the_dialect_refuses(asked: Control) -> None:
    assert planned({**COLD, "store": True}, asked, when="always") == bypass(Reason.SIDE_EFFECT)


def test_a_sampled_request_is_a_bypass() -> None:
    assert planned({"temperature": 1}) == bypass(Reason.TEMPERATURE)


def test_a_request_may_open_the_temperature_gate_for_itself() -> None:
    assert planned({"temperature": 1}, Control(opt=True)) == READS


def test_a_deterministic_endpoint_needs_no_temperature() -> None:
    assert planned({}, dialect=PlainDialect(deterministic=True)) == READS


@pytest.mark.parametrize("temperature", [0, 0.0, -0.0])
@pytest.mark.parametrize("when", ["temperature_zero", "seeded", "always"])
def test_temperature_zero_is_repeatable(temperature: float, when: str) -> None:
    assert policy.repeatable({"temperature": temperature}, when)


@pytest.mark.parametrize("when", ["temperature_zero", "seeded"])
def test_an_omitted_temperature_is_not_zero(when: str) -> None:
    assert not policy.repeatable({}, when)


@pytest.mark.parametrize("temperature", [1, 0.7, 1e-9, -1, None, False, True, "0", "", [], {}])
@pytest.mark.parametrize("when", ["temperature_zero", "seeded"])
def test_nothing_else_is_zero(temperature: object, when: str) -> None:
    assert not policy.repeatable({"temperature": temperature}, when)


@pytest.mark.parametrize("seed", [0, 7, -1])
def test_a_seed_counts_where_the_operator_says_so(seed: int) -> None:
    assert policy.repeatable({"temperature": 1, "seed": seed}, "seeded")
    assert not policy.repeatable({"temperature": 1, "seed": seed}, "temperature_zero")


@pytest.mark.parametrize("seed", [None, False, True, "7", 7.5])
def test_only_a_whole_number_is_a_seed(seed: object) -> None:
    assert not policy.repeatable({"seed": seed}, "seeded")


def test_always_asks_for_nothing() -> None:
    assert policy.repeatable({}, "always")


@pytest.mark.parametrize(
    ("model", "reads"),
    [("o3", True), ("o3-mini", True), ("gpt-4.1", False), ("O3", False), ("", False), (None, False), (7, False)],
)
def test_the_gate_may_be_set_by_model(model: object, reads: bool) -> None:
    assert planned({"model": model}, when_by_model={"o3*": "always"}).read is reads


def test_a_request_without_a_model_has_the_gate_of_all() -> None:
    assert planned({}, when="always", when_by_model={"*": "temperature_zero"}).read


def test_the_first_pattern_that_fits_a_model_counts() -> None:
    patterns = {"o3-pro": "temperature_zero", "o3*": "always"}
    assert not planned({"model": "o3-pro"}, when_by_model=patterns).read
    assert planned({"model": "o3-mini"}, when_by_model=patterns).read


def test_a_pattern_may_narrow_what_is_wide_for_all() -> None:
    assert not planned({"model": "poet"}, when="always", when_by_model={"poet": "temperature_zero"}).read


def test_a_good_answer_is_kept() -> None:
    assert policy.keepable(200, GOOD, Fields(()), DEFAULTS) is None


@pytest.mark.parametrize("status", [201, 202, 204, 206, 301, 304, 400, 401, 404, 408, 409, 429, 500, 503, 529])
def test_an_answer_of_another_status_is_not_kept(status: int) -> None:
    assert policy.keepable(status, GOOD, Fields(()), DEFAULTS) is Unkept.STATUS


@pytest.mark.parametrize("unkept", list(Unkept))
def test_what_the_dialect_found_wanting_is_not_kept(unkept: Unkept) -> None:
    assert policy.keepable(200, Finding(unkept=unkept), Fields(()), DEFAULTS) is unkept


@pytest.mark.parametrize(
    ("setting", "unkept"),
    [("keep_cut_at_length", Unkept.LENGTH), ("keep_cut_by_filter", Unkept.CONTENT_FILTER)],
)
def test_an_answer_cut_short_is_kept_where_the_operator_allows_it(setting: str, unkept: Unkept) -> None:
    settings = replace(DEFAULTS, **{setting: True})  # type: ignore[arg-type]
    assert policy.keepable(200, Finding(unkept=unkept), Fields(()), settings) is None


@pytest.mark.parametrize("unkept", sorted(set(Unkept) - {Unkept.LENGTH, Unkept.CONTENT_FILTER}))
def test_no_setting_allows_another_fault(unkept: Unkept) -> None:
    settings = CacheSettings(keep_cut_at_length=True, keep_cut_by_filter=True)
    assert policy.keepable(200, Finding(unkept=unkept), Fields(()), settings) is unkept


FORBIDS = Fields(((b"Cache-Control", b"private, No-Store"),))


def test_no_store_of_an_answer_is_about_browsers_unless_the_operator_says_otherwise() -> None:
    assert policy.keepable(200, GOOD, FORBIDS, DEFAULTS) is None


def test_no_store_of_an_answer_is_honoured_where_the_operator_says_so() -> None:
    assert policy.keepable(200, GOOD, FORBIDS, CacheSettings(respect_no_store=True)) is Unkept.FORBIDDEN


def test_an_answer_that_forbids_nothing_is_kept_by_a_respectful_cache() -> None:
    fields = Fields(((b"Cache-Control", b"no-cache"),))
    assert policy.keepable(200, GOOD, fields, CacheSettings(respect_no_store=True)) is None


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        (b"text/event-stream", "stream"),
        (b"Text/Event-Stream; charset=utf-8", "stream"),
        (b"application/json", "json"),
        (b" application/JSON ;charset=utf-8", "json"),
        (b"application/problem+json", "json"),
        (b"text/json", "other"),
        (b"text/html", "other"),
        (b"application/jsonl", "other"),
        (b"image/svg+json", "other"),
        (b"", "other"),
    ],
)
def test_the_kind_of_a_content_type(content_type: bytes, kind: str) -> None:
    assert policy.content_kind(Fields(((b"Content-Type", content_type),))) == kind


def test_an_answer_without_a_content_type_leaves_its_kind_open() -> None:
    assert policy.content_kind(Fields(())) == "unsaid"


@pytest.mark.parametrize(
    ("model", "label"),
    [("gpt-4.1", "gpt-4.1"), ("m" * 500, "m" * 128), ("", ""), (None, ""), (5, ""), (["m"], "")],
)
def test_the_label_of_a_model_is_a_text_of_bounded_length(model: object, label: str) -> None:
    assert policy.model_of({"model": model}) == label


def test_a_request_that_names_no_model_has_no_label() -> None:
    assert policy.model_of({}) == ""
