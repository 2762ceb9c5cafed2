"""How often the counting formula gives the billed number of tokens, on recorded requests.

    python bench/tokens/marks.py [VECTORS] [--misses CATEGORY] [--of fit|held]

VECTORS is ../shared/data/usage_vectors.jsonl unless given. Repositories are split in two by the SHA-256 of their name:
the formula was searched for on the odd ones ("fit"); the even ones ("held out") say what to expect of others. Four
figures of Responses (results by id and of reasoning models, a schema's place, calls side by side) and two of tools
(what is said of plain array items, spaces around comments) had too few rows in the first part and were settled with a
look at the second: read its lines for Responses and tools as fitted too. Chat's other lines are truly held out.
"""

import argparse
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxy.accounts.usage import Method
from proxy.tokens.counter import TokenCounter

VECTORS = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "usage_vectors.jsonl"
PATHS = {
    "chat": "/v1/chat/completions",
    "responses": "/v1/responses",
    "embeddings": "/v1/embeddings",
    "completions": "/v1/completions",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One recorded request, counted."""

    held_out: bool
    category: str
    billed: int
    counted: int
    method: Method
    row: Mapping[str, Any]

    @property
    def error(self) -> int:
        """Counted less billed."""
        return self.counted - self.billed


def held_out(row: Mapping[str, Any]) -> bool:
    """Decide, by repository, whether *row* was kept from the search for the formula."""
    repository = row["source"].partition(":")[0]
    return hashlib.sha256(repository.encode()).digest()[0] % 2 == 0


def read(path: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the recorded requests."""
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def prompts(rows: Iterator[Mapping[str, Any]], counter: TokenCounter) -> Iterator[Result]:
    """Count every prompt."""
    for row in rows:
        usage = row["usage"]
        count = counter.count_prompt(PATHS[row["endpoint"]], row["request"], model=row["model"])
        yield Result(
            held_out=held_out(row),
            category=f"{row['endpoint']:11} {row['category']}",
            billed=usage.get("prompt_tokens", usage.get("input_tokens")),
            counted=count.tokens,
            method=count.method,
            row=row,
        )


def answers(rows: Iterator[Mapping[str, Any]], counter: TokenCounter) -> Iterator[Result]:
    """Count every answer whose output was recorded."""
    for row in rows:
        usage, output = row["usage"], row["output"]
        if output is None or row["endpoint"] == "embeddings":
            continue
        whole = {"choices": output, "output": output}
        count = counter.count_completion(PATHS[row["endpoint"]], whole, model=row["model"])
        details = usage.get("completion_tokens_details") or usage.get("output_tokens_details") or {}
        reasoning = details.get("reasoning_tokens") or 0
        yield Result(
            held_out=held_out(row),
            category=f"{row['endpoint']:11} answer",
            billed=(usage.get("completion_tokens") or usage.get("output_tokens") or 0) - reasoning,
            counted=count.tokens,
            method=count.method,
            row=row,
        )


def table(results: list[Result]) -> Iterator[str]:
    """Yield the lines of the table: fit and held-out side by side."""
    cells: dict[str, dict[bool, list[Result]]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        for category in (result.category, f"{result.category.split()[0]:11} ALL"):
            cells[category][result.held_out].append(result)
        if result.method is Method.COUNTED:
            cells[f"{result.category.split()[0]:11} ALL counted"][result.held_out].append(result)
    head = f"{'n':>5} {'exact':>7} {'<=2':>7} {'MAE':>8} {'total':>8}"
    yield f"{'':32} | {'fit: ' + head} | {'held: ' + head}"
    for category in sorted(cells):
        yield f"{category:32} | {'     ' + cell(cells[category][False])} | {'      ' + cell(cells[category][True])}"


def cell(results: list[Result]) -> str:
    """Return one side of a line."""
    if not results:
        return f"{0:>5} {'':>7} {'':>7} {'':>8} {'':>8}"
    errors = [abs(result.error) for result in results]
    n = len(errors)
    billed = sum(result.billed for result in results)
    total = sum(result.error for result in results) / billed if billed else 0.0
    return (
        f"{n:>5} {sum(e == 0 for e in errors) / n:>7.1%} {sum(e <= 2 for e in errors) / n:>7.1%} "
        f"{sum(errors) / n:>8.2f} {total:>+8.2%}"
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vectors", nargs="?", type=Path, default=VECTORS)
    parser.add_argument("--misses", metavar="CATEGORY", help="list the misses whose category contains this")
    parser.add_argument("--of", choices=("fit", "held"), default="fit")
    options = parser.parse_args()
    if not options.vectors.exists():
        raise SystemExit(f"no recorded requests at {options.vectors}")
    counter = TokenCounter()
    for kind in (prompts, answers):
        results = list(kind(read(options.vectors), counter))
        if not options.misses:
            print(f"{kind.__name__}:")
            print("\n".join(table(results)), end="\n\n")
            continue
        for result in results:
            if options.misses in result.category and result.error and result.held_out == (options.of == "held"):
                print(result.error, result.billed, result.method, result.row["model"], result.row["source"][-80:])


if __name__ == "__main__":
    main()
