"""The usage of a stream whose client did not ask for it: asked for by splice, and taken out of the stream again."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace

from proxy import sse
from proxy.accounts.usage import Usage, read_usage
from proxy.members import members
from proxy.sse import Frame, Reader

OPTIONS = "stream_options"
_ASKS = '"include_usage":true'

_NULL = re.compile(rb',\s*"usage"\s*:\s*null|"usage"\s*:\s*null\s*,\s*')
"""In a string the quotes would stand behind backslashes."""

_CLOSING = re.compile(rb'"finish_reason"\s*:\s*"')
_LLAMA_CPP = re.compile(rb'"system_fingerprint"\s*:\s*"b[0-9]+-')
"""A stream of llama.cpp's server: it names its build."""

TIMINGS = "timings"
"""What llama.cpp puts into the last chunk of a stream, whichever that is: the one with the usage where that was asked
for, else the one with the reason to finish."""


def ask(body: bytes) -> bytes | None:
    """*body*, a request for a stream, asking for the usage too, and else as it stood; None where that cannot be said.

    It cannot where the request says itself what it wants, or something that nobody knows.
    """
    try:
        text = body.decode("utf-8")
        found = list(members(text))
    except (ValueError, IndexError, RecursionError):
        return None
    named = [member for member in found if member[0] == OPTIONS]
    if not named and found:
        start = found[0][1]
        return f'{text[:start]}"{OPTIONS}":{{{_ASKS}}},{text[start:]}'.encode()
    if len(named) != 1:
        return None
    _, start, end, value = named[0]
    if not isinstance(value, dict) or "include_usage" in value:
        return None
    opens = text.index("{", start, end) + 1
    comma = "," if value else ""
    return f"{text[:opens]}{_ASKS}{comma}{text[opens:]}".encode()


class Sieve:
    """Takes the usage out of a stream that comes in pieces: what is left is the stream that nobody had asked for it.

    An event is passed on when it is whole; but llama.cpp's last one only with the next, which holds a part of it. Those
    two are sent at once.
    """

    def __init__(self) -> None:
        self._reader = Reader()
        self._held: Frame | None = None
        """The last chunk of llama.cpp's, until the one with its usage comes."""
        self.usage: Usage | None = None
        """What the stream told of it so far."""

    def __repr__(self) -> str:
        return f"<Sieve, {'with' if self.usage is not None else 'without'} the usage>"

    def feed(self, piece: bytes) -> bytes:
        """What of the events that *piece* makes whole is for the client."""
        return b"".join([self._sift(frame) for frame in self._reader.feed(piece)])

    def finish(self) -> bytes:
        """What is left of a stream that is over."""
        frames, rest = self._reader.finish()
        sifted = b"".join([self._sift(frame) for frame in frames])
        held, self._held = self._held, None
        return sifted + (held.raw if held is not None else b"") + rest

    def _sift(self, frame: Frame) -> bytes:
        """What is for the client now that *frame* has come."""
        held, self._held = self._held, None
        usage, left = _without_usage(frame)
        self.usage = usage or self.usage
        if left is None:
            return (_with_timings(held, frame) if held is not None else b"") + sse.comments(frame)
        before = held.raw if held is not None else b""
        if left.data is not None and _CLOSING.search(left.data) and _LLAMA_CPP.search(left.data):
            self._held = left
            return before
        return before + left.raw


def _without_usage(frame: Frame) -> tuple[Usage | None, Frame | None]:
    """The usage that *frame* tells, and *frame* as it comes to those who did not ask; None where none comes to them."""
    data = frame.data
    if data is None or b'"usage"' not in data:
        return None, frame
    try:
        chunk = json.loads(data)
    except (ValueError, RecursionError):
        return None, frame
    if not isinstance(chunk, dict) or "usage" not in chunk:
        return None, frame
    usage = chunk["usage"]
    if usage is None:
        cut, times = _NULL.subn(b"", data)
        # More than one: which of them is the chunk's own cannot be told by looking.
        return None, replace(frame, raw=sse.with_data(frame, cut), data=cut) if times == 1 else frame
    if not isinstance(usage, Mapping):
        return None, frame
    # Where it stands beside a choice the provider sends it to everybody, asked or not.
    return read_usage(usage), frame if chunk.get("choices") else None


def _with_timings(last: Frame, asked: Frame) -> bytes:
    """*last*, llama.cpp's last chunk but for the one *asked* for, with the timings that would have stood in it."""
    if last.data is None or asked.data is None:
        return last.raw
    try:
        text, behind = last.data.decode(), asked.data.decode()
        own = list(members(text))
        found = [behind[start:end] for name, start, end, _ in members(behind) if name == TIMINGS]
    except (ValueError, IndexError, RecursionError):
        return last.raw
    if len(found) != 1 or TIMINGS in {name for name, *_ in own}:
        return last.raw
    _, _, end, _ = own[-1]
    return sse.with_data(last, f"{text[:end]},{found[0]}{text[end:]}".encode())
