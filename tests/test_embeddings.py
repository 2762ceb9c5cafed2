"""Embeddings input by input: only what is missing is asked for, and nobody can tell from the answer."""

import base64
import gzip
import hashlib
import json
import secrets
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.dialects import vectors
from proxy.dialects.vectors import Irregular
from proxy.tokens.counter import TokenCounter
from tests import answers
from tests.comparison import Ways
from tests.conftest import StartProxy
from tests.observation import assert_adds_up, settled
from tests.proxy_process import ProxyProcess
from tests.scripted_provider import Exchange, Gate, Script, ScriptedProvider

pytestmark = pytest.mark.proxy_only

PATH = "/v1/embeddings"
MODEL = "text-embedding-3-small"
COUNTER = TokenCounter()

PRETTY: Mapping[str, Any] = {"indent": 2}
COMPACT: Mapping[str, Any] = {"separators": (",", ":")}
SPELLINGS: Sequence[Mapping[str, Any]] = (PRETTY, COMPACT, {}, {"indent": 1}, {"indent": 0})

# A provider that can be reckoned with.


def vector(asked: Mapping[str, Any], given: object) -> list[float] | str:
    """What the provider makes of one input: a function of it, of the model and of the dimensions."""
    seed = json.dumps([asked["model"], asked.get("dimensions"), given])
    digest = hashlib.sha256(seed.encode()).digest()
    numbers = [one / 7 - 18 for one in digest[: asked.get("dimensions", 4)]]
    if asked.get("encoding_format") == "base64":
        return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()
    return numbers


def tokens(given: object) -> int:
    """What an input costs."""
    return len(given) if isinstance(given, list) else COUNTER.count_text(str(given), MODEL).tokens


def listed(given: object) -> list[object]:
    """The inputs that *given* is."""
    if isinstance(given, list) and not all(isinstance(one, int) for one in given):
        return given
    return [given]


def told(asked: Mapping[str, Any], spelling: Mapping[str, Any] = PRETTY) -> bytes:
    """The provider's answer to a request, octet for octet."""
    items = listed(asked["input"])
    data = [{"object": "embedding", "index": at, "embedding": vector(asked, given)} for at, given in enumerate(items)]
    spent = sum(map(tokens, items))
    usage = {"prompt_tokens": spent, "total_tokens": spent}
    answer = {"object": "list", "data": data, "model": asked["model"], "usage": usage}
    return json.dumps(answer, **spelling).encode()


def provides(spelling: Mapping[str, Any] = PRETTY, gate: Gate | None = None) -> Script:
    """A provider that answers any request for embeddings."""

    async def play(exchange: Exchange) -> None:
        body = await exchange.body()
        if gate is not None:
            await gate.passed()
        await exchange.send(answers.whole(told(json.loads(body), spelling)))

    return Script(play=play)


def asked_for(ways: Ways) -> list[object]:
    """The inputs of every request that reached the provider, in order."""
    return [listed(json.loads(bytes(request.body))["input"]) for request in ways.received()]


def embed(ways: Ways, given: object, **more: object) -> tuple[str, bytes]:
    """What is said of the answer, and its body."""
    octets = ways.post(PATH, answers.compact({"model": MODEL, "input": given, **more}))
    answer = ways.through(octets).answer
    assert answer.status == 200
    # An answer is put away after it was given.
    settled(ways.proxy, requests=0, fetches=0)
    return f"{answer.get('x-cache')} {answer.get('x-cache-reason')}", bytes(answer.body)


def expected(given: object, **more: object) -> bytes:
    """What the provider would have said itself."""
    return told({"model": MODEL, "input": given, **more})


# Through the proxy.


def test_only_the_missing_inputs_are_asked_for_and_the_answer_is_as_it_would_have_been(ways: Ways) -> None:
    ways.plays(provides())
    one, two, three, four = (f"{word} {ways.nonce}" for word in ("a", "of b", "and c c c", "d"))
    assert embed(ways, [one, three]) == ("MISS not_found", expected([one, three]))
    assert embed(ways, [four, one, two, three]) == ("MISS partly_found", expected([four, one, two, three]))
    assert embed(ways, [two, four]) == ("HIT found", expected([two, four]))
    assert asked_for(ways) == [[one, three], [four, two]]


