"""A number of tokens and how it is known."""

from dataclasses import dataclass

from proxy.accounts.usage import Method


@dataclass(frozen=True, slots=True)
class Count:
    """How many tokens, by which method; with `lower_bound`, there may be more that nobody outside the provider sees."""

    tokens: int
    method: Method
    lower_bound: bool = False
