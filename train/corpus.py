"""Pairs to learn from, their sources and their parts; each source is licensed for it, see NOTICE."""

import hashlib
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from proxy import guards
from proxy.encoder.encoder import Encoder
from train import edits, grammar

OWN = Path(__file__).parent / "data"
SEED = 20261125
LEFT_OUT = frozenset({"Order does not matter for comparison"})
"""A template whose label contradicts what a cache must hold: "is A better than B" is not "is B better than A"."""

OF_GRAMMAR = 350
"""Pairs of each family of ``grammar``."""

HELD_OUT_SHARE = 8
"""One group of pairs in so many is kept from training."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two texts, and whether the answer to *a* serves *b*."""

    a: str
    b: str
    label: int
    source: str
    kind: str = ""


def lines(path: Path) -> Iterator[Mapping[str, str | int]]:
    """The rows of a JSON Lines file."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def normal(text: str) -> str:
    """A text for comparing texts: letter case and spaces do not count."""
    return " ".join(text.lower().split())


def parted(pairs: Iterable[Pair]) -> dict[int, int]:
    """Index of each pair to the index of its group: pairs that share a text belong together."""
    root: dict[str, str] = {}

    def find(text: str) -> str:
        while root.setdefault(text, text) != text:
            root[text] = root[root[text]]
            text = root[text]
        return text

    listed = list(pairs)
    for pair in listed:
        root[find(normal(pair.a))] = find(normal(pair.b))
    groups: dict[str, int] = {}
    return {at: groups.setdefault(find(normal(pair.a)), len(groups)) for at, pair in enumerate(listed)}


def held_out(text: str) -> bool:
    """Whether what belongs to *text* is kept from training."""
    return int(hashlib.sha256(text.encode()).hexdigest(), 16) % HELD_OUT_SHARE == 0


def own() -> tuple[list[Pair], list[Pair]]:
    """The pairs written for this project: those to learn from, and those kept apart by group."""
    found: dict[tuple[str, str], Pair] = {}
    dropped = Counter[str]()
    for path in sorted(OWN.glob("pairs_*.jsonl")):
        for row in lines(path):
            pair = Pair(str(row["a"]), str(row["b"]), int(row["label"]), "own", str(row["kind"]))
            key = tuple(sorted((normal(pair.a), normal(pair.b))))
            if key[0] == key[1]:
                dropped["same text"] += 1
            elif (key[0], key[1]) in found:
                dropped["twice"] += 1
            else:
                found[key[0], key[1]] = pair
    pairs = list(found.values())
    groups = parted(pairs)
    first: dict[int, str] = {}
    for at, pair in enumerate(pairs):
        first.setdefault(groups[at], normal(pair.a))
    training = [pair for at, pair in enumerate(pairs) if not held_out(first[groups[at]])]
    apart = [pair for at, pair in enumerate(pairs) if held_out(first[groups[at]])]
    return training, apart


def checklist(shared: Path) -> tuple[list[Pair], list[Pair]]:
    """CheckList's templates: two thirds to learn from, one third never seen, by template."""
    training, apart = [], []
    for row in lines(shared / "pairs_checklist_mft.jsonl"):
        if row["test"] in LEFT_OUT:
            continue
        pair = Pair(str(row["a"]), str(row["b"]), int(row["label"]), "mft", str(row["test"]))
        unseen = int(hashlib.sha256(str(row["test"]).encode()).hexdigest(), 16) % 3 == 0
        (apart if unseen else training).append(pair)
    return training, apart


def plain(path: Path, source: str) -> list[Pair]:
    """The pairs of a file with columns a, b and label."""
    return [Pair(str(row["a"]), str(row["b"]), int(row["label"]), source) for row in lines(path)]


def intents(shared: Path) -> dict[str, list[tuple[str, str]]]:
    """(intent, text) of each set of utterances."""
    return {
        name: [(str(row["label"]), str(row["text"])) for row in lines(shared / f"texts_intent_{name}.jsonl")]
        for name in ("clinc150", "banking77", "hwu64")
    }


