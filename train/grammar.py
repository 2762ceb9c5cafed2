"""Pairs that grammar alone makes the same or different: order that does not matter, and order that does.

A sentence model sees the same words in both. Every sentence is made of our own frames and words.
"""

import random
from collections.abc import Callable, Iterator

Made = tuple[str, str, int]
"""One text, the other, and whether the answer to the first serves the second."""

Family = Callable[[random.Random], Made]

OPPOSITES = (
    ("expensive", "affordable"), ("safe", "dangerous"), ("simple", "complicated"), ("strict", "lenient"),
    ("formal", "casual"), ("reliable", "unreliable"), ("visible", "hidden"), ("stable", "unstable"),
    ("polite", "rude"), ("patient", "impatient"), ("generous", "stingy"), ("noisy", "quiet"), ("crowded", "empty"),
    ("readable", "unreadable"), ("accurate", "inaccurate"), ("common", "rare"), ("popular", "unpopular"),
    ("healthy", "unhealthy"), ("efficient", "wasteful"), ("modern", "outdated"), ("flexible", "rigid"),
    ("pleasant", "unpleasant"), ("honest", "dishonest"), ("cheerful", "gloomy"), ("brave", "timid"),
    ("tidy", "messy"), ("comfortable", "uncomfortable"), ("predictable", "unpredictable"), ("confident", "insecure"),
    ("careful", "careless"), ("organised", "disorganised"), ("friendly", "unfriendly"), ("calm", "nervous"),
    ("active", "passive"), ("fragile", "sturdy"), ("humid", "dry"), ("bright", "dim"), ("attentive", "distracted"),
)  # fmt: skip
THINGS = (
    "garden", "report", "kitchen", "website", "team", "app", "school", "office", "policy", "menu", "route", "contract",
    "market", "neighbourhood", "server", "engine", "lesson", "manager", "neighbour", "guide", "program", "house",
    "city centre", "meeting", "teacher", "dog", "process", "interview",
)  # fmt: skip
PLURALS = (
    "apples", "candles", "bicycles", "scooters", "batteries", "knives", "umbrellas", "plants", "laptops",
    "skis", "guitars", "drones", "liquids", "tents", "paintings", "sandwiches", "headphones", "tripods", "blankets",
    "magazines", "sausages", "lentils", "almonds", "mushrooms", "peaches", "carrots", "mussels", "onions",
)  # fmt: skip
PAIRED = (
    ("tea", "coffee"), ("rice", "potatoes"), ("a train", "a bus"), ("a loan", "a lease"), ("butter", "oil"),
    ("cash", "a card"), ("a tablet", "a laptop"), ("wood", "steel"), ("gas", "electricity"), ("yoga", "running"),
    ("a flat", "a house"), ("cotton", "linen"), ("a dentist", "a surgeon"), ("oats", "barley"), ("a cat", "a dog"),
    ("salmon", "trout"), ("tar", "zip"), ("a nurse", "a midwife"), ("JSON", "XML"), ("a painter", "a sculptor"),
    ("ibuprofen", "aspirin"), ("a visa", "a work permit"), ("breakfast", "dinner"), ("a pilot", "a sailor"),
    ("stocks", "bonds"), ("Postgres", "MySQL"), ("a plumber", "an electrician"), ("a ferry", "a tunnel"),
)  # fmt: skip
PEOPLE = (
    "Marta", "Jonas", "Priya", "Felix", "Ines", "Bruno", "Leila", "Oskar", "Nadia", "Tomas", "Ada", "Viktor", "Carmen",
    "Yusuf", "Greta", "Pavel", "Rosa", "Emil", "Hanna", "Dario",
)  # fmt: skip
ACTORS = (
    "the council", "the landlord", "the committee", "the bank", "the coach", "the editor", "the union", "the clinic",
    "the court", "the baker", "the customs office", "the insurer", "the director", "the supplier", "the tenant",
)  # fmt: skip
DONE = (
    ("reject", "rejected"), ("inform", "informed"), ("sue", "sued"), ("support", "supported"), ("warn", "warned"),
    ("replace", "replaced"), ("praise", "praised"), ("contact", "contacted"), ("blame", "blamed"), ("pay", "paid"),
    ("visit", "visited"), ("fine", "fined"), ("invite", "invited"), ("criticise", "criticised"), ("ignore", "ignored"),
)  # fmt: skip
COMPARED = (
    ("cheaper", "more expensive"), ("faster", "slower"), ("heavier", "lighter"), ("older", "younger"),
    ("taller", "shorter"), ("safer", "riskier"), ("louder", "quieter"), ("harder", "easier"), ("warmer", "colder"),
    ("bigger", "smaller"), ("thicker", "thinner"), ("stronger", "weaker"), ("drier", "wetter"),
)  # fmt: skip
TRADES = (
    "plumber", "lawyer", "violinist", "carpenter", "dentist", "novelist", "biologist", "chef", "journalist", "farmer",
    "goalkeeper", "judge", "florist", "tailor", "surgeon", "translator", "welder", "priest",
)  # fmt: skip

