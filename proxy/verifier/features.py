"""What can be said in numbers about two texts: how well their words find each other, and which guards fired."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from proxy import guards
from proxy.encoder.encoder import Encoder, Reading
from proxy.encoder.weights import Array
from proxy.guards import Parsed
from proxy.model import Veto

SCHEMA = 1
"""Grows with every change of what a number means: trees of another schema are not read."""

FIRST_WORD = 1996
"""BERT's vocabulary has its words from here on, the commonest first; before them come marks and single letters."""

WEIGHTY = 0.45
"""From this weight on a token counts as one that carries what is asked."""

_PAIRED = (
    "last mean",
    "last least",
    "last second",
    "middle mean",
    "middle least",
    "static mean",
    "static least",
    "unmatched",
    "unmatched weight",
    "unmatched static",
    "words",
    "content",
    "contained",
    "numbers",
    "names",
)
"""Numbers that each of the two texts has; the lesser one comes first, so that their order does not matter."""

_SINGLE = (
    "cosine",
    "static cosine",
    "jaccard",
    "jaccard content",
    "trigrams",
    "inversions",
    "in order",
    "length ratio",
    "first word",
    "last word",
    "shared weight",
    "short",
    "replaced static",
    "replaced last",
    "one replaced",
    "unknown",
    "negations apart",
    "hard fired",
)

NAMES = (
    *(f"{name} {which}" for name in _PAIRED for which in ("less", "more")),
    *_SINGLE,
    *(f"guard {name}" for name in guards.NAMES),
)
"""The name of each number, in order."""


@dataclass(frozen=True, slots=True)
class Side:
    """One text of a pair: what is the same whatever it is compared with."""

    reading: Reading
    parsed: Parsed = field(repr=False)
    weight: Array = field(repr=False)
    """How much each token says."""
    static: Array = field(repr=False)
    """A row of length 1 for each token: its word alone, without its surroundings."""
    middle: Array = field(repr=False)
    last: Array = field(repr=False)
    mean: Array = field(repr=False)
    """The weighted mean of ``static``, of length 1."""
    trigrams: frozenset[str] = field(repr=False)


def side(encoder: Encoder, reading: Reading, parsed: Parsed) -> Side:
    """*reading* and *parsed* of one text, made ready."""
    weight, static = _weights(reading), _static(encoder, reading)
    return Side(
        reading=reading,
        parsed=parsed,
        weight=weight,
        static=static,
        middle=reading.middle.astype(np.float32),
        last=reading.last.astype(np.float32),
        mean=_mean(static, weight),
        trigrams=_trigrams(parsed),
    )


def features(asked: Side, cached: Side, *, cosine: float, fired: Sequence[Veto]) -> Array:
    """The numbers about one pair, as ``NAMES`` has them."""
    one, other, mine, theirs = asked.reading, cached.reading, asked.parsed, cached.parsed
    weight, their_weight = asked.weight, cached.weight
    last = asked.last @ cached.last.T
    middle = asked.middle @ cached.middle.T
    plain = asked.static @ cached.static.T
    paired: list[tuple[float, float]] = []
    for table in (last, middle, plain):
        here, there = _found(table, weight), _found(table.T, their_weight)
        paired += [(here[0], there[0]), (here[1], there[1])]
        if table is last:
            paired.append((here[2], there[2]))
    new = [stem for stem in dict.fromkeys(mine.content) if stem not in theirs.known]
    their_new = [stem for stem in dict.fromkeys(theirs.content) if stem not in mine.known]
    strange, their_strange = _strange(one, other), _strange(other, one)
    paired += [
        (len(new), len(their_new)),
        (float(weight[strange].sum()), float(their_weight[their_strange].sum())),
        (_meeting(plain, strange), _meeting(plain.T, their_strange)),
        (len(mine.words), len(theirs.words)),
        (len(mine.content), len(theirs.content)),
        (_share(mine.content, theirs.known), _share(theirs.content, mine.known)),
        (len(mine.numbers), len(theirs.numbers)),
        (len(mine.names), len(theirs.names)),
    ]
    one_replaced = len(new) == len(their_new) == 1
    swap = plain[np.ix_(strange, their_strange)] if strange.any() and their_strange.any() else None
    swap_last = last[np.ix_(strange, their_strange)] if swap is not None else None
    hard = [veto for veto in fired if veto.guard in guards.HARD_NAMES]
    names = {veto.guard for veto in fired}
    inversions, in_order = _order(mine.content, theirs.content)
    single = [
        cosine,
        float(asked.mean @ cached.mean),
        _jaccard(mine.known, theirs.known),
        _jaccard(frozenset(mine.content), frozenset(theirs.content)),
        _jaccard(asked.trigrams, cached.trigrams),
        inversions,
        in_order,
        min(len(mine.words), len(theirs.words)) / max(1, len(mine.words), len(theirs.words)),
        float(mine.stems[:1] == theirs.stems[:1]),
        float(mine.stems[-1:] == theirs.stems[-1:]),
        float(weight[~strange].sum() + their_weight[~their_strange].sum()),
        float(mine.short and theirs.short),
        float(swap.max()) if swap is not None else 1.0,
        float(swap_last.max()) if swap_last is not None else 1.0,
        float(one_replaced),
        float(one.tokens.unknown + other.tokens.unknown),
        float(abs(len(mine.negations) - len(theirs.negations))),
        float(len(hard)),
    ]
    return np.array(
        [
            *(value for pair in paired for value in sorted(pair)),
            *single,
            *(float(name in names) for name in guards.NAMES),
        ],
        dtype=np.float32,
    )


