"""One request on its way to the provider, and what is known of its prompt."""

from proxy.call import Candidate
from proxy.model import Finding
from proxy.prefix.chain import Chain
from proxy.prefix.heads import Head
from proxy.prefix.learner import Known
from proxy.prefix.prompt import Prompt
from proxy.prefix.rules import Rule


class Watch:
    """One request on its way to the provider, and what is known of its prompt."""

    __slots__ = (
        "acted",
        "acts",
        "at_s",
        "body",
        "chain",
        "dialect",
        "done",
        "finding",
        "head",
        "held",
        "known",
        "mode",
        "model",
        "prompt",
        "route",
        "rule",
        "sent",
        "steered",
        "tenant",
    )

    def __init__(self, body: bytes, dialect: str, candidate: Candidate, rule: Rule, mode: str, at_s: float) -> None:
        self.body = body
        self.dialect = dialect
        self.route = candidate.route.name
        self.model = candidate.model
        self.tenant = candidate.tenant
        self.rule = rule
        self.mode = mode
        self.at_s = at_s
        self.prompt: Prompt | None = None
        self.chain: Chain | None = None
        self.known: Known | None = None
        self.head: Head | None = None
        self.finding: Finding | None = None
        self.done = False
        """It was looked at, or will not be."""
        self.acts = False
        """It may be given something before it goes out."""
        self.sent = False
        """It went to the provider; another tier may have answered first."""
        self.acted = False
        self.held = False
        """It was left alone, to compare with."""
        self.steered = True
        """The client looks after the prompt cache itself."""

    @property
    def wide(self) -> bytes:
        """All requests of its kind that may be learned from."""
        return f"{self.route}\0{self.tenant}\0{self.model}".encode("utf-8", "surrogatepass")

    def __repr__(self) -> str:
        return f"<Watch of a {self.dialect} request, {self.known}>"
