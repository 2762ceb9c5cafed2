"""Numbers and identifiers that only one of two texts has, however they are spelled."""

from itertools import pairwise

from proxy.guards.parsed import Parsed


def numbers(asked: Parsed, cached: Parsed) -> tuple[list[str], list[str]]:
    """The words of the numbers that the other text does not have."""
    ours = {value for value, _, _ in asked.numbers}
    others = {value for value, _, _ in cached.numbers}
    return (
        _unmet([words for value, _, words in asked.numbers if value not in others], cached),
        _unmet([words for value, _, words in cached.numbers if value not in ours], asked),
    )


def _unmet(numbers_: list[str], other: Parsed) -> list[str]:
    # Most questions have no number at all: words are run together only for one that is missing.
    joined = _run_together(other) if numbers_ else frozenset()
    return [words for words in numbers_ if not _within(words, joined)]


def _within(words: str, joined: frozenset[str]) -> bool:
    """Whether a number is the end of a word of the other text: the 3 of ``python3``."""
    return words.isdigit() and any(each.endswith(words) and not each.isdigit() for each in joined)


def identifiers(asked: Parsed, cached: Parsed) -> tuple[list[str], list[str]]:
    """The codes, versions, addresses and paths that the other text does not have."""
    one = {_bare(each): each for each in asked.identifiers}
    other = {_bare(each): each for each in cached.identifiers}
    joined_one = _run_together(asked) if other else frozenset()
    joined_other = _run_together(cached) if one else frozenset()
    return (
        [spelled for bare, spelled in one.items() if bare not in other and bare not in joined_other],
        [spelled for bare, spelled in other.items() if bare not in one and bare not in joined_one],
    )


def _bare(identifier: str) -> str:
    return identifier.replace("-", "").replace("_", "").replace("/", "").rstrip(".").removesuffix("s")


def _run_together(parsed: Parsed) -> frozenset[str]:
    """Neighbouring words as one: ``python 3`` meets ``python3``, ``wi fi`` meets ``wi-fi``."""
    lowers = [word.lower for word in parsed.words]
    pairs = [one + other for one, other in pairwise(lowers)]
    return frozenset(_bare(each) for each in [*lowers, *pairs])
