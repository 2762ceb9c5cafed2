"""A stream of chunks as chat and legacy completions send it: reading it for re-writing, trimming, ending."""

from collections.abc import Iterable
from dataclasses import dataclass

from proxy import sse
from proxy.dialects import jsontext
from proxy.dialects.choices import DONE
from proxy.dialects.pieces import Unfaithful
from proxy.model import Form

# What a chunk repeats of every other chunk; anything else in the usage chunk is said there alone.
_REPEATED = frozenset({"id", "object", "created", "model", "choices", "usage", "obfuscation"})


@dataclass(frozen=True, slots=True)
class Chunk:
    """A frame and the object it carries; None for comments and ``[DONE]``."""

    frame: sse.Frame
    value: dict[str, object] | None

    @property
    def has_choices(self) -> bool:
        """Whether it speaks of a choice."""
        return self.value is not None and bool(self.value.get("choices"))

    @property
    def has_usage(self) -> bool:
        """Whether it carries the usage, not merely its ``null``."""
        return self.value is not None and isinstance(self.value.get("usage"), dict)


def read(body: bytes) -> tuple[list[Chunk], bytes]:
    """The chunks of a whole stream that can be re-written, and what stands after the last frame."""
    frames, rest = sse.read(body)
    chunks: list[Chunk] = []
    done = False
    for frame in frames:
        if frame.data is None:
            chunks.append(Chunk(frame, None))
        elif frame.data.strip() == DONE:
            chunks.append(Chunk(frame, None))
            done = True
        elif done:
            raise Unfaithful("something follows [DONE]")
        else:
            value = jsontext.read(frame.data, unique=True)
            if not isinstance(value, dict):
                raise Unfaithful("a chunk is not an object")
            chunks.append(Chunk(frame, value))
    if not done:
        raise Unfaithful("the stream has no [DONE]")
    return chunks, rest


def objects(body: bytes) -> list[object]:
    """The chunk objects of a stream that ends in ``[DONE]``."""
    chunks, rest = read(body)
    if rest.strip():
        raise Unfaithful("the stream breaks off after [DONE]")
    return [chunk.value for chunk in chunks if chunk.value is not None]


def trim(body: bytes, have: Form, want: Form) -> bytes:
    """The stream in *body* without the usage and the padding that *want* does not ask for."""
    chunks, rest = read(body)
    if want.include_usage and not have.include_usage and not _tells_usage(chunks):
        raise Unfaithful("the usage was not recorded")
    drops = {"usage"} if have.include_usage and not want.include_usage else set()
    if have.obfuscation and not want.obfuscation:
        drops.add("obfuscation")
    last = max((at for at, chunk in enumerate(chunks) if chunk.has_choices), default=None)
    moved: dict[str, object] = {}
    if "usage" in drops:
        for chunk in chunks:
            if chunk.value is not None and _only_usage(chunk):
                moved.update((name, said) for name, said in chunk.value.items() if name not in _REPEATED)
    if moved and last is None:
        raise Unfaithful("the usage chunk says more than the usage, and nothing else can carry it")
    kept: list[bytes] = []
    for at, chunk in enumerate(chunks):
        if chunk.value is None:
            kept.append(chunk.frame.raw)
        elif "usage" in drops and _only_usage(chunk):
            kept.append(sse.comments(chunk.frame))
        else:
            value = {name: said for name, said in chunk.value.items() if name not in drops}
            if at == last:
                # llama.cpp, say, puts its timings into the last chunk that there is: without usage, this one.
                value |= {name: said for name, said in moved.items() if name not in value}
            kept.append(chunk.frame.raw if value == chunk.value else sse.with_data(chunk.frame, jsontext.write(value)))
    return b"".join(kept) + rest


def framed(values: Iterable[dict[str, object]]) -> bytes:
    """A stream of *values*, ended as the API documents it."""
    return b"".join(sse.event(jsontext.write(value)) for value in values) + sse.event(DONE)


def _only_usage(chunk: Chunk) -> bool:
    return chunk.has_usage and not chunk.has_choices


def _tells_usage(chunks: list[Chunk]) -> bool:
    # Some providers send the usage whether or not it was asked for.
    return any(chunk.has_usage for chunk in chunks)
