"""One call on its way through the house, with what is known of it so far."""

from collections.abc import Hashable
from dataclasses import dataclass

from proxy.accounts.meter import Meter
from proxy.call import Call, Candidate
from proxy.gathering import Gathering
from proxy.model import Entry, Key, Reason
from proxy.ports import Dialect
from proxy.semantic.recalling import Sought


@dataclass(slots=True)
class Visit:
    """A call and what the steps of the pass found out about it; each step adds its part."""

    call: Call
    dialect: Dialect
    candidate: Candidate
    meter: Meter
    reason: Reason
    """Why there was no hit, as far as that is known."""
    key: Key | None = None
    """The exact key, narrowed by what answers vary by; None where the call cannot be told from others."""
    gathering: Gathering | None = None
    """Where it asks for several things that are kept one by one."""
    stale: Entry | None = None
    """What is kept and has expired."""
    sought: Sought | None = None
    """Its question, where the semantic tier has a part in it."""

    @property
    def takes_similar(self) -> bool:
        """The answer to another question of the same meaning will do."""
        return self.sought is not None and self.sought.inquiry is not None

    def courses(self) -> tuple[Hashable, ...]:
        """The flights that it may join, the best first: of the same thing in the same form.

        A flight that may be given another question's answer is only for those who take one; any other is for all.
        """
        form = (self.key, self.candidate.form, self.call.fields.all(b"accept-encoding"))
        return ((*form, True), (*form, False)) if self.takes_similar else ((*form, False),)
