"""Who is this call: what keeps two calls apart, and what does not."""

import json
import random
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from proxy import canonical, fingerprint
from proxy.canonical import Unfit
from proxy.fingerprint import Fingerprint, Tenants, with_vary
from proxy.headers import Fields
from proxy.model import Json, Key, Reason, TenantId
from tests.json_texts import close_objects, objects, same, spelled, values
from tests.plain_dialect import PlainDialect

PLAIN = PlainDialect()
SECRET = b"a secret of the operator's"
BODY = b'{"model":"m","temperature":0,"messages":[{"role":"user","content":"hi"}]}'

field_names = st.sampled_from(["model", "temperature", "brand_new_knob", "Stream", "stream ", "a"])


def key(
    body: str | bytes = BODY,
    fields: Iterable[tuple[bytes, bytes]] = (),
    *,
    tenant: str = "somebody",
    namespace: bytes = b"",
    upstream: bytes = b"https://provider",
    dialect: PlainDialect = PLAIN,
    target: bytes = b"/v1/chat/completions",
    extra_headers: Iterable[bytes] = (),
) -> Key:
    """The exact key of a call, of which each test changes one thing."""
    request = canonical.read(body if isinstance(body, bytes) else body.encode())
    assert not isinstance(request, Unfit), request
    found = fingerprint.exact(
        tenant=TenantId(tenant),
        namespace=namespace,
        upstream=upstream,
        dialect=dialect,
        target=target,
        fields=Fields(tuple(fields)),
        extra_headers=extra_headers,
        request=request,
    )
    assert isinstance(found, Fingerprint), found
    return found.exact


def counted(value: Json) -> dict[str, Any]:
    """*value* without what the dialect leaves out."""
    return {name: below for name, below in value.items() if name not in PLAIN.left_out}


def changed(value: Any, choose: random.Random) -> Any:
    """*value* with one thing changed, added or removed, at any depth."""
    if isinstance(value, dict) and value and choose.random() < 0.8:
        name = choose.choice(sorted(value))
        match choose.choice(("below", "rename", "remove", "add")):
            case "below":
                return {**value, name: changed(value[name], choose)}
            case "rename":
                return {(f"{each}~" if each == name else each): below for each, below in value.items()}
            case "remove":
                return {each: below for each, below in value.items() if each != name}
            case _:
                return {**value, "~added~": choose.choice((None, False, 0, "", [], {}))}
    if isinstance(value, list) and value and choose.random() < 0.8:
        at = choose.randrange(len(value))
        return [*value[:at], changed(value[at], choose), *value[at + 1 :]]
    if isinstance(value, str):
        return choose.choice((f"{value} ", f" {value}", f"{value}\u0301", f"{value}\0"))
    return [value]


@given(objects, st.randoms(use_true_random=False))
def test_every_spelling_of_a_body_has_one_key(value: dict[str, Any], choose: random.Random) -> None:
    assert key(spelled(value, choose)) == key(json.dumps(value))


