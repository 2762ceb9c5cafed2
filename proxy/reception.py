"""Reads what a call is: its JSON by value, its tenant, its exact key, and what the cache may do for it."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from proxy import aliases, cachefield, canonical, fingerprint, headers, policy
from proxy.call import Call, Candidate
from proxy.canonical import Unfit
from proxy.dialects import vectors
from proxy.dialects.embeddings import NAME as EMBEDDINGS
from proxy.dialects.last_turn import lift
from proxy.fingerprint import ANSWER_RELEVANT, CREDENTIAL_ENDINGS, CREDENTIALS, Fingerprint, Tenants
from proxy.headers import Fields
from proxy.model import Apart, Form, Json, RawFields, Reason, TenantId
from proxy.policy import CONTROLS, UNFIT_FIELDS, Plan
from proxy.ports import Dialect, Upload
from proxy.semantic import question
from proxy.semantic.question import Question
from proxy.settings import CacheSettings, CompatSettings, SemanticSettings

OFF_LOOP_BYTES = 128 * 1024
"""A JSON text above this is read in a thread: it takes more than a millisecond, and others are waiting."""

OFF_LOOP_INPUTS_BYTES = 8 * 1024
"""The same where each of many short inputs has a key of its own."""

MAX_REMEMBERED_BYTES = 16 * 1024 * 1024
"""How much of the requests that were hits is remembered, with what was read in them."""

REMEMBERED_OVERHEAD_BYTES = 4096

_NAMES = frozenset({"model", "models"})

NO_FORM = Form()
NO_FIELDS = Fields(())

_Read = tuple[str, bytes, bytes, RawFields, RawFields, bool, bytes | Upload | None]


class Reception:
    """Where calls on cached paths come in."""

    def __init__(
        self,
        settings: CacheSettings,
        *,
        secret: bytes,
        trusted: Callable[[str], bool],
        shared_key: bool = False,
        compat: CompatSettings = CompatSettings(),  # noqa: B008  (frozen)
        semantic: SemanticSettings = SemanticSettings(),  # noqa: B008  (frozen)
    ) -> None:
        self._settings = settings
        self._compat = compat
        self._semantic = semantic
        if settings.share == "auto":
            share = "everyone" if shared_key else "credential"
        else:
            share = settings.share
        self._share = share
        self.shares = share != "credential"
        """Several clients see one another's answers."""
        self._tenants = Tenants(share=share, secret=secret)
        self._trusted = trusted
        self._key_headers = tuple(sorted(name.lower().encode() for name in settings.key_headers))
        by_share = (share.removeprefix("header:").lower().encode(),) if share.startswith("header:") else ()
        self.peer_matters = bool(by_share)
        """The same octets from another peer may belong to another tenant."""
        self._looked_at = frozenset(
            (
                b"connection",
                *ANSWER_RELEVANT,
                *CREDENTIALS,
                *CONTROLS,
                *UNFIT_FIELDS,
                *self._key_headers,
                *by_share,
                *aliases.FIELDS,
            )
        )
        self._remembered: OrderedDict[_Read, Candidate] = OrderedDict()
        self._bytes = 0

    def use_secret(self, secret: bytes) -> None:
        """From now on tenants are told apart by *secret*."""
        self._tenants = Tenants(share=self._share, secret=secret)
        self._remembered.clear()
        self._bytes = 0

    def __repr__(self) -> str:
        return f"<Reception, {len(self._remembered)} requests remembered>"

    async def admit(self, call: Call) -> Call:
        """*call* as the provider shall see it: without what its body says to us alone."""
        if not self._compat.litellm_cache_field or not isinstance(call.body, bytes):
            return call
        off_loop = len(call.body) > OFF_LOOP_BYTES
        found = await asyncio.to_thread(cachefield.cut, call.body) if off_loop else cachefield.cut(call.body)
        if found is None:
            return call
        body, controls = found
        return replace(call, body=body, fields=headers.resized(call.fields, len(body)), controls=controls)

    async def consider(self, call: Call, dialect: Dialect) -> Candidate:
        """What *call* is. A request that was a hit before is known by its body and the fields that are looked at."""
        read = self._read(call, dialect)
        known = self._remembered.get(read)
        if known is not None:
            self._remembered.move_to_end(read)
            return known
        if isinstance(call.body, bytes) and len(call.body) > (
            OFF_LOOP_INPUTS_BYTES if dialect.name == EMBEDDINGS else OFF_LOOP_BYTES
        ):
            return await asyncio.to_thread(self._consider, call, dialect)
        return self._consider(call, dialect)

    def remember(self, call: Call, dialect: Dialect, candidate: Candidate) -> None:
        """*call* was a hit, so its like will come again."""
        read = self._read(call, dialect)
        if read in self._remembered or not isinstance(call.body, bytes):
            return
        size = _size(read)
        if size > MAX_REMEMBERED_BYTES // 16:
            return
        self._remembered[read] = candidate
        self._bytes += size
        while self._bytes > MAX_REMEMBERED_BYTES:
            forgotten, _ = self._remembered.popitem(last=False)
            self._bytes -= _size(forgotten)

    def _read(self, call: Call, dialect: Dialect) -> _Read:
        """Everything that ``_consider`` looks at."""
        looked_at = self._looked_at
        fields = call.fields
        seen = tuple(
            [
                pair
                for name, pair in zip(fields.names, fields.raw, strict=True)
                if name in looked_at or name.endswith(CREDENTIAL_ENDINGS)
            ]
        )
        trusted = self.peer_matters and self._trusted(call.peer)
        return dialect.name, call.way.cut, call.target, seen, call.controls, trusted, call.body

    def _controls(self, call: Call) -> Fields:
        """The fields of *call* with everything that it asks of the cache in other words."""
        translated = aliases.translated(call.fields) if self._compat.gateway_headers else ()
        more = (*translated, *call.controls)
        return Fields((*call.fields.raw, *more)) if more else call.fields

    def _consider(self, call: Call, dialect: Dialect) -> Candidate:
        asked = policy.control(self._controls(call))
        owner = self._tenants.of(call.fields, peer_trusted=self.peer_matters and self._trusted(call.peer))

        def out(reason: Reason, request: Json | None = None) -> Candidate:
            plan = Plan(read=False, write=False, join=False, reason=reason)
            return Candidate(
                model=policy.model_of(request or {}),
                asked=asked,
                plan=plan,
                form=dialect.form(request) if request is not None else NO_FORM,
                tenant=owner,
                identity=None,
                route=call.way.route(_routed_by(request or {})),
                fallbacks=_fallbacks(request or {}),
            )

        if not isinstance(call.body, bytes):
            return out(Reason.BODY_TOO_LARGE if call.body is not None else Reason.INVALID_JSON)
        unfit = policy.unfit_headers(call.fields)
        if unfit is Reason.ENCODED_BODY:
            return out(unfit)
        request = canonical.read(call.body)
        if isinstance(request, Unfit):
            return out(request.reason)
        if unfit is not None:
            return out(unfit, request)
        route = call.way.route(_routed_by(request))
        identify = partial(
            fingerprint.exact,
            tenant=owner,
            namespace=asked.namespace,
            upstream=route.identity,
            dialect=dialect,
            target=call.target,
            fields=call.fields,
            extra_headers=self._key_headers,
        )
        given = vectors.inputs(request) if dialect.name == EMBEDDINGS else ()
        pieces = _each(identify, request, given)
        # One input is the same call, whether it stands in a list or not.
        identity = pieces[0] if len(pieces) == 1 else identify(request=request)
        if isinstance(identity, Unfit):
            return out(identity.reason, request)
        plan = policy.plan(request, asked, dialect, self._settings, cached=route.cached)
        return Candidate(
            model=policy.model_of(request),
            asked=asked,
            plan=plan,
            question=self._question(dialect, request, identify) if plan.write else Apart.OFF,
            form=dialect.form(request),
            tenant=owner,
            identity=identity.exact,
            route=route,
            fallbacks=_fallbacks(request),
            inputs=len(given),
            pieces=tuple(piece.exact for piece in pieces) if len(pieces) > 1 else (),
        )

    def maker(self, call: Call) -> TenantId:
        """Who sends *call*, whoever its answers are shared with."""
        if call.asker.name:
            return self._tenants.maker(NO_FIELDS, call.asker.name)
        return self._tenants.maker(call.fields, call.peer)

    def _question(
        self, dialect: Dialect, request: Json, identify: Callable[..., Fingerprint | Unfit]
    ) -> Question | Apart:
        """What of *request* may be compared with others by meaning, or why nothing may."""
        settings = self._semantic
        if settings.policy == "off":
            return Apart.OFF
        lifted = lift(dialect.name, request)
        if lifted is None:
            return Apart.NO_QUESTION
        reason = question.apart(
            lifted.text, max_chars=settings.max_chars, fresh=settings.allow_fresh, personal=settings.allow_personal
        )
        if reason is not None:
            return reason
        around = identify(request=lifted.around)
        if isinstance(around, Unfit):
            return Apart.NO_QUESTION
        kind = "t" if lifted.tools else "d" if lifted.history else "p"
        return Question(text=lifted.text, scope=fingerprint.within(around, kind))


