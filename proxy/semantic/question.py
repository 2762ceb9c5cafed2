"""May a question be compared with others by meaning: what it is written in, and what it is about. Pure."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import resources

from proxy.model import Apart
from proxy.values import value


@value
class Question:
    """A last user turn that may be compared by meaning with others of its scope."""

    text: str
    scope: str
    """A letter for its class and the digest of everything in the request but its text."""

    @property
    def kind(self) -> str:
        """The class of its scope: one calibration for each."""
        return KINDS[self.scope[:1]]


KINDS = {"p": "plain", "d": "dialogue", "t": "tools"}
"""Classes of scopes: a question by itself, one within a conversation, one to a model with tools at hand."""

MAX_WORD_CHARS = 40
"""No word is that long: base64, a digest, a link with a query."""

MAX_SYMBOLS_SHARE = 0.2
"""Above this share of brackets and operators a text is code, or a table."""

MAX_FOREIGN_LETTERS = 2
"""Of a script that the model was not trained on: the pi of a formula, not a sentence."""


def apart(text: str, *, max_chars: int, fresh: bool, personal: bool) -> Apart | None:
    """Why *text* must not be compared by meaning, or None.

    *fresh* and *personal* allow what is about the moment and what holds data of a person.
    """
    # The length first: whatever comes after it is linear in it.
    if len(text) > max_chars:
        return Apart.TOO_LONG
    if not any(map(str.isalnum, text)):
        return Apart.EMPTY
    if not _UNPRINTABLE.isdisjoint(text) or not _writable(text):
        return Apart.CONTROLS
    if _foreign_letters(text) > MAX_FOREIGN_LETTERS:
        return Apart.SCRIPT
    words = text.split()
    if max(map(len, words)) > MAX_WORD_CHARS or len(_SYMBOL.findall(text)) > MAX_SYMBOLS_SHARE * len("".join(words)):
        return Apart.CODE
    if _in_another_language(text):
        return Apart.LANGUAGE
    if not personal and _PERSONAL.search(text):
        return Apart.PERSONAL
    if not fresh and _FRESH.search(text):
        return Apart.FRESH
    return None


def symbols(text: str) -> Sequence[str]:
    """Everything in *text* that is no Latin letter, digit or common punctuation, in its order.

    Two questions that differ in one of these are different whatever their vectors say: the model hardly knows them.
    """
    return _UNCOMMON.findall(text)


_UNPRINTABLE = frozenset(
    [chr(code) for code in (*range(9), 11, 12, *range(14, 32), *range(127, 160))]
    # Marks of direction, joiners, invisible operators, the tags that hide text in plain sight.
    + [chr(code) for code in (0xAD, 0x61C, 0xFEFF, *range(0x200B, 0x2010), *range(0x202A, 0x202F))]
    + [chr(code) for code in (*range(0x2060, 0x2070), *range(0xFFF0, 0xFFFE), *range(0xE0000, 0xE0080))]
)


def _writable(text: str) -> bool:
    """Without lone halves of surrogate pairs."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


_UNCOMMON = re.compile(
    "[^\\s0-9A-Za-z\u00aa\u00b4\u00b5\u00ba\u00c0-\u024f\u1e00-\u1eff\u2010-\u2015\u2018-\u201f\u2026!-/:-@\\[-`{-~]"
)
_SYMBOL = re.compile(r"[{}()\[\];=<>\\|&$#@_^~*/+]")


def _foreign_letters(text: str) -> int:
    return sum(char.isalpha() for char in symbols(text)) if not text.isascii() else 0


def _small_words() -> Mapping[str, frozenset[str]]:
    """The lists of the shipped file, by their heading."""
    lists: dict[str, set[str]] = {"english": set(), "elsewhere": set()}
    heading = ""
    for line in (resources.files("proxy") / "data" / "small_words.txt").read_text(encoding="utf-8").splitlines():
        if line.strip() in lists:
            heading = line.strip()
        elif line and not line.startswith("#"):
            lists[heading].update(line.split())
    return {name: frozenset(words) for name, words in lists.items()}


_SMALL = _small_words()
_ENGLISH, _ELSEWHERE = _SMALL["english"], _SMALL["elsewhere"]
"""What English says all the time, and what other languages in Latin letters say that English does not."""

_ACCENTS = str.maketrans("äàáâãåçéèêëíìîïñöòóôõøüùúûýÿßæœł", "aaaaaaceeeeiiiinoooooouuuuyysaol")
_WORDS = re.compile(r"[^\W\d_]+")

FEW_WORDS = 6
"""So many words without one of English's small ones are English only as a list of search terms."""


def _in_another_language(text: str) -> bool:
    """A guess, by the small words: what it wrongly keeps out costs a hit."""
    words = _WORDS.findall(text.lower())
    english = sum(word in _ENGLISH for word in words)
    elsewhere = sum(word.translate(_ACCENTS) in _ELSEWHERE for word in words)
    if elsewhere > english:
        return elsewhere >= 2 or english == 0
    accented = sum(not word.isascii() for word in words)
    return english == 0 and (accented * 3 >= max(3, len(words)) or len(words) >= FEW_WORDS)


_FRESH = re.compile(
    r"""(?ix)\b(?:
      today | tonight | tomorrow | yesterday | currently | nowadays | upcoming
    | (?:right|just|by|until|as\ of)\ now | now(?=\W*$)
    | (?:this|last|past|next|coming)\ (?:second|minute|hour|morning|afternoon|evening|night|day|week|weekend|month
        |quarter|year|season|monday|tuesday|wednesday|thursday|friday|saturday|sunday)
    | (?:current|latest|newest|up[- ]to[- ]date|breaking)
    | (?:most\ )?recent\ (?:news|events?|versions?|releases?|updates?|changes)
    | live\ (?:scores?|updates?|results?|stream|coverage)
    | what\ (?:time|date|day)\ is\ it
    | what(?:'s|\ is)\ the\ (?:time|date)
    | news | headlines | weather | forecast | (?:stock|share)\ prices? | exchange\ rates? | (?:minutes|hours|days)\ ago
    )\b"""
)
"""What is about the moment: the same words have another answer tomorrow."""

_PERSONAL = re.compile(
    r"""(?ix)
      [\w.+-]+@[\w-]+\.[\w.-]+                                   # an address for mail
    | (?<![\w.])\+?\d(?:[\s().-]?\d){8,}(?!\w)                   # telephone, card, account: nine digits and more
    | \b\d{3}-\d{2}-\d{4}\b                                      # social security (US)
    | \b[a-z]{2}\d{2}(?:\s?[a-z0-9]{4}){3,7}(?:\s?[a-z0-9]{1,3})?\b   # IBAN
    | \bmy\ (?:full\ |last\ |first\ |user\s?)?name\ is\b | \b(?:i\ am|i'm)\ (?:mr|mrs|ms|dr)\b
    | \bmy\ (?:\w+\ ){1,2}(?:number|code|no\.?|id)\ is\b | \bmy\ (?:password|passcode|pin|address|birthday)\ is\b
    | \bmy\ (?:\w+\ ){1,3}is\W+\d{4} | \bborn\ on\b | \b(?:ssn|iban)\b\W*\d
    """
)


@lru_cache(4096)
def known_words(text: str) -> frozenset[str]:
    """The words of *text*, for a look at how much two texts have in common."""
    return frozenset(_WORDS.findall(text.lower())) - _ENGLISH
