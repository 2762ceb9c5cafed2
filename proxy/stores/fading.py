"""Entries that cannot be read: counted, and told of once."""

import logging

from proxy.errors import Unreadable

log = logging.getLogger(__name__)


class Fading:
    """What was found unreadable in one store."""

    def __init__(self, where: str) -> None:
        self._where = where
        self.count = 0
        """Times an entry was found damaged, of another version, or sealed with a key that is not known."""

    def __repr__(self) -> str:
        return f"<Fading, {self.count} times at {self._where}>"

    def found(self, error: Unreadable) -> None:
        """One was found. It is let be: who has the right key may be able to read it, and a new answer replaces it."""
        if not self.count:
            log.warning("%s: %s; it counts as not there, as will others like it", self._where, error)
        self.count += 1