def test_an_input_alone_is_found_among_others_and_the_other_way_round(ways: Ways) -> None:
    ways.plays(provides())
    one, two = f"one {ways.nonce}", f"two {ways.nonce}"
    assert embed(ways, one) == ("MISS not_found", expected(one))
    assert embed(ways, [one]) == ("HIT found", expected(one))
    assert embed(ways, [two, one]) == ("MISS partly_found", expected([two, one]))
    assert embed(ways, two) == ("HIT found", expected(two))
    assert asked_for(ways) == [[one], [two]]


def test_token_arrays_are_inputs(ways: Ways) -> None:
    ways.plays(provides())
    user = f"user {ways.nonce}"
    assert embed(ways, [1, 2, 3], user=user) == ("MISS not_found", expected([1, 2, 3]))
    assert embed(ways, [[4], [1, 2, 3]], user=user) == ("MISS partly_found", expected([[4], [1, 2, 3]]))
    assert embed(ways, [[1, 2, 3]], user=user) == ("HIT found", expected([1, 2, 3]))
    assert asked_for(ways) == [[[1, 2, 3]], [[4]]]


def test_what_stands_twice_is_asked_for_once_and_answered_twice(ways: Ways) -> None:
    ways.plays(provides())
    one, two = f"one {ways.nonce}", f"two {ways.nonce}"
    embed(ways, one)
    assert embed(ways, [two, one, two, one]) == ("MISS partly_found", expected([two, one, two, one]))
    assert asked_for(ways) == [[one], [two]]


@pytest.mark.parametrize(
    "other", [{"dimensions": 3}, {"encoding_format": "base64"}, {"model": "another"}, {"user": "u"}, {"new": 1}]
)
def test_inputs_under_other_settings_are_other_inputs(ways: Ways, other: dict[str, object]) -> None:
    ways.plays(provides())
    one, two = f"one {ways.nonce}", f"two {ways.nonce}"
    embed(ways, [one, two])
    assert embed(ways, [one, two], **other) == ("MISS not_found", expected([one, two], **other))
    assert embed(ways, [two, one], **other) == ("HIT found", expected([two, one], **other))


def test_the_rest_of_the_request_goes_on_as_it_stands(ways: Ways) -> None:
    ways.plays(provides())
    one = f"one {ways.nonce}"
    embed(ways, one)
    spelled = f'{{ "input" : [ "{one}" ,"\\u00e9 {ways.nonce}" , "x" ],\n "model":"{MODEL}" }}\n'
    ways.through(ways.post(PATH, spelled.encode()))
    rest = f'{{ "input" : ["\\u00e9 {ways.nonce}","x"],\n "model":"{MODEL}" }}\n'
    assert bytes(ways.received()[1].body).decode() == rest
    assert ways.received()[1].complete


@pytest.mark.parametrize("encoding_format", ["float", "base64"])
def test_two_thousand_and_forty_eight_inputs(ways: Ways, encoding_format: str) -> None:
    ways.plays(provides())
    inputs = [f"{number} {ways.nonce}" for number in range(2048)]
    more = {"encoding_format": encoding_format, "dimensions": 16}
    assert embed(ways, inputs[::2], **more)[0] == "MISS not_found"
    assert embed(ways, inputs, **more) == ("MISS partly_found", expected(inputs, **more))
    assert asked_for(ways)[1] == inputs[1::2]
    assert embed(ways, inputs[::-1], **more) == ("HIT found", expected(inputs[::-1], **more))


def test_requests_that_come_at_once_ask_once(ways: Ways) -> None:
    gate = Gate()
    one, two = f"one {ways.nonce}", f"two {ways.nonce}"
    ways.plays(provides(), provides(gate=gate))
    embed(ways, one)
    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(embed, ways, [one, two]) for _ in range(8)]
        ways.provider.wait_for(ways.nonce, count=2)
        gate.open()
        got = [each.result() for each in asking]
    assert {body for _, body in got} == {expected([one, two])}
    assert sorted(label for label, _ in got)[-1] == "MISS partly_found"
    assert asked_for(ways) == [[one], [two]]


