"""JSON by value: every spelling of a value is one, no two values are."""

import json
import random
import unicodedata
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy import canonical
from proxy.canonical import Unfit
from proxy.model import Reason
from tests.json_texts import close_objects, objects, same, spelled


def written(text: str | bytes) -> bytes | Unfit:
    """The one spelling of the object in *text*, or why there is none."""
    read = canonical.read(text if isinstance(text, bytes) else text.encode())
    return read if isinstance(read, Unfit) else canonical.write(read)


def of_value(value: str) -> bytes:
    """The one spelling of an object that holds *value*."""
    found = written(f'{{"v":{value}}}')
    assert isinstance(found, bytes), found
    return found


@given(objects, st.randoms(use_true_random=False))
def test_every_spelling_of_an_object_is_one(value: dict[str, Any], choose: random.Random) -> None:
    assert written(spelled(value, choose)) == written(json.dumps(value))


@given(close_objects, close_objects)
@example({"a": True}, {"a": 1})
@example({"a": False}, {"a": 0})
@example({"a": None}, {})
@example({"a": []}, {"a": {}})
@example({"a": [[]]}, {"a": []})
@example({"a": ["a", "b"]}, {"a": ["b", "a"]})
def test_two_objects_are_one_where_their_values_are_and_nowhere_else(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    assert (written(json.dumps(one)) == written(json.dumps(other))) is same(one, other)


@given(objects, objects)
def test_different_objects_are_never_one(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert (written(json.dumps(one)) == written(json.dumps(other))) is same(one, other)


@given(objects)
def test_the_spelling_is_json_that_says_the_same(value: dict[str, Any]) -> None:
    found = written(json.dumps(value))
    assert isinstance(found, bytes)
    assert same(json.loads(found), value)


@given(st.binary(max_size=64) | st.text(max_size=64).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_no_body_makes_it_stumble(body: bytes) -> None:
    read = canonical.read(body)
    assert isinstance(read, dict | Unfit)


@pytest.mark.parametrize("zero", ["0", "-0", "0.0", "-0.0", "0e0", "0E+5", "-0e-3", "0.000", "0e999999"])
def test_zero_is_one_number_however_it_is_written(zero: str) -> None:
    assert of_value(zero) == b'{"v":0}'


@pytest.mark.parametrize("hundred", ["100", "100.0", "1e2", "1E2", "1e+2", "10e1", "0.1e3", "1000e-1"])
def test_a_hundred_is_one_number_however_it_is_written(hundred: str) -> None:
    assert of_value(hundred) == b'{"v":100}'


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("true", "1"),
        ("false", "0"),
        ("null", "false"),
        ('"1"', "1"),
        ('"true"', "true"),
        ('"null"', "null"),
        ("[]", "{}"),
        ("[]", "null"),
        ('""', "null"),
        ("[1]", "1"),
        ("[1,2]", "[2,1]"),
        ("[1,[2]]", "[[1],2]"),
        ('"Word"', '"word"'),
        ('"word"', '"word "'),
        ('"word"', '" word"'),
        ('"a b"', '"a  b"'),
        ('"a\\nb"', '"a\\r\\nb"'),
        ('"\\u0000"', '""'),
        ("0.1", "0.10000000000000002"),
        ("1", "-1"),
        ("9007199254740992", "9007199254740993"),
        ("12345678901234567890", "12345678901234567891"),
        ('{"a":null}', "{}"),
        ('{"a":1}', '{"A":1}'),
        ('{"a":1}', '{"a ":1}'),
    ],
)
def test_neighbouring_values_stay_apart(one: str, other: str) -> None:
    assert of_value(one) != of_value(other)


@pytest.mark.parametrize("form", ["NFD", "NFKC", "NFKD"])
def test_unicode_normal_forms_stay_apart(form: Any) -> None:
    composed = "\u00e9\ufb01\u2460"
    assert of_value(json.dumps(composed)) != of_value(json.dumps(unicodedata.normalize(form, composed)))


def test_an_integer_of_4000_digits_counts_to_its_last_digit() -> None:
    assert of_value("7" * 3999 + "1") != of_value("7" * 3999 + "2")


def test_a_fraction_is_read_as_the_double_it_is() -> None:
    assert of_value("0.1") == of_value("0.1000000000000000055511151231257827")


def test_lone_surrogates_stay_apart_from_each_other_and_from_the_replacement_character() -> None:
    found = {of_value(text) for text in ('"\\ud800"', '"\\ud801"', '"\\udc00"', '"\\ufffd"', '"?"', '""')}
    assert len(found) == 6


def test_a_surrogate_pair_is_the_character_it_stands_for() -> None:
    assert of_value('"\\ud83d\\ude00"') == of_value('"\N{GRINNING FACE}"')


def test_surrogates_in_the_wrong_order_are_no_pair() -> None:
    assert of_value('"\\ude00\\ud83d"') != of_value('"\N{GRINNING FACE}"')


@pytest.mark.parametrize(
    "body",
    [
        '{"a":1,"a":1}',
        '{"a":1,"\\u0061":2}',
        '{"deep":[{"x":{"a":1,"b":2,"a":3}}]}',
        '{"\\ud83d\\ude00":1,"\N{GRINNING FACE}":2}',
        '{"":0,"":0}',
    ],
)
def test_a_key_named_twice_at_any_depth_is_refused(body: str) -> None:
    assert written(body) == Unfit(Reason.DUPLICATE_KEYS)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"{} {}",
        b"{'a':1}",
        b'{"a":1,}',
        b'{"a":01}',
        b'{"a":.5}',
        b'{"a":+1}',
        b'{"a":0x10}',
        b'{"a":1_0}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'{"a":"\n"}',
        b'{"a":"\\x41"}',
        b'{"a":"\\u12"}',
        b'{"a":1}\x00',
        b"{\xa0}",
        b'\xef\xbb\xbf{"a":1}',
        '{"a":1}'.encode("utf-16"),
        '{"a":1}'.encode("utf-16-le"),
        '{"a":1}'.encode("utf-32"),
        b'{"a":"\xff"}',
        b'{"a":"\xed\xa0\x80"}',
        b'{"a":"\xc0\x80"}',
    ],
)
def test_what_is_not_json_in_utf_8_is_refused(body: bytes) -> None:
    assert written(body) == Unfit(Reason.INVALID_JSON)


