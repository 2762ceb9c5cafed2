"""``/stats`` as a plain table for a terminal."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

NAME_WIDTH = 28


def rendered(shown: Mapping[str, Any]) -> str:
    """The table of what ``/stats`` *shown*. Raises KeyError or TypeError where that is something else."""
    tokens, requests = shown["tokens"], shown["requests"]
    outcomes = ("hits", "joined", "misses", "bypassed", "errors")
    lines = [
        f"askonce {plain(shown['version'])}, {_span(shown)}",
        "",
        *_rows(
            [
                ("requests", f"{requests:,}", ""),
                *((f"  {name}", f"{shown[name]:,}", _share(shown[name], requests)) for name in outcomes),
                ("fetches", f"{shown['fetches']:,}", ""),
                ("seconds saved", f"{shown['time_saved_s']:,.1f}", ""),
            ]
        ),
        "",
        *_rows(
            [
                ("", "saved", "spent"),
                *_sums(tokens["saved"], tokens["spent"]),
                ("answers", f"{tokens['saved']['answers']:,}", f"{tokens['spent']['answers']:,}"),
            ]
        ),
        "",
        plain(tokens["coverage"]["sentence"]),
    ]
    opportunity = shown["opportunity"]
    if opportunity["repeats"]:
        lines.append(
            f"{opportunity['repeats']:,} repeats were kept out by their temperature alone and cost "
            f"{_dollars(opportunity['usd'])} (see cache.when)"
        )
    by, lines_of = _groups(shown)
    if lines_of:
        lines += ["", *_rows([(by, "requests", "hits", "saved"), *(_group(*item) for item in lines_of)])]
    reasons = sorted((item for item in shown["reasons"].items() if item[1]), key=lambda item: -item[1])
    if reasons:
        lines += ["", *_rows([("reason", "requests"), *((plain(name), f"{count:,}") for name, count in reasons)])]
    return "\n".join(lines) + "\n"


def _span(shown: Mapping[str, Any]) -> str:
    """Of which time the table tells."""
    if "window" not in shown:
        return f"counting since {plain(shown['since'])}"
    return f"{plain(shown['window'])}, from {plain(shown['since'])} to {plain(shown['until'])}"


def _groups(shown: Mapping[str, Any]) -> tuple[str, list[tuple[str, Mapping[str, Any]]]]:
    """What calls are told apart by, and the groups: days in their order, all others by their requests."""
    if "window" not in shown:
        by, groups = "model", shown["models"]
    else:
        by, groups = shown["by"] or "", shown["groups"]
    told = [item for item in groups.items() if item[1]["requests"] or item[1]["tokens"]["saved"]["answers"]]
    return by, sorted(told) if by == "day" else sorted(told, key=lambda item: -item[1]["requests"])


def _sums(saved: Mapping[str, Any], spent: Mapping[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
        (f"{name} tokens", f"{saved[name]:,}", f"{spent[name]:,}") for name in ("input", "output")
    ]
    rows.append(("dollars", _dollars(saved["usd"]), _dollars(spent["usd"])))
    for method in ("counted", "estimated"):
        ours, theirs = saved[method], spent[method]
        if ours["answers"] or theirs["answers"]:
            rows += [
                (f"{method} tokens", f"{ours['input'] + ours['output']:,}", f"{theirs['input'] + theirs['output']:,}"),
                (f"{method} dollars", _dollars(ours["usd"]), _dollars(theirs["usd"])),
            ]
    return rows


def _group(name: str, row: Mapping[str, Any]) -> tuple[str, ...]:
    saved = row["tokens"]["saved"]
    return plain(name) or "(none)", f"{row['requests']:,}", f"{row['hits'] + row['joined']:,}", _dollars(saved["usd"])


def _rows(rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Columns in line: the first to the left, the others to the right."""
    return [
        f"{name[:NAME_WIDTH]:<{NAME_WIDTH}}{''.join(f'{cell:>16}' for cell in cells)}".rstrip() for name, *cells in rows
    ]


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else ""


def _dollars(amount: str) -> str:
    """Cents, or as many digits as it takes to see anything."""
    exact = Decimal(amount)
    if exact == 0 or exact >= Decimal("0.01"):
        return f"${exact:,.2f}"
    return f"${exact:.12f}".rstrip("0") if exact < Decimal("0.000001") else f"${exact:.6f}"


def plain(text: str) -> str:
    """*text* without anything that could move a terminal's cursor: a model's name comes from a stranger."""
    return "".join(each if each.isprintable() else "?" for each in text)
