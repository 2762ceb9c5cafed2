"""What many prompts begin with, and what was made of it: for those who run the model and hold its state themselves."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from proxy.guide.hand import Found

T = TypeVar("T")


@dataclass(slots=True)
class _Kept(Generic[T]):
    text: str
    state: T
    uses: int = 0


class PrefixCache(Generic[T]):
    """States of a model by the prefix that led to it. Of many that fit, the longest is found.

    The least used gives way, of equals the one that came first.
    """

    def __init__(self, max_entries: int = 100, min_prefix_length: int = 100) -> None:
        self.max_entries = max_entries
        self.min_prefix_length = min_prefix_length
        self._kept: OrderedDict[bytes, _Kept[T]] = OrderedDict()
        self._found = Found()

    def __repr__(self) -> str:
        return f"<PrefixCache, {len(self._kept)} prefixes>"

    def find_cached_prefix(self, prompt: str) -> tuple[str, T] | None:
        """The longest prefix of *prompt* that is kept, and its state."""
        best: _Kept[T] | None = None
        running, at = hashlib.sha256(), 0
        # One pass over the prompt, whatever the number of lengths.
        for length in sorted({len(kept.text) for kept in self._kept.values()}):
            if length > len(prompt):
                break
            running.update(_octets(prompt[at:length]))
            at = length
            best = self._kept.get(running.digest(), best)
        self._found.count(hit=best is not None)
        if best is None:
            return None
        best.uses += 1
        return best.text, best.state

    def cache_prefix(self, prefix: str, kv_cache: T) -> None:
        """Keep *kv_cache*, the state after *prefix*; a prefix that is too short is not worth it."""
        if len(prefix) < self.min_prefix_length:
            return
        digest = hashlib.sha256(_octets(prefix)).digest()
        known = self._kept.get(digest)
        if known is None and len(self._kept) >= self.max_entries:
            del self._kept[min(self._kept, key=lambda each: self._kept[each].uses)]
        self._kept[digest] = _Kept(prefix, kv_cache, known.uses if known is not None else 0)

    def get_stats(self) -> dict[str, object]:
        """``entries``, ``hits``, ``misses``, ``hit_rate``."""
        return {"entries": len(self._kept), **self._found.shown()}


class SystemPromptCache(Generic[T]):
    """What was made of system prompts, the least used of *max_prompts* giving way."""

    def __init__(self, max_prompts: int = 50) -> None:
        self.max_prompts = max_prompts
        self._contexts: OrderedDict[str, _Kept[T]] = OrderedDict()
        self._found = Found()

    def __repr__(self) -> str:
        return f"<SystemPromptCache, {len(self._contexts)} prompts>"

    def get_or_create(self, system_prompt: str, create_fn: Callable[[str], T]) -> T:
        """What *create_fn* made of *system_prompt*, now or before."""
        known = self._contexts.get(system_prompt)
        self._found.count(hit=known is not None)
        if known is not None:
            known.uses += 1
            return known.state
        made = create_fn(system_prompt)
        if len(self._contexts) >= self.max_prompts:
            del self._contexts[min(self._contexts, key=lambda each: self._contexts[each].uses)]
        self._contexts[system_prompt] = _Kept(system_prompt, made)
        return made

    def get_stats(self) -> dict[str, object]:
        """``entries``, ``hits``, ``misses``, ``hit_rate``."""
        return {"entries": len(self._contexts), **self._found.shown()}


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
