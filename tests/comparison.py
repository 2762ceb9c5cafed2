"""The two ways to the provider, straight and through the proxy, and what may differ between them."""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from tests import answers, raw_client
from tests.proxy_process import ProxyProcess
from tests.raw_client import Address, Headers, RawAnswer, RawConnection
from tests.scripted_provider import Received, Script, ScriptedProvider, steps

Field: TypeAlias = tuple[bytes, bytes]

HOP_BY_HOP = frozenset({b"connection", b"keep-alive", b"te", b"transfer-encoding", b"upgrade"}) | frozenset(
    {b"proxy-authenticate", b"proxy-authorization", b"proxy-connection"}
)
ADDED_TO_REQUESTS = frozenset({b"host", b"via", b"forwarded"})
ADDED_TO_ANSWERS = frozenset({b"via", b"cache-status"})
SHOWN = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """One request sent one way: what the client got back, and what had reached the provider."""

    answer: RawAnswer
    received: tuple[Received, ...]

    @property
    def only(self) -> Received:
        """The one request that reached the provider."""
        assert len(self.received) == 1, f"{len(self.received)} requests upstream: {self.received}"
        return self.received[0]


def end_to_end(headers: Iterable[Field], *, named_by: Iterable[bytes] = (), added: frozenset[bytes]) -> list[Field]:
    """The *headers* that must not differ: without hop-by-hop fields, framing, and what a proxy may add."""
    named = {token.strip().lower() for value in named_by for token in value.split(b",")}
    dropped = HOP_BY_HOP | named | added | {b"content-length"}
    return [(name, value) for name, value in headers if name.lower() not in dropped]


def request_fields(request: Received) -> list[Field]:
    """The end-to-end header fields of *request*."""
    fields = end_to_end(request.headers, named_by=request.values("connection"), added=ADDED_TO_REQUESTS)
    return [(name, value) for name, value in fields if not name.lower().startswith(b"x-forwarded-")]


def answer_fields(answer: RawAnswer, *, hit: bool = False) -> list[Field]:
    """The end-to-end header fields of *answer*; on a hit without what only a hit may change."""
    changed = frozenset({b"age", b"date", b"set-cookie"}) if hit else frozenset()
    fields = end_to_end(answer.headers, named_by=answer.values("connection"), added=ADDED_TO_ANSWERS | changed)
    return [(name, value) for name, value in fields if not name.lower().startswith(b"x-cache")]


def request_differences(straight: Received, through: Received, *, spelling: bool = False) -> list[str]:
    """What the proxy did to a request, one line of text each; empty where it did nothing."""
    found = []
    if (straight.method, straight.target) != (through.method, through.target):
        found.append(f"request line: {straight.request_line!r} became {through.request_line!r}")
    found += _field_differences("request header", request_fields(straight), request_fields(through), spelling=spelling)
    found += _body_difference("request body", straight.body, through.body)
    if straight.complete != through.complete or straight.body_hash != through.body_hash:
        found.append(f"request body: {straight.body_size} bytes became {through.body_size}")
    return found


def answer_differences(
    straight: RawAnswer, through: RawAnswer, *, spelling: bool = False, hit: bool = False
) -> list[str]:
    """What the proxy did to an answer, one line of text each; empty where it did nothing."""
    found = []
    if straight.status != through.status:
        found.append(f"status: {straight.status_line!r} became {through.status_line!r}, body {through.body[:300]!r}")
    if spelling and straight.reason != through.reason:
        found.append(f"reason phrase: {straight.reason!r} became {through.reason!r}")
    before, after = answer_fields(straight, hit=hit), answer_fields(through, hit=hit)
    if not straight.values("date"):
        after = [(name, value) for name, value in after if name.lower() != b"date"]
    found += _field_differences("answer header", before, after, spelling=spelling)
    found += _body_difference("answer body", straight.body, through.body)
    if straight.size != through.size or straight.body_hash != through.body_hash:
        found.append(f"answer body: {straight.size} bytes became {through.size}")
    if straight.ending is not through.ending:
        found.append(f"ending: {straight.ending} became {through.ending}")
    return found


def assert_alike(straight: Passage, through: Passage, *, spelling: bool = False) -> None:
    """Nothing differs but what `TRANSPARENCY.md` tolerates; *spelling* adds order, letter case, reason."""
    found = answer_differences(straight.answer, through.answer, spelling=spelling)
    if len(straight.received) != len(through.received):
        found.append(f"upstream requests: {len(straight.received)} became {len(through.received)}")
    for one, other in zip(straight.received, through.received, strict=False):
        found += request_differences(one, other, spelling=spelling)
    assert not found, "the proxy shows:\n  " + "\n  ".join(found)