@given(close_objects, close_objects)
def test_two_bodies_share_a_key_where_they_are_one_value_and_nowhere_else(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    assert (key(json.dumps(one)) == key(json.dumps(other))) is same(counted(one), counted(other))


@given(objects, field_names, values, st.randoms(use_true_random=False))
def test_whatever_changes_at_any_depth_separates(
    value: dict[str, Any], name: str, below: Any, choose: random.Random
) -> None:
    before = counted({**value, name: below})
    after = {**before, name: changed(below, choose)}
    assume(not same(before, after))
    assert key(json.dumps(before)) != key(json.dumps(after))


@given(objects, field_names, values)
def test_a_field_known_or_not_that_is_added_separates(value: dict[str, Any], name: str, below: Any) -> None:
    assume(name not in value)
    assert key(json.dumps(value)) != key(json.dumps({**value, name: below}))


@given(objects, st.sampled_from(sorted(PLAIN.left_out)), values)
def test_a_field_left_out_by_name_does_not_separate(value: dict[str, Any], name: str, below: Any) -> None:
    assert key(json.dumps({**value, name: below})) == key(json.dumps(counted(value)))


def test_a_name_left_out_is_left_out_at_the_top_alone() -> None:
    assert key('{"a":{"user":"x"}}') != key('{"a":{"user":"y"}}')


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{"n":true}', '{"n":1}'),
        ('{"n":"1"}', '{"n":1}'),
        ('{"n":null}', "{}"),
        ('{"n":[]}', '{"n":{}}'),
        ('{"n":"Yes"}', '{"n":"yes"}'),
        ('{"n":"yes"}', '{"n":"yes "}'),
        ('{"n":"\\u00e9"}', '{"n":"e\\u0301"}'),
        ('{"n":"\\ud800"}', '{"n":"\\udfff"}'),
        ('{"n":' + "7" * 3999 + "1}", '{"n":' + "7" * 3999 + "2}"),
    ],
)
def test_neighbouring_bodies_have_keys_of_their_own(one: str, other: str) -> None:
    assert key(one) != key(other)


def test_a_body_too_deep_to_compare_has_no_key() -> None:
    nested: Any = 1
    for _ in range(3000):
        nested = [nested]
    found = fingerprint.exact(
        tenant=TenantId("t"),
        namespace=b"",
        upstream=b"",
        dialect=PLAIN,
        target=b"/",
        fields=Fields(()),
        extra_headers=(),
        request={"a": nested},
    )
    assert found == Unfit(Reason.TOO_DEEP)


def test_the_key_is_64_hexadecimal_digits() -> None:
    assert len(key()) == 64
    assert int(key(), 16) >= 0


def test_a_key_is_the_same_in_every_process() -> None:
    # Entries outlive the process in which they were made. Where this fails on purpose, KEY_SCHEMA changes too.
    assert fingerprint.KEY_SCHEMA == b"askonce/1"
    assert key() == "7e3a4347d9558446e65545469353d146ccb73fbe22e0864be9c09834ad85b51a"


@pytest.mark.parametrize(
    "other",
    [
        {"tenant": "somebody else"},
        {"namespace": b"experiment"},
        {"upstream": b"https://another"},
        {"upstream": b"http://provider"},
        {"dialect": PlainDialect(name="other")},
        {"target": b"/chat/completions"},
        {"target": b"/v1/chat/completions?"},
        {"target": b"/v1/chat/completions?api-version=1"},
        {"target": b"/v1/chat%2Fcompletions"},
    ],
    ids=str,
)
def test_whose_it_is_and_where_it_goes_separate(other: dict[str, Any]) -> None:
    assert key(**other) != key()


@pytest.mark.parametrize("name", fingerprint.ANSWER_RELEVANT)
def test_a_header_field_that_changes_the_answer_separates(name: bytes) -> None:
    keys = {
        key(),
        key(fields=[(name, b"")]),
        key(fields=[(name, b"a")]),
        key(fields=[(name, b"b")]),
        key(fields=[(name, b"a"), (name, b"b")]),
        key(fields=[(name, b"a,b")]),
    }
    assert len(keys) == 6


def test_header_fields_do_not_run_into_each_other() -> None:
    first, second = fingerprint.ANSWER_RELEVANT[:2]
    assert key(fields=[(first, b"v")]) != key(fields=[(second, b"v")])


def test_the_letter_case_of_a_field_name_does_not_separate() -> None:
    assert key(fields=[(b"OpenAI-Beta", b"v")]) == key(fields=[(b"openai-beta", b"v")])


@pytest.mark.parametrize(
    "name",
    [
        b"user-agent",
        b"x-stainless-retry-count",
        b"x-stainless-lang",
        b"idempotency-key",
        b"traceparent",
        b"x-request-id",
        b"accept-encoding",
        b"accept",
        b"cookie",
        b"authorization",
        b"content-length",
        b"host",
    ],
)
def test_a_header_field_that_does_not_change_the_answer_does_not_separate(name: bytes) -> None:
    assert key(fields=[(name, b"1")]) == key(fields=[(name, b"2")]) == key()