@pytest.mark.parametrize("body", ["[]", '"text"', "1", "1.5", "true", "null"])
def test_what_is_not_an_object_is_refused(body: str) -> None:
    assert written(body) == Unfit(Reason.INVALID_JSON)


@pytest.mark.parametrize(
    "number", ["1e999999", "-1e999999", "1e-999999", "-0.1e-400", "1e309", "9" * 5000, "-" + "9" * 5000]
)
def test_a_number_that_cannot_be_held_is_refused(number: str) -> None:
    assert written(f'{{"a":[{number}]}}') == Unfit(Reason.ABSURD_NUMBER)


@pytest.mark.parametrize("number", ["1.7976931348623157e308", "5e-324", "2.2250738585072014e-308"])
def test_the_outermost_doubles_are_held(number: str) -> None:
    assert json.loads(of_value(number))["v"] == float(number)


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_a_body_that_nests_3000_deep_is_refused(opening: str, closing: str) -> None:
    assert written('{"v":' + opening * 3000 + "1" + closing * 3000 + "}") == Unfit(Reason.TOO_DEEP)


def test_a_value_too_deep_to_be_written_is_refused() -> None:
    value: object = 1
    for _ in range(3000):
        value = [value]
    assert canonical.write(value) == Unfit(Reason.TOO_DEEP)


@pytest.mark.parametrize("number", ["1e300", "-1E300", "1.5e23"])
def test_a_short_number_is_not_written_as_a_long_one(number: str) -> None:
    # Megabytes of them would become gigabytes.
    assert len(of_value(number)) < 32


def test_a_double_past_the_exact_ones_is_not_the_integer_beside_it() -> None:
    assert of_value("1e23") != of_value("99999999999999991611392")
    assert of_value("1e22") == of_value("1" + "0" * 22)
