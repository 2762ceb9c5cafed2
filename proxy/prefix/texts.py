"""The same two ideas for use without a proxy: texts that others begin with, and system prompts with their uses."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from proxy.tokens.estimate import estimate_text


class Prefixes:
    """Texts, of which the longest that a prompt begins with is found. The one used longest ago makes room."""

    def __init__(self, *, capacity: int = 100, min_length: int = 100) -> None:
        self._capacity = capacity
        self._min_length = min_length
        self._texts: OrderedDict[str, int] = OrderedDict()
        self._lengths: dict[int, int] = {}
        self.hits = 0
        self.misses = 0

    def __repr__(self) -> str:
        return f"<Prefixes, {len(self._texts)} texts>"

    def __len__(self) -> int:
        return len(self._texts)

    def add(self, text: str) -> bool:
        """Know *text*; False where it is shorter than the least length."""
        if len(text) < self._min_length:
            return False
        if text not in self._texts:
            while len(self._texts) >= self._capacity:
                self._forget(next(iter(self._texts)))
            self._texts[text] = 0
            self._lengths[len(text)] = self._lengths.get(len(text), 0) + 1
        self._texts.move_to_end(text)
        return True

    def _forget(self, text: str) -> None:
        del self._texts[text]
        self._lengths[len(text)] -= 1
        if not self._lengths[len(text)]:
            del self._lengths[len(text)]

    def longest(self, prompt: str) -> str | None:
        """The longest known text that *prompt* begins with. Counts a hit or a miss."""
        for length in sorted(self._lengths, reverse=True):
            text = prompt[:length]
            if length <= len(prompt) and text in self._texts:
                self.hits += 1
                self._texts[text] += 1
                self._texts.move_to_end(text)
                return text
        self.misses += 1
        return None


@dataclass(slots=True)
class Use:
    """One system prompt and how it was used."""

    prompt: str
    tokens: int
    """Estimated."""
    first_s: float
    last_s: float
    uses: int = 0


class KnownPrompts:
    """System prompts by their text, with their uses. The one used least makes room."""

    def __init__(self, *, capacity: int = 50, now: Callable[[], float]) -> None:
        self._capacity = capacity
        self._now = now
        self._known: dict[str, Use] = {}

    def __repr__(self) -> str:
        return f"<KnownPrompts, {len(self._known)}>"

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, prompt: str) -> bool:
        return prompt in self._known

    def use(self, prompt: str) -> Use:
        """*prompt* is used once more."""
        now = self._now()
        found = self._known.get(prompt)
        if found is None:
            if len(self._known) >= self._capacity:
                del self._known[min(self._known.values(), key=lambda use: (use.uses, use.last_s)).prompt]
            found = self._known[prompt] = Use(prompt, estimate_text(prompt), now, now)
        found.uses += 1
        found.last_s = now
        return found

    def uses(self) -> list[Use]:
        """All of them, the most used first."""
        return sorted(self._known.values(), key=lambda use: -use.uses)
