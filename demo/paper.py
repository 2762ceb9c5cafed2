"""What the demonstration prints: rows, sums and folded JSON in 100 columns, coloured on a terminal only."""

import json
import os
import sys
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence

from demo.questions import Given

WIDTH = 100
COLUMNS = (("#", 3), ("asked", 25), ("how", 18), ("label", 7), ("answered by", 15), ("reason", 12))
FIGURES = (("time", 9), ("paid", 5), ("saved", 6))
COLOURS = {"HIT": "32", "JOINED": "36", "MISS": "33", "BYPASS": "35", "ERROR": "31", "bold": "1", "dim": "2"}
COLOURED = sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def paint(text: str, colour: str) -> str:
    """*text* in *colour* where that can be seen."""
    code = COLOURS.get(colour)
    return f"\033[{code}m{text}\033[0m" if COLOURED and code else text


def say(text: str = "") -> None:
    """One line, at once."""
    print(text, flush=True)


def title(text: str) -> None:
    """A heading with a rule under it."""
    say()
    say(paint(text, "bold"))
    say(paint("-" * WIDTH, "dim"))


def fact(name: str, text: str) -> None:
    """A named line; long texts are wrapped under themselves."""
    lines = textwrap.wrap(text, WIDTH - 12, break_on_hyphens=False, break_long_words=False) or [""]
    for number, line in enumerate(lines):
        say(f"  {'' if number else name:<10}{line}")


def table_head() -> None:
    """The names of the columns."""
    say(paint(_row([name for name, _ in COLUMNS], [name for name, _ in FIGURES]), "dim"))


def table_row(number: int, asked: str, how: str, answers: Sequence[Given], paid_by: str) -> None:
    """One question: who answered it and why so, how long that took, the tokens it cost and those it saved."""
    counts = Counter(answer.outcome for answer in answers)
    outcome = counts.most_common(1)[0][0]
    typical = next(answer for answer in answers if answer.outcome == outcome)
    if len(answers) == 1:
        label, source = outcome, f"{typical.tier} cache" if typical.free else paid_by
    else:
        label, source = ", ".join(f"{count} {name}" for name, count in reversed(counts.most_common())), ""
    paid = sum(answer.tokens for answer in answers if not answer.free)
    saved = sum(answer.tokens for answer in answers if answer.free)
    seconds = max(answer.seconds for answer in answers)
    figures = [f"{seconds * 1000:.1f} ms", str(paid or "-"), str(saved or "-")]
    row = _row([str(number), asked, how, label, source, typical.reason], figures)
    say(row.replace(label, paint(label, outcome), 1))


def _row(words: Sequence[str], figures: Sequence[str]) -> str:
    row, end = "", 0
    for (_, width), word in zip(COLUMNS, words, strict=True):
        # A word that is too wide takes the room of an empty neighbour.
        row = f"{row:<{end}}" + (word if len(row) <= end else word and f" {word}")
        end += width
    return f"{row:<{end}}"[:end] + "".join(
        f"{figure:>{width}}" for (_, width), figure in zip(FIGURES, figures, strict=True)
    )


def folded(value: object, indent: int = 2, lead: int = 0) -> str:
    """*value* as JSON in few lines: what fits on a line is not broken, and what is not nested is filled up."""
    line = json.dumps(value)
    if indent + lead + len(line) < WIDTH or not isinstance(value, Mapping) or not value:
        return line
    margin = " " * (indent + 2)
    lines = [margin]
    for name, item in value.items():
        text = f"{json.dumps(name)}: {folded(item, indent + 2, len(json.dumps(name)) + 2)},"
        nested = isinstance(item, Mapping)
        if lines[-1] != margin and (nested or len(lines[-1]) + len(text) > WIDTH):
            lines.append(margin)
        lines[-1] += text if nested else f"{text} "
        if nested:
            lines.append(margin)
    filled = "\n".join(line.rstrip() for line in lines if line != margin)
    return "{\n" + filled.removesuffix(",") + "\n" + " " * indent + "}"
