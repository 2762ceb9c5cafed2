"""Server-sent events, read as the WHATWG event stream rules say and without losing a byte."""

import re
from dataclasses import dataclass

BOM = b"\xef\xbb\xbf"

_LINE_END = re.compile(rb"\r\n|\n|\r")
_LINE = re.compile(rb"([^\r\n]*)(\r\n|\n|\r)")


@dataclass(frozen=True, slots=True)
class Frame:
    """One block of an event stream, up to and including the blank line that ends it.

    A block of comments alone is a frame without data: it dispatches nothing, but it keeps its place. The bytes of all
    frames, joined, are the stream (less an unfinished last block).
    """

    raw: bytes
    data: bytes | None = None
    """The data lines joined by a line feed; None where there was none, and so no event."""
    name: str = ""
    """The ``event`` field; empty means ``message``."""
    id: str | None = None
    retry: int | None = None


class Reader:
    """Reads a stream that arrives in pieces; however it is split, the frames are the same.

    A CR at the end of a piece may be half of a CRLF, so the line it ends is held until the next byte or `finish`.
    The time taken is linear in the length of the stream, also where one event fills it.
    """

    def __init__(self) -> None:
        self._cr_held = False
        self._partial: list[bytes] = []
        self._raw: list[bytes] = []
        self._at_start = True
        self._pending = False
        self._data: list[bytes] = []
        self._name = ""
        self._id: str | None = None
        self._retry: int | None = None

    def __repr__(self) -> str:
        return f"<Reader {sum(map(len, self._raw)) + sum(map(len, self._partial))} bytes pending>"

    def feed(self, piece: bytes) -> list[Frame]:
        """The frames that *piece* completes."""
        if self._cr_held and piece:
            piece = b"\r" + piece
            self._cr_held = False
        if piece.endswith(b"\r"):
            piece = piece[:-1]
            self._cr_held = True
        frames: list[Frame] = []
        start = 0
        for end in _LINE_END.finditer(piece):
            line = piece[start : end.start()]
            if self._partial:
                self._partial.append(line)
                line = b"".join(self._partial)
                self._partial.clear()
            self._raw.append(line)
            self._raw.append(end.group())
            self._take(line, frames)
            start = end.end()
        if start < len(piece):
            self._partial.append(piece[start:])
        return frames

    def finish(self) -> tuple[list[Frame], bytes]:
        """The frames that the end of the stream completes, and the bytes of a block that it leaves unfinished.

        An unfinished block is no event: the rules discard it, and it may be half of one.
        """
        frames: list[Frame] = []
        if self._cr_held:
            self._cr_held = False
            line = b"".join(self._partial)
            self._partial.clear()
            self._raw += (line, b"\r")
            self._take(line, frames)
        return frames, b"".join(self._raw + self._partial)

    def _take(self, line: bytes, frames: list[Frame]) -> None:
        if self._at_start:
            self._at_start = False
            line = line.removeprefix(BOM)
        if not line:
            # Blank lines before a block belong to its bytes; they end nothing.
            if self._pending:
                frames.append(self._frame())
            return
        self._pending = True
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        match field:
            case b"data":
                self._data.append(value)
            case b"event":
                self._name = value.decode("utf-8", "replace")
            case b"id" if b"\0" not in value:
                self._id = value.decode("utf-8", "replace")
            # Longer than any delay that means something: int() would refuse to read it.
            case b"retry" if value.isdigit() and len(value) < 20:
                self._retry = int(value)
            case _:
                # A comment (no field name) or a field that the rules ignore.
                pass

    def _frame(self) -> Frame:
        frame = Frame(
            raw=b"".join(self._raw),
            data=b"\n".join(self._data) if self._data else None,
            name=self._name,
            id=self._id,
            retry=self._retry,
        )
        self._raw.clear()
        self._data.clear()
        self._name, self._id, self._retry, self._pending = "", None, None, False
        return frame


def read(stream: bytes) -> tuple[list[Frame], bytes]:
    """The frames of a whole stream, and the bytes of an unfinished last block."""
    reader = Reader()
    frames = reader.feed(stream)
    last, rest = reader.finish()
    return frames + last, rest


def event(data: bytes, name: str = "") -> bytes:
    """A new event."""
    head = b"event: " + name.encode() + b"\n" if name else b""
    return head + _data_lines(data, b"\n") + b"\n"


def with_data(frame: Frame, data: bytes) -> bytes:
    """*frame* with other data: its comments, fields and line endings stay where they are."""
    *lines, blank = _lines(frame)
    kept: list[bytes] = []
    placed = False
    for line, end in lines:
        if line.partition(b":")[0] != b"data":
            kept.append(line + end)
        elif not placed:
            kept.append(_data_lines(data, end))
            placed = True
    return _block(frame, kept, blank[1])


def comments(frame: Frame) -> bytes:
    """What is left of *frame* when its event is taken out: its comments as a block, or nothing."""
    *lines, blank = _lines(frame)
    kept = [line + end for line, end in lines if line.startswith(b":")]
    return _block(frame, kept, blank[1]) if kept else _start(frame)


def _block(frame: Frame, lines: list[bytes], blank: bytes) -> bytes:
    # A CR and the LF of the blank line, once they meet, would be one line end and no blank line.
    end = b"\r" if blank == b"\n" and lines[-1].endswith(b"\r") else blank
    return _start(frame) + b"".join(lines) + end


def _lines(frame: Frame) -> list[tuple[bytes, bytes]]:
    return _LINE.findall(frame.raw.removeprefix(BOM))


def _start(frame: Frame) -> bytes:
    return BOM if frame.raw.startswith(BOM) else b""


def _data_lines(data: bytes, end: bytes) -> bytes:
    return b"".join(b"data: " + line + end for line in _LINE_END.split(data))