MORE = (
    "How can we make the {thing} {more} {word}?",
    "Why has the {thing} become {more} {word}?",
    "Tips for a {more} {word} {thing}",
    "What would make our {thing} {more} {word}?",
    "Is there a way to get a {more} {word} {thing}?",
    "Do people prefer a {thing} that is {more} {word}?",
)
STATES = (
    "What should I do if the {thing} is {word}?",
    "Does it matter when a {thing} is {word}?",
    "Why is my {thing} {word}?",
    "Can I complain about a {thing} that is {word}?",
    "Since when is the {thing} {word}?",
)
EITHER = (
    "Which is better for a small family, {one} or {other}?",
    "Should I choose {one} or {other} for the summer?",
    "What costs less in the long run, {one} or {other}?",
    "What do most people take, {one} or {other}?",
    "Is it {one} or {other} that lasts longer?",
)
BOTH = (
    "Are {one} and {other} allowed on the plane?",
    "Where can I buy {one} and {other} near the station?",
    "How do I store {one} and {other} over the winter?",
    "Do you deliver {one} and {other} on Sundays?",
    "Can I return {one} and {other} without a receipt?",
)


def _two(dice: random.Random, words: tuple[str, ...]) -> tuple[str, str]:
    one, other = dice.sample(words, 2)
    return one, other


def _one(what: str) -> str:
    return f"{'an' if what[0] in 'aeiou' else 'a'} {what}"


def more_or_less(dice: random.Random) -> Made:
    """More of a word is less of its opposite, and neither more of that nor less of this."""
    word, opposite = dice.choice(OPPOSITES) if dice.random() < 0.5 else dice.choice(OPPOSITES)[::-1]
    more, less = dice.choice((("more", "less"), ("less", "more")))
    frame = dice.choice(MORE).replace("{thing}", dice.choice(THINGS))
    told = frame.format(more=more, word=word)
    if dice.random() < 0.5:
        return told, frame.format(more=less, word=opposite), 1
    other = dice.choice(((less, word), (more, opposite)))
    return told, frame.format(more=other[0], word=other[1]), 0


def not_or_opposite(dice: random.Random) -> Made:
    """What is not so is its opposite; what is so is not."""
    word, opposite = dice.choice(OPPOSITES) if dice.random() < 0.5 else dice.choice(OPPOSITES)[::-1]
    frame = dice.choice(STATES).replace("{thing}", dice.choice(THINGS))
    told = frame.format(word=f"not {word}")
    return (told, frame.format(word=opposite), 1) if dice.random() < 0.5 else (told, frame.format(word=word), 0)


def either(dice: random.Random) -> Made:
    """A choice is the same in either order, and another one with another thing in it."""
    one, other = dice.choice(PAIRED)
    frame = dice.choice(EITHER)
    told = frame.format(one=one, other=other)
    if dice.random() < 0.65:
        return told, frame.format(one=other, other=one), 1
    third = dice.choice([word for pair in PAIRED for word in pair if word not in (one, other)])
    return told, frame.format(one=third, other=one), 0


