"""Receipts of calls and fetches that ended like most."""

from typing import Any

from proxy.accounts.money import PARTS, Cost
from proxy.accounts.receipts import FetchReceipt, Receipt
from proxy.accounts.usage import Usage
from proxy.model import CutOff, Outcome, Reason

TEN = Usage(input_tokens=8, output_tokens=2)
COST = Cost(usd=3 * PARTS, usd_list=4 * PARTS)
"""Three dollars, which would have been four but for the provider's prompt cache."""


def receipt(outcome: Outcome = Outcome.MISS, **more: Any) -> Receipt:
    """A call that ended like most."""
    usual: dict[str, Any] = {
        "outcome": outcome,
        "reason": Reason.NOT_FOUND,
        "model": "gpt",
        "status": 200,
        "bytes_in": 100,
        "bytes_out": 1000,
        "first_s": 0.1,
        "total_s": 0.5,
        "cut": CutOff.DELIVERED,
    }
    return Receipt(**{**usual, **more})


def hit(**more: Any) -> Receipt:
    """A hit of an answer that had cost three dollars."""
    usual: dict[str, Any] = {
        "outcome": Outcome.HIT,
        "reason": Reason.FOUND,
        "tier": "exact",
        "saved": TEN,
        "saved_cost": COST,
    }
    return receipt(**{**usual, **more})


def fetch(**more: Any) -> FetchReceipt:
    """A fetch that ended like most, at no known cost."""
    usual: dict[str, Any] = {
        "model": "gpt",
        "status": 200,
        "bytes_in": 1000,
        "total_s": 0.5,
        "usage": TEN,
        "kept": True,
        "unkept": None,
    }
    return FetchReceipt(**{**usual, **more})