def test_a_header_field_of_the_operators_choice_separates() -> None:
    def of(value: bytes) -> Key:
        return key(fields=[(b"X-Region", value)], extra_headers=[b"x-region"])

    assert of(b"eu") != of(b"us")


def test_an_operators_choice_that_a_call_lacks_is_not_an_empty_one() -> None:
    assert key(extra_headers=[b"x-region"]) != key(fields=[(b"x-region", b"")], extra_headers=[b"x-region"])


@given(st.lists(st.binary(max_size=4), max_size=4), st.lists(st.binary(max_size=4), max_size=4))
@example([b"ab", b"c"], [b"a", b"bc"])
@example([b""], [])
@example([b"", b"a"], [b"a", b""])
def test_no_two_lists_of_parts_have_one_digest(one: list[bytes], other: list[bytes]) -> None:
    digests = fingerprint.digest(one), fingerprint.digest(other)
    assert (digests[0] == digests[1]) is (one == other)


def owner(
    *fields: tuple[bytes, bytes], share: str = "credential", secret: bytes = SECRET, peer_trusted: bool = False
) -> TenantId:
    """Whose answers a call with these fields may see."""
    return Tenants(share=share, secret=secret).of(Fields(fields), peer_trusted=peer_trusted)


@pytest.mark.parametrize("name", fingerprint.CREDENTIALS)
def test_every_credential_is_a_tenant_of_its_own(name: bytes) -> None:
    tenants = {owner((name, b"key-1")), owner((name, b"key-2")), owner((name, b"")), owner()}
    assert len(tenants) == 4


def test_one_key_in_two_places_is_two_tenants() -> None:
    assert len({owner((name, b"key")) for name in fingerprint.CREDENTIALS}) == len(fingerprint.CREDENTIALS)


def test_two_credentials_at_once_are_a_tenant_of_their_own() -> None:
    one, other = (b"authorization", b"Bearer 1"), (b"x-api-key", b"2")
    assert len({owner(one), owner(other), owner(one, other)}) == 3


def test_a_tenant_is_the_same_whatever_else_the_call_carries() -> None:
    assert owner((b"Authorization", b"k"), (b"cookie", b"c")) == owner((b"authorization", b"k"))


def test_a_tenant_does_not_show_the_credential() -> None:
    assert "sk-secret" not in owner((b"authorization", b"Bearer sk-secret"))


def test_a_tenant_cannot_be_found_without_the_secret() -> None:
    assert owner((b"authorization", b"k")) != owner((b"authorization", b"k"), secret=b"another")


def test_a_shared_cache_has_one_tenant() -> None:
    shared = {owner(share="everyone"), owner((b"authorization", b"k"), share="everyone")}
    assert len(shared) == 1


def test_a_header_separates_within_one_credential() -> None:
    credential = (b"authorization", b"k")
    tenants = {
        owner(credential, share="header:X-Team"),
        owner(credential, (b"x-team", b"red"), share="header:X-Team"),
        owner(credential, (b"x-team", b"blue"), share="header:X-Team"),
    }
    assert len(tenants) == 3


def test_a_header_that_anybody_can_write_does_not_open_anothers_cache() -> None:
    team = (b"x-team", b"red")
    assert owner((b"authorization", b"1"), team, share="header:X-Team") != owner(
        (b"authorization", b"2"), team, share="header:X-Team"
    )


def test_a_header_from_a_trusted_proxy_is_the_tenant() -> None:
    team = (b"x-team", b"red")
    assert owner((b"authorization", b"1"), team, share="header:X-Team", peer_trusted=True) == owner(
        (b"authorization", b"2"), team, share="header:X-Team", peer_trusted=True
    )