def both(dice: random.Random) -> Made:
    """So are two things at once; and both are not the one without the other, nor one of them."""
    one, other = _two(dice, PLURALS)
    frame = dice.choice(BOTH)
    told = frame.format(one=one, other=other)
    chance = dice.random()
    if chance < 0.6:
        return told, frame.format(one=other, other=one), 1
    joined = dice.choice((f"{one} without {other}", f"{other} but not {one}", f"either {one} or {other} but not both"))
    return told, frame.replace("{one} and {other}", joined), 0


def trades(dice: random.Random) -> Made:
    """Two things that somebody does, at once or one after the other."""
    name, (one, other) = dice.choice(PEOPLE), _two(dice, TRADES)
    if dice.random() < 0.5:
        return f"Does {name} work as a {one} and as a {other}?", f"Does {name} work as a {other} and as a {one}?", 1
    told = f"Was {name} first a {one} and then a {other}?"
    if dice.random() < 0.5:
        return told, f"Was {name} a {one} before becoming a {other}?", 1
    return told, f"Was {name} first a {other} and then a {one}?", 0


def passive(dice: random.Random) -> Made:
    """Who did it to whom stays who did it to whom, said the other way about."""
    (one, other), (did, done) = _two(dice, ACTORS), dice.choice(DONE)
    when = dice.choice(("", " last year", " in the end", " again", " in writing"))
    told = f"Why did {one} {did} {other}{when}?"
    if dice.random() < 0.5:
        return told, f"Why was {other} {done} by {one}{when}?", 1
    return told, dice.choice((f"Why was {one} {done} by {other}{when}?", f"Why did {other} {did} {one}{when}?")), 0


def compared(dice: random.Random) -> Made:
    """A comparison turned round and upside down is the same; turned once it is not."""
    (one, other), (more, less) = dice.choice(PAIRED), dice.choice(COMPARED)
    told = f"Is {one} {more} than {other}?"
    chance = dice.random()
    if chance < 0.5:
        return told, f"Is {other} {less} than {one}?", 1
    return told, (f"Is {other} {more} than {one}?" if chance < 0.75 else f"Is {one} {less} than {other}?"), 0


def described(dice: random.Random) -> Made:
    """A thing with a quality, and a thing that has it."""
    word, opposite = dice.choice(OPPOSITES)
    thing, other = _two(dice, THINGS)
    frame = dice.choice(
        ("How do I deal with {}?", "Where would I find {}?", "What is the best way to describe {}?", "Is {} worth it?")
    )
    told = frame.format(_one(f"{word} {thing}"))
    chance = dice.random()
    if chance < 0.55:
        return told, frame.format(f"{_one(thing)} {dice.choice(('that is', 'which is'))} {word}"), 1
    if chance < 0.8:
        return told, frame.format(f"{_one(thing)} that is {opposite}"), 0
    return told, frame.format(f"{_one(other)} that is {word}"), 0


def aspect(dice: random.Random) -> Made:
    """Being so, becoming so, and being so still."""
    word, _ = dice.choice(OPPOSITES)
    thing = dice.choice(THINGS)
    told = f"Is the {thing} {word}?"
    chance = dice.random()
    if chance < 0.4:
        soft = dice.choice(("actually", "in fact", "really", "indeed", "truly"))
        return told, f"Is the {thing} {soft} {word}?", 1
    changed = dice.choice(("becoming", "no longer", "not yet", "getting less", "going to be", "too"))
    return told, f"Is the {thing} {changed} {word}?", 0


FAMILIES: tuple[Family, ...] = (
    more_or_less, not_or_opposite, either, both, trades, passive, compared, described, aspect,
)  # fmt: skip


def made(count: int, dice: random.Random) -> Iterator[tuple[str, Made]]:
    """(family, pair), *count* of each family; some in small letters and without marks."""
    for family in FAMILIES:
        for _ in range(count):
            one, other, label = family(dice)
            if dice.random() < 0.3:
                other = other.lower().rstrip("?")
            yield family.__name__, (one, other, label)
