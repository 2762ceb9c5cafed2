"""Text to token ids, as BERT's uncased WordPiece does it.

Forty lines instead of a dependency that brings a download client along; tests hold it against that dependency.
"""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

MAX_WORD_CHARS = 100
"""A longer run without a space is one unknown token, as in the reference."""

KNOWN_WORDS = 16384
"""Words whose pieces are remembered."""

PUNCTUATION, SPACE, DROPPED, IDEOGRAPH, PLAIN = range(5)

_IDEOGRAPHS = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B920, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


@dataclass(frozen=True, slots=True)
class Tokens:
    """A text as the model reads it, without the marks at its ends."""

    ids: tuple[int, ...]
    unknown: int
    """How many of them are the unknown token: script or symbols that the model has never seen."""
    cut: bool
    """The text went on."""


class WordPiece:
    """Greedy longest-match pieces of lower-cased words, over the vocabulary *vocab*."""

    def __init__(self, vocab: Mapping[str, int]) -> None:
        self._vocab = vocab
        self.unknown = vocab["[UNK]"]
        self.start = vocab["[CLS]"]
        self.end = vocab["[SEP]"]
        self._pieces = lru_cache(KNOWN_WORDS)(self._split)

    def __repr__(self) -> str:
        return f"<WordPiece, {len(self._vocab)} pieces>"

    def tokens(self, text: str, *, limit: int) -> Tokens:
        """The first *limit* tokens of *text*."""
        ids: list[int] = []
        # No word gives less than a token for each hundred characters, so what lies far behind the limit is never read.
        words = basic(text[: limit * MAX_WORD_CHARS * 2])
        for word in words:
            ids += self._pieces(word)
            if len(ids) > limit:
                break
        kept = tuple(ids[:limit])
        return Tokens(kept, kept.count(self.unknown), len(ids) > limit)

    def _split(self, word: str) -> tuple[int, ...]:
        if len(word) > MAX_WORD_CHARS:
            return (self.unknown,)
        ids: list[int] = []
        begin = 0
        while begin < len(word):
            for end in range(len(word), begin, -1):
                piece = word[begin:end] if begin == 0 else f"##{word[begin:end]}"
                found = self._vocab.get(piece)
                if found is not None:
                    ids.append(found)
                    begin = end
                    break
            else:
                return (self.unknown,)
        return tuple(ids)


def basic(text: str) -> list[str]:
    """The words and the single punctuation marks of *text*, in lower case and without accents."""
    spaced: list[str] = []
    for char in text:
        kind = _kind(char)
        if kind in (PLAIN, PUNCTUATION):
            spaced.append(char)
        elif kind == SPACE:
            spaced.append(" ")
        elif kind == IDEOGRAPH:
            spaced.append(f" {char} ")
    bare = "".join(spaced)
    if not bare.isascii():
        bare = "".join(char for char in unicodedata.normalize("NFD", bare) if unicodedata.category(char) != "Mn")
        # The reference lowers character by character: a final sigma is a sigma.
        bare = bare.replace("Σ", "σ")
    bare = bare.lower()
    words: list[str] = []
    for run in bare.split():
        if run.isalnum():
            words.append(run)
            continue
        begin = 0
        for at, char in enumerate(run):
            if _kind(char) == PUNCTUATION:
                if begin < at:
                    words.append(run[begin:at])
                words.append(char)
                begin = at + 1
        if begin < len(run):
            words.append(run[begin:])
    return words


@lru_cache(8192)
def _kind(char: str) -> int:
    code = ord(char)
    if char in "\t\n\r ":
        return SPACE
    if 33 <= code <= 47 or 58 <= code <= 64 or 91 <= code <= 96 or 123 <= code <= 126:
        return PUNCTUATION
    if code in (0, 0xFFFD):
        return DROPPED
    category = unicodedata.category(char)
    if category[0] == "C":
        return DROPPED
    if category[0] == "Z":
        return SPACE
    if category[0] == "P":
        return PUNCTUATION
    if any(first <= code <= last for first, last in _IDEOGRAPHS):
        return IDEOGRAPH
    return PLAIN
