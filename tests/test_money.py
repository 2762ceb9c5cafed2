"""Dollars as whole numbers: exact sums, rounded once, written in plain digits."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.accounts import money

DOLLARS = st.decimals(min_value=0, max_value=10**6, places=12)


@pytest.mark.parametrize(
    ("dollars", "text"),
    [
        ("0", "0"),
        ("1", "1"),
        ("10", "10"),
        ("0.1", "0.1"),
        ("0.00012375", "0.00012375"),
        ("0.000000000001", "0.000000000001"),
        ("0.0000000000005", "0"),
        ("0.0000000000015", "0.000000000002"),
        ("123456.5", "123456.5"),
        ("1e30", "1000000000"),
    ],
)
def test_dollars_are_rounded_once_and_written_plainly(dollars: str, text: str) -> None:
    assert money.text(money.parts(Decimal(dollars))) == text


@given(st.lists(DOLLARS, max_size=50))
def test_sums_are_exact(amounts: list[Decimal]) -> None:
    total = sum(map(money.parts, amounts))
    assert Decimal(money.text(total)) == sum(amounts, Decimal(0))
