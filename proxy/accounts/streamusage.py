"""The usage of a stream whose client did not ask for it: asked for by splice, and taken out of the stream again."""

import json
import re
from collections.abc import Mapping

from proxy import sse
from proxy.accounts.usage import Usage, read_usage
from proxy.members import members
from proxy.sse import Frame, Reader

OPTIONS = "stream_options"
_ASKS = '"include_usage":true'

_NULL = re.compile(rb',\s*"usage"\s*:\s*null|"usage"\s*:\s*null\s*,\s*')
"""In a string the quotes would stand behind backslashes."""


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

    An event is passed on when it is whole.
    """

    def __init__(self) -> None:
        self._reader = Reader()
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
        return b"".join([self._sift(frame) for frame in frames]) + rest

    def _sift(self, frame: Frame) -> bytes:
        data = frame.data
        if data is None or b'"usage"' not in data:
            return frame.raw
        try:
            chunk = json.loads(data)
        except (ValueError, RecursionError):
            return frame.raw
        if not isinstance(chunk, dict) or "usage" not in chunk:
            return frame.raw
        usage = chunk["usage"]
        if usage is None:
            cut, times = _NULL.subn(b"", data)
            # More than one: which of them is the chunk's own cannot be told by looking.
            return sse.with_data(frame, cut) if times == 1 else frame.raw
        if isinstance(usage, Mapping):
            self.usage = read_usage(usage) or self.usage
            # Where it stands beside a choice the provider sends it to everybody, asked or not.
            if not chunk.get("choices"):
                return sse.comments(frame)
        return frame.raw
