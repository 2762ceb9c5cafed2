"""What the semantic tier knows of a question that it answers: whose answer it is, and how sure that is."""

from proxy.model import Entry, Key
from proxy.values import value


@value
class Recalled:
    """The answer to another question, to be given to this one."""

    id: str
    """By this a verdict names what it is about."""
    asked: Key
    """Under which the question's own answer would be found."""
    entry: Entry
    age_s: float
    similarity: float
    """The cosine of the two questions."""
    score: float
    """The verifier's; the cosine again where the policy goes by that alone."""
    kind: str
    """The class of the scope."""
    only_for: str | None = None
    """Its maker, where nobody else has asked the question that it answers."""
    remembered: bool = False
    """It had been decided before, for this very question."""
