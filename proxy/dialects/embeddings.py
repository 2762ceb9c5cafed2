"""Embeddings: ``POST /embeddings``."""

from dataclasses import dataclass

from proxy.dialects import jsontext
from proxy.dialects.verdict import Evidence, is_error, weigh
from proxy.model import WHOLE, Finding, Form, Json, Reason, Unkept

NAME = "embeddings"


@dataclass(frozen=True, slots=True)
class Embeddings:
    """The embeddings dialect: one form, and the same vectors for the same input."""

    name: str = NAME
    # The endpoint documents nothing but what shapes its vectors (and `user`, which few send): everything counts.
    left_out: frozenset[str] = frozenset()
    deterministic: bool = True

    def form(self, request: Json) -> Form:
        """Always whole: there is no streamed embedding, and a ``stream`` in the request is part of the key."""
        return WHOLE

    def refuses(self, request: Json) -> Reason | None:
        """None: an embedding is a function of its input."""
        return None

    def examine(self, body: bytes, form: Form) -> Finding:
        """Judge a finished answer."""
        return weigh(body, WHOLE, stream=_read, whole=_read)

    def render(self, body: bytes, have: Form, want: Form) -> bytes | None:
        """*body* itself; there is no other form."""
        return body if have == want else None


def _read(body: bytes, evidence: Evidence) -> None:
    answer = jsontext.read(body)
    if not isinstance(answer, dict):
        raise ValueError("the answer is not an object")
    if is_error(answer):
        evidence.faults.add(Unkept.ERROR_INSIDE)
    evidence.named(answer.get("model"))
    evidence.billed(answer.get("usage"))
    items = answer.get("data")
    if not isinstance(items, list):
        raise ValueError("the answer has no list of embeddings")
    evidence.said = bool(items)
    places = set()
    for item in items:
        if not isinstance(item, dict):
            raise ValueError("an embedding is not an object")
        if not _is_vector(item.get("embedding")):
            evidence.faults.add(Unkept.INCOMPLETE)
        places.add(item.get("index") if isinstance(item.get("index"), int) else None)
    # One item for every input, numbered from 0; in whatever order.
    if places != set(range(len(items))):
        evidence.faults.add(Unkept.INCOMPLETE)


def _is_vector(value: object) -> bool:
    match value:
        case str():
            # base64 of float32 values.
            return value != ""
        case list():
            # Millions of numbers pass here; a set of types is several times faster than asking one by one.
            return bool(value) and set(map(type, value)) <= {int, float, list}
        case _:
            return False
