"""A recorded stream given again at the pace at which it came."""

import asyncio

from proxy.ports import Sink

MAX_PAUSE_S = 5.0
"""The longest pause of a paced replay: nobody waits again for a provider's stall."""


class Paced:
    """The body *octets* in its recorded pieces; *marks* as in ``Entry.marks``."""

    def __init__(self, octets: bytes, marks: tuple[tuple[int, float], ...]) -> None:
        self._octets = octets
        self._marks = marks
        self.poured_bytes = 0

    async def pour(self, sink: Sink) -> None:
        """Send each piece when its time has come. Raises ConnectionError where the client has left."""
        sink.flush()
        before_s = 0.0
        for end, at_s in (*self._marks, (len(self._octets), self._marks[-1][1] if self._marks else 0.0)):
            if end <= self.poured_bytes:
                continue
            await asyncio.sleep(min(at_s - before_s, MAX_PAUSE_S))
            easy = sink.write(self._octets[self.poured_bytes : end])
            self.poured_bytes, before_s = end, at_s
            if not easy:
                await sink.drained()