def test_an_error_to_the_rest_is_the_answer(ways: Ways) -> None:
    refusal = answers.whole(b'{"error":{"message":"too long"}}', status=400)
    one, two = f"one {ways.nonce}", f"two {ways.nonce}"
    ways.plays(provides(), _sends(refusal), provides())
    embed(ways, one)
    octets = ways.post(PATH, answers.compact({"model": MODEL, "input": [one, two]}))
    refused = ways.through(octets).answer
    assert (refused.status, bytes(refused.body)) == (400, b'{"error":{"message":"too long"}}')
    assert embed(ways, [one, two]) == ("MISS partly_found", expected([one, two]))


def test_where_the_rest_does_not_go_with_what_is_kept_the_whole_is_asked_for(ways: Ways) -> None:
    ways.plays(provides(PRETTY), provides(COMPACT), provides(PRETTY))
    one, two = f"one {ways.nonce}", f"two {ways.nonce}"
    embed(ways, one)
    assert embed(ways, [one, two])[1] == expected([one, two])
    assert asked_for(ways) == [[one], [two], [one, two]]


def test_answers_in_a_coding_are_taken_apart_too(ways: Ways) -> None:
    one, two = f"one {ways.nonce}", f"two {ways.nonce}"
    coded = (("Content-Type", "application/json"), ("Content-Encoding", "gzip"))
    for each in (one, two):
        ways.plays(_sends(answers.whole(gzip.compress(expected([each])), coded)))
        asked = answers.compact({"model": MODEL, "input": [each]})
        octets = ways.post(PATH, asked, headers=(("Accept-Encoding", "gzip"),))
        assert gzip.decompress(bytes(ways.through(octets).answer.body)) == expected([each])
    assert embed(ways, [one, two]) == ("HIT found", expected([one, two]))


def test_an_answer_that_is_not_regular_is_kept_whole(ways: Ways) -> None:
    one, two = f"one {ways.nonce}", f"two {ways.nonce}"
    answer = json.loads(expected([one, two]))
    answer["data"].reverse()
    ways.plays(_sends(answers.whole(json.dumps(answer).encode())), provides())
    assert embed(ways, [one, two])[0] == "MISS not_found"
    assert embed(ways, [one, two]) == ("HIT found", json.dumps(answer).encode())
    assert embed(ways, one)[0] == "MISS not_found"


def test_the_ledger_counts_inputs_and_what_was_spared(start_proxy: StartProxy) -> None:
    ways = start_proxy()
    ways.plays(provides())
    one, two, three = (f"{word} {ways.nonce}" for word in ("one", "two two", "three three three"))
    embed(ways, [one, two])
    embed(ways, [one, two, three])
    embed(ways, [three, one])
    embed(ways, three)
    shown = settled(ways.proxy, requests=4, fetches=2)
    assert_adds_up(shown)
    assert shown["inputs"] == {"asked": 8, "found": 5}
    spent = sum(map(tokens, (one, two, three)))
    saved = sum(map(tokens, (one, two, three, one, three)))
    measured = shown["tokens"]
    assert measured["spent"]["input"] == spent
    assert measured["saved"]["input"] == saved
    tiers = shown["tiers"]
    assert tiers["items"]["tokens"]["saved"]["input"] == sum(map(tokens, (one, two)))


def test_an_expired_part_never_stands_in_for_the_whole(start_proxy: StartProxy) -> None:
    ways = start_proxy(cache__stale_while_revalidate_s="3600", cache__stale_if_error_s="3600")
    ways.plays(provides())
    one, two = f"one {ways.nonce}", f"two {ways.nonce}"
    short = (("x-askonce-ttl", "1"),)
    ways.through(ways.post(PATH, answers.compact({"model": MODEL, "input": [one, two]}), headers=short))
    settled(ways.proxy, requests=0, fetches=0)
    time.sleep(1.1)
    assert embed(ways, [two, one]) == ("MISS not_found", expected([two, one]))
    assert embed(ways, [one, two]) == ("HIT found", expected([one, two]))


