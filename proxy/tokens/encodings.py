"""Which tokenizer counts for which model, and the tokenizers themselves: loaded when first needed, never downloaded."""

import re
import threading
from collections import OrderedDict
from collections.abc import Mapping
from enum import StrEnum
from hashlib import blake2b
from pathlib import Path
from types import MappingProxyType

import tiktoken

from proxy.tokens.estimate import estimate_text
from proxy.tokens.ranks import DATA, RANK_FILES, cache_directory, load_ranks


class EncodingName(StrEnum):
    """The vocabularies we can count with."""

    CL100K = "cl100k_base"
    """gpt-4, gpt-3.5, embeddings."""
    O200K = "o200k_base"
    """Everything since gpt-4o. o200k_harmony has the same ranks and further special tokens, which text never becomes:
    one encoding counts for both and spares 70 MB."""
    P50K = "p50k_base"
    """text-davinci-002 and -003, code models."""
    R50K = "r50k_base"
    """The first generation. Its ranks are those of p50k_base without the 24 tokens for runs of spaces."""


# The patterns by which a text is cut before merging: facts of the vocabularies, as published in tiktoken_ext. They are
# repeated here because getting them from tiktoken would start its downloader; a test compares.
_GPT2_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
_CL100K_PATTERN = (
    r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|"""
    r"""\s*[\r\n]|\s+(?!\S)|\s"""
)
_O200K_PATTERN = "|".join(
    (
        r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
        r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
        r"""\p{N}{1,3}""",
        r""" ?[^\s\p{L}\p{N}]+[\r\n/]*""",
        r"""\s*[\r\n]+""",
        r"""\s+(?!\S)""",
        r"""\s+""",
    )
)
PATTERNS: Mapping[EncodingName, str] = MappingProxyType(
    {
        EncodingName.CL100K: _CL100K_PATTERN,
        EncodingName.O200K: _O200K_PATTERN,
        EncodingName.P50K: _GPT2_PATTERN,
        EncodingName.R50K: _GPT2_PATTERN,
    }
)

# p50k_base numbers its additional tokens from here on.
FIRST_P50K_ADDITION = 50256

# tiktoken's regular expression overflows its stack on a run of about a million letters without a break (a panic, and
# quadratic time long before); text in pieces of this size costs at most a token per cut.
PIECE_CHARACTERS = 64 * 1024

# Counts are remembered for texts longer than this; shorter ones are counted faster than found.
MEMO_FROM_CHARACTERS = 256
MEMO_ITEMS = 8192

_SURROGATE = re.compile("[\ud800-\udfff]")


class Tokenizers:
    """Counts tokens of texts. Loads a vocabulary when it is first needed; safe to use from several threads.

    `load` takes up to half a second and 80 MB: call it in a thread, ahead of need. What cannot be loaded is not tried
    again, and its texts are estimated.
    """

    def __init__(self, *, data: Path = DATA, cache: Path | None = None) -> None:
        """Take packed ranks from *data*, or verified files in the directory *cache* (tiktoken's own, if None)."""
        self._data = data
        self._cache = cache if cache is not None else cache_directory()
        self._encodings: dict[EncodingName, tiktoken.Encoding | None] = {}
        self._loading = threading.Lock()
        self._memo: OrderedDict[bytes, int] = OrderedDict()
        self._memo_lock = threading.Lock()

    def __repr__(self) -> str:
        names = ", ".join(name if encoding else f"no {name}" for name, encoding in self._encodings.items())
        return f"<Tokenizers {names or 'none loaded'}, {len(self._memo)} counts remembered>"

    def tried(self, name: EncodingName) -> bool:
        """Counting with *name* will not stop to load: it is loaded, or is known to be missing."""
        return name in self._encodings

    def load(self, name: EncodingName) -> bool:
        """Load the vocabulary *name* unless that was tried before; return whether it is there. Blocks."""
        if name not in self._encodings:
            with self._loading:
                if name not in self._encodings:
                    self._encodings[name] = self._read(name)
        return self._encodings[name] is not None

    def count(self, text: str, name: EncodingName) -> int:
        """Return how many tokens *text* has; an estimate if the vocabulary cannot be loaded.

        Special tokens written in a text are text to the provider, and are counted as such.
        """
        if len(text) < MEMO_FROM_CHARACTERS:
            return self._count(text, name)
        key = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16, person=name.encode()).digest()
        with self._memo_lock:
            known = self._memo.get(key)
            if known is not None:
                self._memo.move_to_end(key)
                return known
        count = self._count(text, name)
        with self._memo_lock:
            self._memo[key] = count
            if len(self._memo) > MEMO_ITEMS:
                self._memo.popitem(last=False)
        return count

    def _count(self, text: str, name: EncodingName) -> int:
        if not text:
            return 0
        self.load(name)
        encoding = self._encodings[name]
        if encoding is None:
            return estimate_text(text)
        # JSON may hold half a surrogate pair, which is no text in UTF-8; providers replace it.
        clean = _SURROGATE.sub("\ufffd", text)
        return sum(
            len(encoding.encode_ordinary(clean[start : start + PIECE_CHARACTERS]))
            for start in range(0, len(clean), PIECE_CHARACTERS)
        )

    def _read(self, name: EncodingName) -> tiktoken.Encoding | None:
        source = EncodingName.P50K if name is EncodingName.R50K else name
        ranks = load_ranks(RANK_FILES[source], data=self._data, cache=self._cache)
        if ranks is None:
            return None
        if name is EncodingName.R50K:
            ranks = {token: rank for token, rank in ranks.items() if rank < FIRST_P50K_ADDITION}
        # No special tokens: `encode_ordinary` never makes one.
        return tiktoken.Encoding(name.value, pat_str=PATTERNS[name], mergeable_ranks=ranks, special_tokens={})
