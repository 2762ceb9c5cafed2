"""What ``/stats`` says of the provider's prompt cache, for a terminal: what costs most, and what to do about it."""

import textwrap
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from proxy.pages.table import plain

WIDTH = 100


def rendered(shown: Mapping[str, Any]) -> str:
    """The advice in what ``/stats`` *shown*. Raises KeyError or TypeError where that is something else."""
    prefix = shown["prefix"]
    seen = prefix["observed"]
    lines = [
        f"askonce {plain(shown['version'])}, the provider's prompt cache since {plain(shown['since'])}",
        "",
        f"{seen['requests']:,} requests with {seen['input']:,} input tokens, {100 * seen['read_share']:.1f} % of them "
        f"read from the cache: {_dollars(seen['usd'])}",
    ]
    if not prefix["advice"]:
        lines += ["", "nothing to mend" if seen["requests"] else "nothing seen yet"]
    for number, advice in enumerate(prefix["advice"], 1):
        a_day = advice["usd_per_day"]
        cost = f"${Decimal(a_day):,.2f} a day" if a_day is not None else "no price known"
        lost = f"{advice['tokens_lost']:,} tokens in each of {advice['requests']:,}"
        head = f"{number}. {plain(advice['code'])}: {cost}, {lost}"
        where = f"{plain(advice['where'])} ({plain(advice['model'])}, prompt {plain(advice['prompt'])})"
        lines += ["", head, *_indented(where), *_indented(plain(advice["fix"]))]
    return "\n".join(lines) + "\n"


def _dollars(text: str) -> str:
    amount = Decimal(text)
    return f"${amount:,.2f} saved" if amount >= 0 else f"${-amount:,.2f} spent on writing more than was saved"


def _indented(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="   ", subsequent_indent="   ", break_on_hyphens=False)