def test_only_if_cached_needs_every_input(ways: Ways) -> None:
    ways.plays(provides())
    one, two = f"one {ways.nonce}", f"two {ways.nonce}"
    embed(ways, one)
    only = (("Cache-Control", "only-if-cached"),)
    octets = ways.post(PATH, answers.compact({"model": MODEL, "input": [one, two]}), headers=only)
    assert ways.through(octets).answer.status == 504


def _sends(octets: bytes) -> Script:
    async def play(exchange: Exchange) -> None:
        await exchange.body()
        await exchange.send(octets)

    return Script(play=play)


# Whatever is asked in whatever order.


@pytest.fixture(scope="module")
def house(provider: ScriptedProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess]:
    """A proxy for these alone."""
    with ProxyProcess(provider.origin, tmp_path_factory.mktemp("embeddings") / "log") as running:
        yield running


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_no_order_of_requests_shows_in_any_answer(
    data: st.DataObject, provider: ScriptedProvider, house: ProxyProcess
) -> None:
    nonce = f"nonce{secrets.token_hex(8)}"
    ways = Ways(provider, house.address, house, nonce)
    spelling = data.draw(st.sampled_from(SPELLINGS))
    provider.on(nonce, provides(spelling))
    pool: list[object] = [f"{nonce} {word}" for word in ("", "é", "a b", '"q"', "\\", "x" * 50)]
    seen: set[tuple[str, str]] = set()
    for _ in range(data.draw(st.integers(2, 5))):
        given = data.draw(st.lists(st.sampled_from(pool), min_size=1, max_size=6))
        more: dict[str, Any] = data.draw(st.sampled_from([{}, {"encoding_format": "base64"}, {"dimensions": 2}]))
        before = len(ways.received())
        asked: dict[str, Any] = {"model": MODEL, "input": given, **more}
        octets = ways.post(PATH, json.dumps(asked, ensure_ascii=data.draw(st.booleans())).encode())
        answer = ways.through(octets).answer
        assert bytes(answer.body) == told(asked, spelling)
        settled(ways.proxy, requests=0, fetches=0)
        missing = [one for one in dict.fromkeys(map(str, given)) if (one, str(more)) not in seen]
        requests = [listed(json.loads(bytes(each.body))["input"]) for each in ways.received()[before:]]
        assert requests in ([], [missing], [given])
        assert bool(requests) == bool(missing)
        seen |= {(str(one), str(more)) for one in given}
    provider.forget(nonce)


# Taken apart and put together.


@given(
    st.lists(
        st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=3), min_size=1, max_size=4
    ),
    st.sampled_from(SPELLINGS),
    st.permutations(["object", "index", "embedding"]),
    st.permutations(["object", "data", "model", "usage", "id"]),
    st.booleans(),
)
def test_an_answer_is_the_sum_of_its_parts(
    numbers: list[list[float]],
    spelling: Mapping[str, Any],
    inside: list[str],
    outside: list[str],
    packed: bool,
) -> None:
    def item(at: int) -> dict[str, object]:
        one = numbers[at]
        value = base64.b64encode(struct.pack(f"<{len(one)}d", *one)).decode() if packed else one
        item = {"object": "embedding", "index": at, "embedding": value}
        return {name: item[name] for name in inside}

    def answer(places: Sequence[int]) -> bytes:
        items = [{**item(at), "index": number} for number, at in enumerate(places)]
        usage = {"prompt_tokens": 3 * len(items), "total_tokens": 3 * len(items), "details": None}
        whole = {"object": "list", "data": items, "model": "é", "usage": usage, "id": "x"}
        return json.dumps({name: whole[name] for name in outside}, **spelling).encode()

    every = range(len(numbers))
    apart = vectors.apart(answer(every))
    alone = [vectors.apart(answer([at])) for at in every]
    assert [one.vectors[0] for one in alone] == list(apart.vectors)
    assert all(one.like(apart) for one in alone)
    assert alone[0].of(apart.vectors, apart.tokens) == answer(every)
    assert apart.of(apart.vectors[:1], 3) == answer([0])


