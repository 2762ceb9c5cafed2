"""A text as the guards see it, made once for each text."""

from dataclasses import dataclass, field
from decimal import Decimal

from proxy.guards import names, numbers
from proxy.guards.negation import negations
from proxy.guards.tables import SOFTLY_NEGATIVE, STOPWORDS
from proxy.guards.text import SHORT_WORDS, Word, words_of


@dataclass(frozen=True, slots=True)
class Parsed:
    """The words of one text, and what the guards look for in them."""

    words: tuple[Word, ...] = field(repr=False)
    stems: tuple[str, ...]
    content: tuple[str, ...]
    """Stems of the words that carry what is asked, in order."""
    known: frozenset[str] = field(repr=False)
    """All stems."""
    numbers: tuple[tuple[Decimal, str, str], ...]
    identifiers: tuple[str, ...]
    names: tuple[str, ...]
    negations: tuple[str, ...]
    softly_negative: tuple[str, ...]
    """Words that may stand for a negation: ``unable``, ``fail``, ``without``."""

    @property
    def short(self) -> bool:
        """One plain question, in which a word that differs is the difference."""
        return len(self.words) <= SHORT_WORDS


def parse(text: str) -> Parsed:
    """What the guards see of *text*."""
    words = words_of(text)
    stems = tuple(word.stem for word in words)
    return Parsed(
        words=words,
        stems=stems,
        content=tuple(word.stem for word in words if word.lower not in STOPWORDS and word.kind != "sign"),
        known=frozenset(stems),
        numbers=numbers.numbers_of(words),
        identifiers=tuple(dict.fromkeys(word.lower for word in words if word.kind in ("mixed", "address", "path"))),
        names=names.names_of(words),
        negations=negations(words),
        softly_negative=tuple(word.lower for word in words if word.stem in SOFTLY_NEGATIVE),
    )
