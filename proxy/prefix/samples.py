"""Prompts kept a while to compare others with: in memory only, few of a kind, bounded; found by what they share."""

import heapq
import re
from collections import OrderedDict
from dataclasses import replace
from hashlib import blake2b
from zlib import crc32

from proxy.prefix.prompt import Part, Prompt
from proxy.values import value

SKETCH = 8
"""Smallest hashes of a prompt's pieces that stand for it: two prompts share about as many as they share text."""

LEAST_SHARED = 2

MAX_FAMILIES = 128
PER_FAMILY = 4
MAX_SAMPLE_OCTETS = 64 * 1024
"""A longer prompt is kept up to here; what lies behind is not compared."""

MAX_SKETCHED_OCTETS = 16 * 1024

LONG_TURN_OCTETS = 512

_WORD = re.compile(rb"[0-9A-Za-z_\x80-\xff]+")

Sketch = frozenset[int]


@value
class Sample:
    """A prompt that was sent."""

    prompt: Prompt
    at_s: float
    tokens: int
    """What the provider counted for all of it."""


class Family:
    """Prompts of one application, as far as we can tell: they share pieces of their text."""

    __slots__ = ("name", "samples", "sketch")

    def __init__(self, name: str, sketch: Sketch) -> None:
        self.name = name
        self.sketch = sketch
        self.samples: list[Sample] = []

    def __repr__(self) -> str:
        return f"<Family {self.name}, {len(self.samples)} samples>"

    def keep(self, sample: Sample) -> None:
        """Keep *sample*, in place of the oldest."""
        self.samples.append(sample)
        del self.samples[:-PER_FAMILY]


class Samples:
    """The families of every tenant that were met last."""

    def __init__(self, *, capacity: int = MAX_FAMILIES) -> None:
        self._capacity = capacity
        self._families: OrderedDict[tuple[str, str], Family] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Samples, {len(self._families)} families>"

    def family(self, tenant: str, prompt: Prompt) -> Family:
        """The family of *prompt* among those of *tenant*: the one that it shares most with, or a new one."""
        sketch = sketch_of(prompt)
        best, most = None, LEAST_SHARED - 1
        for (owner, _), family in self._families.items():
            if owner == tenant:
                shared = len(sketch & family.sketch)
                if shared > most:
                    best, most = family, shared
        if best is None:
            name = blake2b(repr(sorted(sketch)).encode() + tenant.encode(), digest_size=6).hexdigest()
            best = self._families.setdefault((tenant, name), Family(name, sketch))
            if len(self._families) > self._capacity:
                self._families.popitem(last=False)
        self._families.move_to_end((tenant, best.name))
        return best


def kept(prompt: Prompt) -> Prompt:
    """*prompt* within ``MAX_SAMPLE_OCTETS``."""
    left, whole = MAX_SAMPLE_OCTETS, 0
    for segment in prompt.segments:
        left -= len(segment.octets)
        if left < 0:
            break
        whole += 1
    return prompt if whole == len(prompt.segments) else replace(prompt, segments=prompt.segments[:whole])


def sketch_of(prompt: Prompt) -> Sketch:
    """The smallest hashes of three words in a row, in what *prompt* begins with: tools, system prompt, first turn.

    A value that changes spoils three of them and leaves the others.
    """
    hashes: set[int] = set()
    left = MAX_SKETCHED_OCTETS
    for segment in prompt.segments[: prompt.head + 1]:
        octets = segment.octets[:left]
        # A short turn is what somebody asks; only long ones, documents, tell which application asks.
        if segment.part is Part.TURN and len(octets) < LONG_TURN_OCTETS:
            break
        left -= len(octets)
        words = _WORD.findall(octets)
        hashes.update(map(crc32, map(b" ".join, zip(words, words[1:], words[2:], strict=False))))
        if left <= 0:
            break
    return frozenset(heapq.nsmallest(SKETCH, hashes))
