"""What needs no key; what a client may not do with the provider's, and how it is told, as OpenAI's clients read it."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote_to_bytes

from proxy import paths
from proxy.call import Call, Candidate
from proxy.keys.budgets import Budgets
from proxy.keys.clients import CREDENTIALS, SAFE, Client, presented
from proxy.model import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a call is not answered."""

    status: int
    reason: Reason
    message: str
    more: bytes = b""
    """Header fields of its own, as lines."""


STRANGER = Refusal(
    status=401,
    reason=Reason.UNKNOWN_KEY,
    message="this proxy does not know the API key; ask its operator for one (askonce keys new NAME)",
    more=b"WWW-Authenticate: Bearer\r\n",
)


OVERRIDES = frozenset({b"x-http-method-override", b"x-http-method", b"x-method-override"})
"""What makes some servers take a request for one of another method."""


def is_preflight(call: Call) -> bool:
    """Whether *call* asks for a browser what a page may ask (Fetch standard, CORS-preflight fetch).

    Browsers leave all credentials out of it. Whoever brings one, a body, or another method in disguise is no preflight.
    """
    fields = call.fields
    return (
        call.method == b"OPTIONS"
        and b"origin" in fields
        and b"access-control-request-method" in fields
        and b"transfer-encoding" not in fields
        and fields.get(b"content-length") in (None, b"0")
        and not any(name in fields for name in (*CREDENTIALS, *OVERRIDES))
        and not presented(fields)
    )


def _another_model(client: Client) -> Refusal:
    return Refusal(
        status=403,
        reason=Reason.MODEL_NOT_ALLOWED,
        message=f"the key of {client.name} is for these models alone: {', '.join(client.models)}",
    )


def of_model(call: Call, candidate: Candidate) -> Refusal | None:
    """Why *call* may not have the model that it asks for; None where it may."""
    client = call.client
    if client is None or not client.models:
        return None
    path = call.target.partition(b"?")[0]
    deployment = paths.deployment(path)
    # Azure names the model in the path, and what the body says of it is then for show.
    named = [candidate.model] if deployment is None else [_plain(deployment)]
    return None if client.may_use(*named, *candidate.fallbacks) else _another_model(client)


def of_money(call: Call, budgets: Budgets | None) -> Refusal | None:
    """Why *call* may not cost anything; None where it may."""
    if budgets is None or not budgets.spent(call.client):
        return None
    # SDKs ask again at a 429, which would be in vain until the day is over.
    more = b"Retry-After: %d\r\nx-should-retry: false\r\n" % budgets.left_s()
    return Refusal(
        status=429,
        reason=Reason.BUDGET_SPENT,
        message="what this API key may spend in a day is spent; repeats of earlier requests are still answered",
        more=more,
    )


def of_unread(call: Call, budgets: Budgets | None, *, websocket: bool = False) -> Refusal | None:
    """Why *call*, whose body nobody reads, may not be forwarded; None where it may."""
    client = call.client
    if client is None or (call.method in SAFE and not websocket):
        return None
    if client.models and not client.may_use(*(_asked_for(call.target) if websocket else UNKNOWN)):
        return _another_model(client)
    return of_money(call, budgets)


UNKNOWN = ("",)
"""What a call names whose model nobody can read."""

REALTIME = b"/realtime"
"""The end of the paths whose WebSockets are for the model of their query; on others each message may name one."""


def _asked_for(target: bytes) -> Sequence[str]:
    """The models that a WebSocket at *target* is for, by OpenAI's name for them and by Azure's."""
    path, _, query = target.partition(b"?")
    if not path.endswith(REALTIME):
        return UNKNOWN
    asked = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    return [value for name, value in asked if name.lower() in ("model", "deployment")] or UNKNOWN


def _plain(deployment: bytes) -> str:
    """The name of *deployment*; no text where it is a path in disguise, which the provider may follow."""
    name = unquote_to_bytes(deployment).decode("utf-8", "replace")
    return name if not any(each in name for each in "/\\%") else ""