class Ways:
    """The two ways to one provider, for one test: its nonce marks everything it sends."""

    def __init__(self, provider: ScriptedProvider, proxy: Address, process: ProxyProcess | None, nonce: str) -> None:
        self.provider = provider
        self.direct = provider.address
        self.proxy = proxy
        self.process = process
        self.nonce = nonce

    def __repr__(self) -> str:
        return f"<Ways direct {self.direct}, proxy {self.proxy}, nonce {self.nonce}>"

    def request(self, method: str, target: str | bytes, headers: Headers = (), body: bytes | None = None) -> bytes:
        """A spelled-out request that carries the nonce in a header."""
        return raw_client.request(method, target, (("x-nonce", self.nonce), *headers), body)

    def chat(self, *, headers: Headers = (), path: str = "/v1/chat/completions", **asked: object) -> bytes:
        """A chat request at temperature 0 (unless *asked* otherwise) whose prompt holds the nonce."""
        return self.post(path, self.chat_body(**asked), headers=headers)

    def post(self, path: str, body: bytes, *, headers: Headers = ()) -> bytes:
        """A JSON request as an SDK sends it, with a key."""
        fields = (("Content-Type", "application/json"), ("Authorization", "Bearer sk-contract"), *headers)
        return raw_client.request("POST", path, fields, body)

    def chat_body(self, **asked: object) -> bytes:
        """The body of such a request; a field asked as None is left out."""
        prompt = [{"role": "user", "content": f"Tell me about {self.nonce}."}]
        fields: dict[str, object] = {"model": "gpt-4o-mini", "messages": prompt, "temperature": 0, **asked}
        return answers.compact({name: value for name, value in fields.items() if value is not None})

    def plays(self, *scripts: Script | bytes) -> None:
        """What the provider does with the requests of this test, one each."""
        self.provider.on(self.nonce, *(steps(given) if isinstance(given, bytes) else given for given in scripts))

    def received(self) -> list[Received]:
        """The requests of this test that reached the provider so far."""
        return self.provider.requests(self.nonce)

    def straight(self, octets: bytes, *, keep: bool = True) -> Passage:
        """Send *octets* to the provider itself."""
        return self._send(self.direct, octets, keep=keep)

    def through(self, octets: bytes, *, keep: bool = True) -> Passage:
        """Send *octets* through the proxy."""
        return self._send(self.proxy, octets, keep=keep)

    def alike(
        self, octets: bytes, script: Script | bytes | None = None, *, spelling: bool = False, keep: bool = True
    ) -> tuple[Passage, Passage]:
        """Send *octets* both ways, assert that nothing differs, and return both passages for more questions."""
        self.plays(self.fixed() if script is None else script)
        straight, through = self.straight(octets, keep=keep), self.through(octets, keep=keep)
        assert len(straight.received) == 1, f"not a fair test: straight, {len(straight.received)} requests arrived"
        assert_alike(straight, through, spelling=spelling)
        return straight, through

    def fixed(self) -> bytes:
        """A chat completion that is the same each time it is asked for."""
        return answers.whole(answers.chat_body(f"About {self.nonce}."))

    def connect(self, *, timeout_s: float = 10.0, receive_buffer: int | None = None) -> RawConnection:
        """A connection to the proxy."""
        return RawConnection(self.proxy, timeout_s=timeout_s, receive_buffer=receive_buffer)

    def settle(self) -> None:
        """Return when the proxy has answered another request: what it wanted to send before is sent."""
        probe = raw_client.request("GET", "/v1/models", (("x-probe", f"settle-{self.nonce[::-1]}"),))
        assert raw_client.exchange(self.proxy, probe).status == 200

    def _send(self, address: Address, octets: bytes, *, keep: bool) -> Passage:
        before = {request.number for request in self.received()}
        answer = raw_client.exchange(address, octets, keep=keep)
        return Passage(
            answer=answer, received=tuple(request for request in self.received() if request.number not in before)
        )


def _field_differences(kind: str, before: Sequence[Field], after: Sequence[Field], *, spelling: bool) -> list[str]:
    def spelled(fields: Sequence[Field]) -> list[str]:
        if spelling:
            return [_line(name, value) for name, value in fields]
        # Only the order among fields of one name carries meaning (RFC 9110 5.3); sorting keeps that order.
        return [_line(name.lower(), value) for name, value in sorted(fields, key=lambda item: item[0].lower())]

    changes = difflib.unified_diff(spelled(before), spelled(after), lineterm="", n=0)
    return [f"{kind}: {line}" for line in changes if not line.startswith(("---", "+++", "@@"))]


def _line(name: bytes, value: bytes) -> str:
    return f"{name.decode('latin-1')}: {value.decode('latin-1')!r}"


def _body_difference(kind: str, before: bytearray, after: bytearray) -> list[str]:
    if before == after:
        return []
    pairs = zip(before, after, strict=False)
    place = next((at for at, (one, other) in enumerate(pairs) if one != other), min(len(before), len(after)))
    start = max(0, place - SHOWN // 2)
    seen = f"{bytes(before[start : place + SHOWN])!r} became {bytes(after[start : place + SHOWN])!r}"
    return [f"{kind}: {len(before)} bytes became {len(after)}, first at byte {place}: {seen}"]
