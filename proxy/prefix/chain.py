"""A prompt as a chain of block digests: two prompts have as many digests in common as they have blocks in common."""

import struct
from hashlib import blake2b

from proxy.prefix.prompt import Prompt
from proxy.values import value

BLOCK_OCTETS = 1024
"""About 256 tokens. A block also ends where a segment ends, so that whole messages are told apart to the octet."""

DIGEST_OCTETS = 8
"""Two of a million prefixes collide with a chance of 3 in 10^8, and a collision costs a wrong forecast, no more."""


@value
class Chain:
    """The digests of all prefixes of one prompt that end with a block."""

    digests: tuple[bytes, ...]
    ends: tuple[int, ...]
    """How many octets of the prompt each covers."""
    bounds: tuple[int, ...]
    """For each segment, how many blocks the prompt has up to its end."""

    @property
    def octets(self) -> int:
        """The length of the prompt."""
        return self.ends[-1] if self.ends else 0

    def upto(self, blocks: int) -> int:
        """How many octets the first *blocks* cover."""
        return self.ends[blocks - 1] if blocks else 0


def chain_of(prompt: Prompt, *, salt: bytes) -> Chain:
    """The chain of *prompt*; the same prompt under another *salt* (a tenant, a model's settings) shares no digest."""
    running = blake2b(salt, digest_size=DIGEST_OCTETS)
    digests: list[bytes] = []
    ends: list[int] = []
    bounds: list[int] = []
    before = 0
    for segment in prompt.segments:
        octets = segment.octets
        # A role is part of what is rendered; the zeros keep it from running into the text.
        running.update(b"\0%b\0%b\0" % (segment.part.encode(), segment.role.encode("utf-8", "replace")[:64]))
        for start in range(0, len(octets), BLOCK_OCTETS):
            block = octets[start : start + BLOCK_OCTETS]
            running.update(block)
            digests.append(running.copy().digest())
            ends.append(before + start + len(block))
        before += len(octets)
        bounds.append(len(digests))
    return Chain(digests=tuple(digests), ends=tuple(ends), bounds=tuple(bounds))


def salt_of(secret: bytes, *parts: bytes) -> bytes:
    """What sets the chains of one tenant, upstream and model apart from all others, and tells none of them."""
    lengths = struct.pack(f">{len(parts)}Q", *map(len, parts))
    return blake2b(lengths + b"".join(parts), key=secret[:64], digest_size=16).digest()


def salt_for(secret: bytes, prompt: Prompt, *, tenant: str, upstream: bytes) -> bytes:
    """The salt of *prompt*: whose it is, where it goes, and the settings that providers keep prompts apart by."""
    told = [part.encode("utf-8", "surrogatepass") for pair in prompt.settings for part in pair]
    return salt_of(secret, upstream, tenant.encode(), prompt.model.encode("utf-8", "surrogatepass"), *told)