ITEM = '{"object":"embedding","index":0,"embedding":[0.5]}'
USAGE = '{"prompt_tokens":1,"total_tokens":1}'


@pytest.mark.parametrize(
    "body",
    [
        "",
        "[]",
        "{}",
        '{"data":[]}',
        '{"data":{}}',
        '{"error":{"message":"no"}}',
        f'{{"data":[{ITEM}],"error":null}}',
        f'{{"data":[{ITEM}],"data":[{ITEM}]}}',
        f'{{"data":[{ITEM},{ITEM}]}}',
        f'{{"data":[{ITEM},{ITEM.replace("0,", "1,", 1)}],"usage":{{"prompt_tokens":1,"total_tokens":2}}}}',
        f'{{"data":[{ITEM}],"usage":{{"prompt_tokens":1,"total_tokens":1,"cost":0.1}}}}',
        f'{{"data":[{ITEM}],"usage":{{"prompt_tokens":-1}}}}',
        f'{{"data":[{ITEM}],"usage":5}}',
        f'{{"data":[{ITEM}],"usage":{USAGE}}}x',
        f'{{"data":[{ITEM}],}}',
        f'{{"data":[{ITEM}]',
        f'{{"data":[{ITEM} {ITEM}]}}',
        f'{{"data":[{ITEM.replace("0.5", "[0.5]")}]}}',
        f'{{"data":[{ITEM.replace("0.5", "NaN")}]}}',
        f'{{"data":[{ITEM.replace("0.5", "")}]}}',
        f'{{"data":[{ITEM.replace("[0.5]", "null")}]}}',
        f'{{"data":[{ITEM.replace("[0.5]", chr(34) + "a b" + chr(34))}]}}',
        f'{{"data":[{ITEM.replace("0,", "7,", 1)}]}}',
        f'{{"data":[{ITEM.replace(chr(34) + "index" + chr(34) + ":0,", "")}]}}',
    ],
)
def test_what_is_not_of_the_pattern_is_not_taken_apart(body: str) -> None:
    with pytest.raises(Irregular):
        vectors.apart(body.encode())


@given(
    st.text(max_size=60) | st.sampled_from([f'{{"data":[{ITEM}],"usage":{USAGE}}}']),
    st.integers(0, 60),
    st.text(max_size=3),
)
def test_whatever_comes_is_taken_apart_or_not(text: str, place: int, more: str) -> None:
    body = (text[:place] + more + text[place:]).encode("utf-8", "replace")
    try:
        apart = vectors.apart(body)
    except Irregular:
        return
    assert apart.of(apart.vectors, apart.tokens) == body
    json.loads(body)


@given(st.integers(0, 10**9), st.lists(st.integers(0, 10**6), min_size=1, max_size=50))
def test_shares_add_up_and_follow_their_weights(total: int, weights: list[int]) -> None:
    shares = vectors.shares(total, weights)
    assert sum(shares) == total
    if sum(weights):
        assert all(
            abs(share - total * weight / sum(weights)) <= 1 for share, weight in zip(shares, weights, strict=True)
        )


@pytest.mark.parametrize(
    ("given", "items"),
    [
        ("a", ("a",)),
        (["a"], ("a",)),
        (["a", "b"], ("a", "b")),
        ([1, 2], ([1, 2],)),
        ([[1], [2, 3]], ([1], [2, 3])),
        ([], ()),
        ([""], ("",)),
        (["a", 1], ()),
        ([[1], "a"], ()),
        ([[]], ()),
        ([True], ()),
        ({"a": 1}, ()),
        (None, ()),
    ],
)
def test_the_inputs_of_a_request(given: object, items: tuple[object, ...]) -> None:
    assert vectors.inputs({"input": given}) == items