def test_a_trusted_proxy_that_names_no_team_leaves_the_credential() -> None:
    assert owner((b"authorization", b"1"), share="header:X-Team", peer_trusted=True) != owner(
        (b"authorization", b"2"), share="header:X-Team", peer_trusted=True
    )


def test_a_trusted_team_is_not_that_team_under_a_credential() -> None:
    team = (b"x-team", b"red")
    assert owner(team, share="header:X-Team", peer_trusted=True) != owner(team, share="header:X-Team")


def test_trust_changes_nothing_where_no_header_is_shared_by() -> None:
    credential = (b"authorization", b"k")
    assert owner(credential, peer_trusted=True) == owner(credential)


def test_a_tenant_stays_the_same_once_it_is_known() -> None:
    tenants = Tenants(share="credential", secret=SECRET)
    known = Fields(((b"authorization", b"k"),))
    assert tenants.of(known) == tenants.of(known) == owner((b"authorization", b"k"))
    assert repr(tenants) == "<Tenants, 1 known>"


def test_no_more_tenants_are_remembered_than_the_bound() -> None:
    tenants = Tenants(share="credential", secret=SECRET)
    for number in range(fingerprint.MAX_KNOWN_TENANTS + 1):
        tenants.of(Fields(((b"authorization", b"%d" % number),)))
    assert repr(tenants) == "<Tenants, 1 known>"


def test_a_very_long_credential_is_a_tenant_but_not_remembered() -> None:
    tenants = Tenants(share="credential", secret=SECRET)
    long = [Fields(((b"authorization", bytes([each]) * 60_000),)) for each in b"ab"]
    assert tenants.of(long[0]) != tenants.of(long[1])
    assert repr(tenants) == "<Tenants, 0 known>"


@pytest.mark.parametrize(
    ("vary", "names"),
    [
        ([], []),
        ([b""], []),
        ([b"Origin"], [b"origin"]),
        ([b"Origin, Accept-Encoding"], [b"origin"]),
        ([b"Origin", b" X-A ,, origin"], [b"origin", b"x-a"]),
        ([b"accept-encoding"], []),
        ([b", ".join(b"x-%d" % n for n in range(16))], [b"x-%d" % n for n in range(16)]),
    ],
    ids=str,
)
def test_the_names_of_a_vary_field(vary: list[bytes], names: list[bytes]) -> None:
    assert fingerprint.vary_names(vary) == frozenset(names)


@pytest.mark.parametrize("vary", [[b"*"], [b"Origin, *"], [b", ".join(b"x-%d" % n for n in range(17))]], ids=str)
def test_a_vary_field_that_cannot_be_followed(vary: list[bytes]) -> None:
    assert fingerprint.vary_names(vary) is None


def test_a_key_that_varies_by_nothing_stays_as_it_is() -> None:
    assert with_vary(Key("k"), (), Fields(((b"origin", b"a"),))) == "k"


def test_a_key_varies_by_the_values_of_the_named_fields() -> None:
    found = {
        with_vary(Key("k"), [b"origin"], Fields(fields))
        for fields in (
            (),
            ((b"origin", b""),),
            ((b"origin", b"a"),),
            ((b"origin", b"b"),),
            ((b"origin", b"a"), (b"origin", b"b")),
        )
    }
    assert len(found) == 5


def test_a_key_does_not_vary_by_other_fields_or_by_the_order_of_names() -> None:
    one = Fields(((b"Origin", b"a"), (b"x-a", b"1"), (b"user-agent", b"one")))
    other = Fields(((b"x-a", b"1"), (b"origin", b"a")))
    assert with_vary(Key("k"), [b"origin", b"x-a"], one) == with_vary(Key("k"), [b"x-a", b"origin"], other)


def test_two_keys_that_vary_alike_stay_two() -> None:
    fields = Fields(((b"origin", b"a"),))
    assert with_vary(Key("k"), [b"origin"], fields) != with_vary(Key("l"), [b"origin"], fields)
