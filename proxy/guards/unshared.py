"""Numbers and identifiers that only one of two texts has, however they are spelled."""

from itertools import pairwise

from proxy.guards.parsed import Parsed


def numbers(asked: Parsed, cached: Parsed) -> tuple[list[str], list[str]]:
    """The words of the numbers that the other text does not have."""
    ours = {value for value, _, _ in asked.numbers}
    others = {value for value, _, _ in cached.numbers}
    joined, their_joined = _run_together(asked), _run_together(cached)
    return (
        [words for value, _, words in asked.numbers if value not in others and not _within(words, their_joined)],
        [words for value, _, words in cached.numbers if value not in ours and not _within(words, joined)],
    )


def _within(words: str, joined: frozenset[str]) -> bool:
    """Whether a number is the end of a word of the other text: the 3 of ``python3``."""
    return words.isdigit() and any(each.endswith(words) and not each.isdigit() for each in joined)


def identifiers(asked: Parsed, cached: Parsed) -> tuple[list[str], list[str]]:
    """The codes, versions, addresses and paths that the other text does not have."""
    one = {_bare(each): each for each in asked.identifiers}
    other = {_bare(each): each for each in cached.identifiers}
    joined_one, joined_other = _run_together(asked), _run_together(cached)
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