def _fallbacks(request: Json) -> tuple[str, ...]:
    """The models that *request* names beside its first, as some gateways take them; no text for what is no name."""
    # Providers written in Go read a name in any letter case, and of two the last.
    odd = [""] if any(name.lower() in _NAMES and name not in _NAMES for name in request) else []
    models = request.get("models")
    if models is None:
        return tuple(odd)
    return (*odd, *(each if isinstance(each, str) else "" for each in models)) if isinstance(models, list) else ("",)


def _each(identify: Callable[..., Fingerprint | Unfit], request: Json, given: Sequence[object]) -> list[Fingerprint]:
    """The fingerprint of each of the *given* inputs of *request*, were it asked for alone; none where one has none."""
    if not given:
        return []
    rest = identify(request={name: value for name, value in request.items() if name != "input"})
    if isinstance(rest, Unfit):
        return []
    each = [fingerprint.alone(rest, one) for one in given]
    fit = [one for one in each if isinstance(one, Fingerprint)]
    return fit if len(fit) == len(each) else []


def _routed_by(request: Json) -> str:
    """The model by which *request* is routed; no text where it names none."""
    model = request.get("model")
    return model if isinstance(model, str) else ""


def _size(read: _Read) -> int:
    """What remembering *read* takes, in octets."""
    _, _, target, seen, _, _, body = read
    fields = sum([len(name) + len(value) for name, value in seen])
    return len(target) + fields + (len(body) if isinstance(body, bytes) else 0) + REMEMBERED_OVERHEAD_BYTES
