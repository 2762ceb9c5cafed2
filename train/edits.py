"""One change to a question, as rules: changes of wording that keep the answer, and changes of one thing that do not."""

import random
import re
from collections.abc import Callable
from pathlib import Path

from proxy.guards.tables import _SECTIONS, MEMBERS, stem

Edit = Callable[[str, random.Random], str | None]
"""The text with the change made, or None where the text has no place for it."""

OPENINGS = (
    "please",
    "hi,",
    "hello,",
    "hey,",
    "quick question:",
    "can you tell me",
    "could you tell me",
    "i'd like to know",
    "i want to know",
    "do you know",
    "tell me",
    "i was wondering",
    "just wondering,",
    "help:",
    "good morning,",
    "um,",
    "question:",
    "for a friend:",
    "i need to know",
    "sorry, but",
    "so,",
    "ok so",
    "could you please explain",
)
CLOSINGS = (
    "please",
    "thanks",
    "thank you",
    "thanks in advance",
    "cheers",
    "?",
    "??",
    "asap please",
    "any help is appreciated",
    "can you help",
    "i appreciate it",
    "ta",
    "if you don't mind",
    "if possible",
)
FRAMES = (
    (
        r"^how (?:do|can|could|would|should) (?:i|you|we|one) (.+?)\??$",
        (
            "how to {}",
            "what is the way to {}",
            "what's the best way to {}",
            "i want to {}",
            "i need to {}",
            "what are the steps to {}",
            "can you help me {}",
            "show me how to {}",
            "instructions to {}",
            "{}",
            "is there a way to {}",
            "explain how to {}",
            "what do i have to do to {}",
            "i'm trying to {}",
        ),
    ),
    (
        r"^(?:can|could) you (?:please )?(.+?)\??$",
        ("{}", "please {}", "i need you to {}", "would you {}", "i want you to {}"),
    ),
    (
        r"^what(?:'s| is| are) (.+?)\??$",
        (
            "tell me {}",
            "could you tell me what {} is",
            "explain {}",
            "i'd like to know {}",
            "can you give me {}",
            "do you know {}",
            "define {}",
            "i don't know what {} is",
        ),
    ),
    (
        r"^(?:is it possible to|can i|am i able to) (.+?)\??$",
        (
            "am i able to {}",
            "can i {}",
            "is it possible to {}",
            "may i {}",
            "is there any way i can {}",
            "i wonder if i can {}",
        ),
    ),
    (r"^why (?:is|are) (.+?)\??$", ("what is the reason that {}", "how come {}", "explain why {}")),
    (
        r"^(?:i want to|i need to|i would like to|i'd like to|i wanna) (.+?)\.?$",
        (
            "how do i {}",
            "how can i {}",
            "i have to {}",
            "please help me {}",
            "let me {}",
            "i'd like to {}",
            "is it possible to {}",
        ),
    ),
)
SYNONYMS = tuple(
    tuple(line.split("|"))
    for line in (Path(__file__).parent / "synonyms.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
)
QUALIFIERS = (
    "in python",
    "on windows",
    "on a mac",
    "for kids",
    "for beginners",
    "on weekends",
    "in winter",
    "without an account",
    "on android",
    "in canada",
    "for free",
    "under 100 dollars",
    "in 2019",
    "at night",
    "before noon",
    "while pregnant",
    "for a small business",
    "in one sentence",
    "for my daughter",
    "with two children",
    "as a student",
    "from abroad",
    "over the phone",
    "in a different currency",
    "using excel",
    "by hand",
    "only on mobile",
    "during a storm",
    "last year",
    "when i am offline",
    "for vegetarians",
    "if i am under 18",
    "in french",
    "on a saturday",
    "with a debit card",
)
NAMES = [
    "anna",
    "ben",
    "carla",
    "david",
    "emma",
    "frank",
    "grace",
    "henry",
    "ivy",
    "jack",
    "karen",
    "liam",
    "mia",
    "noah",
    "olivia",
    "peter",
    "quinn",
    "rosa",
    "sam",
    "tina",
    "umar",
    "vera",
    "will",
    "yara",
    "zoe",
    "lucas",
    "elena",
    "omar",
    "nina",
    "paul",
    "julia",
    "ethan",
    "chloe",
    "daniel",
    "sofia",
    "kevin",
    "laura",
    "adam",
]
PLACES = _SECTIONS["places"]
_ALL_PLACES = [word for line in PLACES for word in line.split()]
_OPPOSITES: dict[str, list[str]] = {}
for _line in _SECTIONS["opposites"]:
    _word, _, _others = _line.partition(": ")
    for _other in _others.split():
        _OPPOSITES.setdefault(_word, []).append(_other)
        _OPPOSITES.setdefault(_other, []).append(_word)
_SISTERS: dict[str, list[list[str]]] = {}
for _line in _SECTIONS["groups"]:
    _group, _, _members = _line.partition(": ")
    _names = [member.split("|") for member in _members.split(", ")]
    _SISTERS[_group] = _names
_AMBIGUOUS = {
    "in",
    "on",
    "off",
    "up",
    "down",
    "over",
    "under",
    "right",
    "left",
    "like",
    "well",
    "back",
    "free",
    "set",
    "may",
    "us",
    "can",
    "second",
    "fall",
    "spring",
    "signal",
    "map",
    "mode",
    "list",
    "base",
    "short",
    "out",
    "add",
    "get",
    "low",
    "sec",
    "lead",
    "light",
    "hard",
    "pass",
    "rent",
    "lie",
    "live",
    "read",
    "cool",
    "kind",
    "single",
    "past",
    "lock",
}


def _swap_word(text: str, old: str, new: str) -> str:
    return re.sub(rf"\b{re.escape(old)}\b", new, text, count=1, flags=re.IGNORECASE)


def politeness(text: str, dice: random.Random) -> str:
    """Courtesies around it."""
    if dice.random() < 0.5:
        return (
            f"{dice.choice(OPENINGS)} {text[0].lower()}{text[1:]}"
            if dice.random() < 0.7
            else f"{dice.choice(OPENINGS)} {text}"
        )
    closing = dice.choice(CLOSINGS)
    return f"{text.rstrip('?.! ')}{'' if closing[0] == '?' else ', '}{closing}"


def frame(text: str, dice: random.Random) -> str | None:
    """The same request in another form of sentence."""
    for pattern, others in FRAMES:
        match = re.match(pattern, text.strip(), re.IGNORECASE)
        if match:
            return dice.choice(others).format(match.group(1)) + ("?" if dice.random() < 0.3 else "")
    return None


def synonym(text: str, dice: random.Random) -> str | None:
    """A word for another that means the same here."""
    fitting = [row for row in SYNONYMS if re.search(rf"\b{re.escape(row[0])}\b", text, re.IGNORECASE)]
    if not fitting:
        return None
    row = dice.choice(fitting)
    return _swap_word(text, row[0], dice.choice(row[1:]))


def typo(text: str, dice: random.Random) -> str | None:
    """A letter dropped, doubled or changed places with the next."""
    words = list(re.finditer(r"[A-Za-z]{5,}", text))
    if not words:
        return None
    word = dice.choice(words)
    at = dice.randrange(word.start() + 1, word.end() - 1)
    kind = dice.randrange(3)
    if kind == 0:
        return text[:at] + text[at + 1 :]
    if kind == 1:
        return text[:at] + text[at] + text[at:]
    return text[:at] + text[at + 1] + text[at] + text[at + 2 :]


def letters(text: str, dice: random.Random) -> str:
    """Letter case and marks at the end."""
    kind = dice.randrange(5)
    if kind == 0:
        return text.lower()
    if kind == 1:
        return text.rstrip("?.! ")
    if kind == 2:
        return text.upper()
    if kind == 3:
        return text[0].upper() + text[1:].rstrip("?.! ") + "?"
    return re.sub(r"\b(what|where|how|who) is\b", lambda match: f"{match.group(1)}'s", text)


def fronted(text: str, dice: random.Random) -> str | None:
    """A phrase from the end put in front."""
    match = re.match(r"^(.+?) ((?:in|on|for|at|with|using|during|without|as) (?:\w+ ?){1,3})\??$", text.strip())
    if not match or len(match.group(1).split()) < 3:
        return None
    return f"{match.group(2)}, {match.group(1)}"


def conjoined(text: str, dice: random.Random) -> str | None:
    """Two things joined by "and" or "or", the other way about."""
    thing = r"((?:an?|the|my|your|our) [\w-]+|[\w-]{3,})"
    match = re.search(rf"(?<!\bto )\b{thing} (and|or) {thing}\W*$", text, re.IGNORECASE)
    if match is None or match.group(1).lower() in {"more", "less", "one", "now", "again", "before", "first"}:
        return None
    return text[: match.start(1)] + f"{match.group(3)} {match.group(2)} {match.group(1)}" + text[match.end(3) :]


def number(text: str, dice: random.Random) -> str | None:
    """Another number."""
    found = list(re.finditer(r"(?<![\w.])\d+(?![\w.]*\w*[A-Za-z])", text))
    if not found:
        return None
    match = dice.choice(found)
    old = match.group()
    if len(old) >= 4 and dice.random() < 0.5:
        at = dice.randrange(len(old) - 1)
        new = old[:at] + old[at + 1] + old[at] + old[at + 2 :]
    else:
        new = str(max(0, int(old) + dice.choice((-1, 1, 2, 5, 10, 50, 100)))) if len(old) < 9 else old[::-1]
    return None if int(new) == int(old) else text[: match.start()] + new + text[match.end() :]


def sister(text: str, dice: random.Random) -> str | None:
    """Another of the same kind: another day, another currency, another animal."""
    words = [word for word in re.findall(r"[A-Za-z+#]+", text) if word.lower() not in _AMBIGUOUS]
    dice.shuffle(words)
    for word in words:
        for group, member in MEMBERS.get(stem(word.lower()), ()):
            if group == "place":
                other = dice.choice(_ALL_PLACES)
            else:
                other = dice.choice([names[0] for names in _SISTERS[group]])
            if other == member or not other[0].isalpha():
                continue
            plural = "s" if word.lower().endswith("s") and not member.endswith("s") and not other.endswith("s") else ""
            new = other + plural
            return _swap_word(text, word, new.capitalize() if word[0].isupper() else new)
    return None


def opposite(text: str, dice: random.Random) -> str | None:
    """The opposite of one word."""
    words = [
        word for word in re.findall(r"[A-Za-z]+", text) if word.lower() in _OPPOSITES and word.lower() not in _AMBIGUOUS
    ]
    if not words:
        return None
    word = dice.choice(words)
    other = dice.choice(_OPPOSITES[word.lower()])
    return _swap_word(text, word, other.capitalize() if word[0].isupper() else other)


def negated(text: str, dice: random.Random) -> str | None:
    """With a "not" that was not there, or without the one that was."""
    if re.search(r"\b(not|no|never|without|\w+n't)\b", text, re.IGNORECASE):
        new = re.sub(
            r"\b(do|does|did|is|are|was|were|ca|wo|should|would|could|has|have)n't\b",
            lambda match: {"ca": "can", "wo": "will"}.get(match.group(1).lower(), match.group(1)),
            text,
            count=1,
        )
        if new == text:
            new = re.sub(r"\b(?:not|never) ", "", text, count=1)
        if new == text:
            new = re.sub(r"\bwithout\b", "with", text, count=1)
        return None if new == text else new
    for auxiliary in (
        "should",
        "can",
        "could",
        "will",
        "would",
        "is",
        "are",
        "do",
        "does",
        "did",
        "was",
        "were",
        "have",
        "has",
    ):
        match = re.search(
            rf"\b({auxiliary}) (i|you|we|they|he|she|it|my|the|a|your|people|this|that) ?(\w+)?", text, re.IGNORECASE
        )
        if match and match.start() == 0 and auxiliary != "should":
            # "Isn't it an option?" asks what "is it an option?" asks.
            continue
        if match:
            if dice.random() < 0.5:
                contracted = {"can": "can't", "will": "won't"}.get(auxiliary, f"{auxiliary}n't")
                return text[: match.start()] + contracted + text[match.start() + len(auxiliary) :]
            at = match.end(2)
            return (
                f"{text[:at]} not{text[at:]}"
                if match.group(2).lower() in ("i", "you", "we", "they", "he", "she", "it")
                else None
            )
    match = re.search(r"\b(to) (\w+)", text)
    if match and dice.random() < 0.6:
        return f"{text[: match.start()]}not to{text[match.end(1) :]}"
    return None


def qualified(text: str, dice: random.Random) -> str | None:
    """With a condition that was not there."""
    qualifier = dice.choice(QUALIFIERS)
    if any(word in text.lower() for word in qualifier.split()[1:]):
        return None
    bare = text.rstrip("?.! ")
    return f"{bare} {qualifier}{'?' if text.rstrip().endswith('?') else ''}"


def turned(text: str, dice: random.Random) -> str | None:
    """The two ends of a route, or the two sides of a comparison, exchanged."""
    match = re.search(r"\bfrom (?:the |my |our |a )?([\w$]+) to (?:the |my |our |a )?([\w$]+)", text, re.IGNORECASE)
    if match is None:
        match = re.search(r"\b([\w$]+) (?:to|into|than) (?:the |my |our |a )?([\w$]+)\W*$", text, re.IGNORECASE)
    if match is None or match.group(1).lower() == match.group(2).lower() or len(match.group(2)) < 2:
        return None
    if match.group(1).lower() in {
        "how",
        "want",
        "need",
        "like",
        "able",
        "going",
        "have",
        "way",
        "possible",
        "trying",
        "more",
        "it",
        "due",
    }:
        return None
    return (
        text[: match.start(1)]
        + match.group(2)
        + text[match.end(1) : match.start(2)]
        + match.group(1)
        + text[match.end(2) :]
    )


def person(text: str, dice: random.Random) -> str | None:
    """Another person's name, or another pronoun."""
    for male, female in (("he", "she"), ("him", "her"), ("his", "her")):
        if re.search(rf"\b{male}\b", text, re.IGNORECASE):
            return _swap_word(text, male, female)
    if re.search(r"\bshe\b", text, re.IGNORECASE):
        return _swap_word(text, "she", "he")
    named = [word for word in re.findall(r"[A-Za-z]+", text) if word.lower() in NAMES]
    if named:
        other = dice.choice([name for name in NAMES if name != named[0].lower()])
        return _swap_word(text, named[0], other.capitalize() if named[0][0].isupper() else other)
    return None


def moment(text: str, dice: random.Random) -> str | None:
    """Another time."""
    rows = (
        ("today", "tomorrow", "yesterday"),
        ("before", "after"),
        ("this week", "next week", "last week"),
        ("last month", "next month", "this month"),
        ("last year", "this year", "next year"),
        ("morning", "evening", "afternoon"),
        ("tonight", "tomorrow night"),
        ("now", "later", "tomorrow"),
        ("first", "last"),
        ("next", "last"),
    )
    fitting = [(word, row) for row in rows for word in row if re.search(rf"\b{word}\b", text, re.IGNORECASE)]
    if not fitting:
        return None
    word, row = dice.choice(fitting)
    return _swap_word(text, word, dice.choice([other for other in row if other != word]))


KEEPING: tuple[tuple[Edit, float], ...] = (
    (politeness, 3),
    (frame, 5),
    (synonym, 4),
    (typo, 2),
    (letters, 1.5),
    (fronted, 2),
    (conjoined, 6),
)
CHANGING: tuple[tuple[Edit, float], ...] = (
    (number, 2),
    (sister, 4),
    (opposite, 3),
    (negated, 2),
    (qualified, 2),
    (turned, 3),
    (person, 1),
    (moment, 2),
)


def kept(text: str, dice: random.Random, *, times: int = 1) -> str | None:
    """*text* said in another way; None where no rule fits."""
    done = text
    for _ in range(times):
        new = _one(KEEPING, done, dice)
        done = new if new is not None else done
    return done if done != text else None


def changed(text: str, dice: random.Random) -> str | None:
    """*text* with one thing changed that changes the answer; None where no rule fits."""
    new = _one(CHANGING, text, dice)
    return new if new is not None and new.lower() != text.lower() else None


def _one(table: tuple[tuple[Edit, float], ...], text: str, dice: random.Random) -> str | None:
    order = sorted(table, key=lambda pair: dice.random() ** (1 / pair[1]), reverse=True)
    for edit, _ in order:
        new = edit(text, dice)
        if new is not None and new != text:
            return new
    return None