def _weights(reading: Reading) -> Array:
    """How much each token says: next to nothing for marks and the commonest words, 1 for the rarest."""
    ids = np.array(reading.tokens.ids, dtype=np.float32)
    return np.maximum(0.02, np.log1p(np.maximum(0.0, ids - FIRST_WORD)) / np.float32(np.log(28527.0))).astype(
        np.float32
    )


def _static(encoder: Encoder, reading: Reading) -> Array:
    rows = encoder.network.words[np.array(reading.tokens.ids, dtype=np.int64)]
    unit: Array = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-6))
    return unit


def _found(table: Array, weight: Array) -> tuple[float, float, float]:
    """(weighted mean, least, second least) of how well each token of one text finds one in the other."""
    if not table.size:
        return 0.0, 0.0, 0.0
    best = table.max(axis=1)
    weighty = np.sort(best[weight >= WEIGHTY]) if (weight >= WEIGHTY).any() else np.sort(best)
    return (
        float((best * weight).sum() / weight.sum()),
        float(weighty[0]),
        float(weighty[1] if len(weighty) > 1 else weighty[0]),
    )


def _strange(reading: Reading, other: Reading) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    """Which tokens of *reading* the other text does not have, of those that say something."""
    known = set(other.tokens.ids)
    return np.array([number not in known and number >= FIRST_WORD for number in reading.tokens.ids], dtype=np.bool_)


def _meeting(table: Array, strange: "np.ndarray[tuple[int], np.dtype[np.bool_]]") -> float:
    """How badly the worst of the strange tokens finds a like one in the other text."""
    if not strange.any() or not table.size:
        return 1.0
    return float(table[strange].max(axis=1).min())


def _share(content: Sequence[str], known: frozenset[str]) -> float:
    return sum(stem in known for stem in content) / len(content) if content else 1.0


def _jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / len(one | other) if one or other else 1.0


def _trigrams(parsed: Parsed) -> frozenset[str]:
    text = f" {' '.join(word.lower for word in parsed.words)} "
    return frozenset(text[at : at + 3] for at in range(len(text) - 2))


def _mean(rows: Array, weight: Array) -> Array:
    if not len(rows):
        return np.zeros(rows.shape[1], dtype=np.float32)
    mean = (rows * weight[:, None]).sum(axis=0)
    unit: Array = mean / max(float(np.linalg.norm(mean)), 1e-6)
    return unit


ORDERED_WORDS = 24
"""Shared words whose order is compared; more would take longer than they tell."""


def _order(one: Sequence[str], other: Sequence[str]) -> tuple[float, float]:
    """(share of pairs of shared words that have changed places, longest run kept in order by shared words)."""
    places = {stem: at for at, stem in enumerate(other) if other.count(stem) == 1}
    shared = [places[stem] for stem in one if stem in places and one.count(stem) == 1][:ORDERED_WORDS]
    if len(shared) < 2:
        return 0.0, 1.0
    pairs = list(combinations(shared, 2))
    longest: list[int] = []
    for place in shared:
        longest.append(
            1 + max((length for before, length in zip(shared, longest, strict=False) if before < place), default=0)
        )
    return sum(before > after for before, after in pairs) / len(pairs), max(longest) / len(shared)