def mined(texts: list[tuple[str, str]], encoder: Encoder, dice: random.Random, count: int, source: str) -> list[Pair]:
    """Near texts of different intents (not the same), and of one intent where no guard fires and they are very near."""
    vectors = encoder.vectors([text for _, text in texts])
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -1)
    apart, same = [], []
    for at in dice.sample(range(len(texts)), len(texts)):
        near = np.argpartition(-cosines[at], 12)[:12]
        for other in near[np.argsort(-cosines[at][near])]:
            intent, text = texts[at]
            theirs, there = texts[int(other)]
            cosine = float(cosines[at, other])
            if intent != theirs and cosine > 0.62:
                apart.append(Pair(there, text, 0, source, "other intent"))
                break
        for other in near[np.argsort(-cosines[at][near])][:2]:
            intent, text = texts[at]
            theirs, there = texts[int(other)]
            one, two = guards.parse(text), guards.parse(there)
            found = guards.fired(one, two)
            if intent == theirs and 0.84 < float(cosines[at, other]) < 0.995 and not guards.vetoes(one, two, found):
                same.append(Pair(there, text, 1, source, "same intent"))
    dice.shuffle(apart)
    dice.shuffle(same)
    return apart[:count] + same[: count // 3]


def edited(texts: Iterable[str], dice: random.Random, source: str, *, keep: float) -> Iterator[Pair]:
    """One edited pair of each text: wording only with probability *keep*."""
    for text in texts:
        if not 3 <= len(text.split()) <= 30:
            continue
        if dice.random() < keep:
            new = edits.kept(text, dice, times=dice.choice((1, 1, 2, 3)))
            if new:
                yield Pair(text, new, 1, source, "kept")
        else:
            changed = edits.changed(text, dice)
            # Half of them are said in another way as well, so that likeness alone tells nothing.
            also = edits.kept(changed, dice, times=dice.choice((1, 2))) if changed and dice.random() < 0.5 else None
            if changed:
                yield Pair(text, also or changed, 0, source, "changed")


def paraphrases_changed(pairs: Iterable[Pair], dice: random.Random) -> Iterator[Pair]:
    """Of each paraphrase one that says it in yet another way, and one in which one thing is changed."""
    for pair in pairs:
        if pair.label != 1:
            continue
        changed = edits.changed(pair.b if dice.random() < 0.5 else pair.a, dice)
        if changed:
            yield Pair(pair.a if dice.random() < 0.5 else pair.b, changed, 0, f"{pair.source}+", "changed")
        kept = edits.kept(pair.b, dice, times=dice.choice((1, 2)))
        if kept:
            yield Pair(pair.a, kept, 1, f"{pair.source}+", "kept")


def assemble(shared: Path, encoder: Encoder) -> tuple[list[Pair], dict[str, list[Pair]]]:
    """What is learned from, shuffled; and the parts kept apart, by name."""
    dice = random.Random(SEED)
    ours, ours_apart = own()
    templates, templates_apart = checklist(shared)
    found: list[Pair] = []
    for _ in range(2):
        found += ours
    found += paraphrases_changed(ours, dice)
    found += [Pair(a, b, label, "grammar", family) for family, (a, b, label) in grammar.made(OF_GRAMMAR, dice)]
    texts = [text for pair in ours for text in (pair.a, pair.b)]
    found += edited(dice.sample(texts, len(texts) * 2 // 3), dice, "own~", keep=0.4)
    found += dice.sample(templates, min(len(templates), 2000))
    mock = [pair for pair in plain(shared / "pairs_gptcache_mock.jsonl", "mock") if brief(pair)]
    found += mock
    found += paraphrases_changed(mock, dice)
    found += [pair for pair in plain(shared / "pairs_rqe.jsonl", "rqe") if brief(pair)]
    for name, utterances in intents(shared).items():
        some = dice.sample(utterances, 2200)
        found += mined(some, encoder, dice, 1200, name)
        found += edited([text for _, text in some], dice, f"{name}~", keep=0.45)
    apart = {"own": ours_apart, "templates": templates_apart}
    forbidden = {normal(text) for pairs in apart.values() for pair in pairs for text in (pair.a, pair.b)}
    # What judges is not learned from, not even where a plain question happens to have been written twice.
    judges = [row for name in ("pairs_kmemo_tuned", "stream_nearmiss_20") for row in lines(shared / f"{name}.jsonl")]
    forbidden |= {normal(str(row[column])) for row in judges for column in ("a", "b", "text") if column in row}
    found = [pair for pair in found if normal(pair.a) not in forbidden and normal(pair.b) not in forbidden]
    dice.shuffle(found)
    apart["usual"] = usual(shared, found, 600)
    return found, apart


def brief(pair: Pair) -> bool:
    """Short enough for what the verifier is asked: training time goes by words."""
    return len(pair.a.split()) + len(pair.b.split()) <= 50


def usual(shared: Path, learned: Iterable[Pair], count: int) -> list[Pair]:
    """Edits of utterances that nothing was learned from: what most repeats and most one-word near misses look like."""
    dice = random.Random(SEED + 1)
    seen = {normal(text) for pair in learned for text in (pair.a, pair.b)}
    fresh = [text for texts in intents(shared).values() for _, text in texts if normal(text) not in seen]
    return list(edited(dice.sample(fresh, 2 * count), dice, "usual", keep=0.8))[:count]


def described(pairs: Iterable[Pair]) -> dict[str, dict[str, int]]:
    """How many pairs of which label each source gives."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for pair in pairs:
        counts[pair.source]["same" if pair.label else "different"] += 1
    return {source: dict(count) for source, count in sorted(counts.items())}


def chosen(pairs: Iterable[Pair], shares: Mapping[str, float], seed: int) -> list[Pair]:
    """A part of *pairs* by source, the same for one *seed*, none twice."""
    dice = random.Random(seed)
    return [pair for pair in dict.fromkeys(pairs) if dice.random() < shares.get(pair.source, shares[""])]
