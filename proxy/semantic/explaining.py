"""Why two requests do or do not share an answer, stage by stage: for people, who trust what they can ask."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest

from proxy import canonical, paths
from proxy.dialects import BY_SUFFIX
from proxy.dialects.last_turn import Lifted, lift
from proxy.errors import CacheError, told
from proxy.model import Apart, Json, Judgement, Neighbour
from proxy.ports import Dialect, Embedder, Verifier
from proxy.semantic import question
from proxy.semantic.bars import Bar, Passage
from proxy.settings import SemanticSettings
from proxy.tiers.neighbourhood import FLOOR
from proxy.tiers.semantic import LENGTHS, SLACK_CHARS
from proxy.values import value

MAX_DIFFERENCES = 50
MAX_SHOWN_CHARS = 120

ABSENT = object()


@value
class Difference:
    """A place in which two requests differ."""

    place: str
    """``messages[0].content``."""
    asked: str
    cached: str
    counts: bool
    """False: it is left out of the key, and so tells no two requests apart."""


class Explaining:
    """Goes the way of the semantic tier with two requests and tells each step; serves and remembers nothing."""

    def __init__(self, settings: SemanticSettings, *, embedder: Embedder, verifier: Verifier, bar: Bar) -> None:
        self._settings = settings
        self._embedder = embedder
        self._verifier = verifier
        self._bar = bar

    def __repr__(self) -> str:
        return f"<Explaining by {self._bar!r}>"

    async def explain(self, asked: Json, cached: Json, path: str) -> Mapping[str, object]:
        """Every stage for *asked*, were the answer to *cached* at hand; both were sent to *path*, by one client."""
        suffix = paths.cached_as(b"POST", path.encode(), {})
        if suffix is None:
            return {"served": False, "why": f"{path} is no cached path"}
        dialect = BY_SUFFIX[suffix]
        found = tuple(differences(asked, cached, dialect))
        lifted = lift(dialect.name, asked), lift(dialect.name, cached)
        reasons = tuple(self._apart(each) for each in lifted)
        report: dict[str, object] = {
            "served": False,
            "why": "",
            "policy": self._settings.policy,
            "exact": not any(each.counts for each in found),
            "questions": [
                {"text": each.text if each is not None else None, "apart": str(reason) if reason else None}
                for each, reason in zip(lifted, reasons, strict=True)
            ],
            "differences": [
                {"place": each.place, "asked": each.asked, "cached": each.cached, "counts": each.counts}
                for each in found[:MAX_DIFFERENCES]
            ],
        }
        if report["exact"]:
            return {**report, "served": True, "why": "they are the same request: an exact hit"}
        one, other = lifted
        if one is None or other is None or any(reasons):
            at = "asked" if one is None or reasons[0] else "cached"
            word = reasons[0] or reasons[1] or Apart.NO_QUESTION
            return {**report, "why": f"the {at} question stays out: {word}"}
        scope = tuple(differences(one.around, other.around, dialect))
        counting = [each.place for each in scope if each.counts]
        report["scope"] = {"same": not counting, "separated_by": counting[:MAX_DIFFERENCES]}
        if counting:
            return {**report, "why": f"another scope: they differ in {', '.join(counting[:3])}"}
        try:
            return {**report, **await self._compare(one.text, other.text, _kind(one))}
        except CacheError as error:
            return {**report, "why": f"the model is not at hand: {told(error)}"}

    async def nearest(self, asked: Json, path: str, known: Sequence[Neighbour] | Apart) -> Mapping[str, object]:
        """Every stage for *asked* and each of the *known* questions nearest to it in its scope."""
        suffix = paths.cached_as(b"POST", path.encode(), {})
        lifted = lift(BY_SUFFIX[suffix].name, asked) if suffix is not None else None
        reason = known if isinstance(known, Apart) else self._apart(lifted)
        report: dict[str, object] = {
            "served": False,
            "why": "",
            "policy": self._settings.policy,
            "questions": [
                {"text": lifted.text if lifted is not None else None, "apart": str(reason) if reason else None}
            ],
        }
        if lifted is None or reason is not None or isinstance(known, Apart):
            return {**report, "why": f"the question stays out: {reason}"}
        if not known:
            return {**report, "why": "no other question of its scope has an answer"}
        try:
            told_of = [
                {"text": each.text, **await self._compare(lifted.text, each.text, _kind(lifted))} for each in known
            ]
        except CacheError as error:
            return {**report, "why": f"the model is not at hand: {told(error)}"}
        best = next((each for each in told_of if each["served"]), told_of[0])
        return {**report, "served": best["served"], "why": best["why"], "neighbours": told_of}

    def _apart(self, lifted: Lifted | None) -> Apart | None:
        if lifted is None:
            return Apart.NO_QUESTION
        settings = self._settings
        return question.apart(
            lifted.text, max_chars=settings.max_chars, fresh=settings.allow_fresh, personal=settings.allow_personal
        )

    async def _compare(self, asked: str, cached: str, kind: str) -> Mapping[str, object]:
        vectors = await self._embedder.embed([asked, cached])
        cosine = float(vectors[0] @ vectors[1])
        (judgement,) = await self._verifier.judge(asked, [Neighbour(text=cached, cosine=cosine)])
        shown: dict[str, object] = {
            "cosine": round(cosine, 4),
            "floor": FLOOR,
            "guards": _guards(judgement),
            "score": round(judgement.score, 4),
            "stage": judgement.stage,
            "class": kind,
            "bar": self._bar.shown(),
        }
        served, why = self._decide(asked, cached, cosine, judgement, kind)
        return {**shown, "served": served, "why": why}

    def _decide(self, asked: str, cached: str, cosine: float, judgement: Judgement, kind: str) -> tuple[bool, str]:
        if cosine < FLOOR:
            return False, f"the cosine {cosine:.3f} is below the floor of {FLOOR:g}"
        if len(cached) > LENGTHS * len(asked) + SLACK_CHARS:
            return False, "the cached question is much longer than the asked one"
        if question.symbols(asked) != question.symbols(cached):
            return False, "they differ in symbols that the model hardly knows"
        if judgement.vetoes:
            return False, f"guards fired: {', '.join(veto.guard for veto in judgement.vetoes)}"
        score = judgement.score if self._bar.verified else cosine
        name = "score" if self._bar.verified else "cosine"
        if self._bar.passes(kind, score, 1.0) is not Passage.SERVE:
            return False, f"the {name} {score:.3f} is below the threshold"
        if self._settings.policy in ("off", "shadow"):
            return False, f"it would be served, but the policy is {self._settings.policy}"
        return True, f"the {name} {score:.3f} reaches the threshold"


def _kind(lifted: Lifted) -> str:
    return question.KINDS["t" if lifted.tools else "d" if lifted.history else "p"]


def _guards(judgement: Judgement) -> Sequence[Mapping[str, object]]:
    return [
        {"guard": each.guard, "asked": each.asked, "cached": each.cached, "veto": each in judgement.vetoes}
        for each in (*judgement.vetoes, *(each for each in judgement.fired if each not in judgement.vetoes))
    ]


def differences(asked: Json, cached: Json, dialect: Dialect) -> Iterator[Difference]:
    """Every place in which two requests differ by value."""
    for name in sorted(asked.keys() | cached.keys()):
        counts = name not in dialect.left_out
        for place, one, other in _walk(name, asked.get(name, ABSENT), cached.get(name, ABSENT)):
            yield Difference(place=place, asked=_shown(one), cached=_shown(other), counts=counts)


def _walk(place: str, one: object, other: object) -> Iterator[tuple[str, object, object]]:
    if isinstance(one, dict) and isinstance(other, dict):
        for name in sorted(one.keys() | other.keys()):
            yield from _walk(f"{place}.{name}", one.get(name, ABSENT), other.get(name, ABSENT))
    elif isinstance(one, list) and isinstance(other, list):
        for at, (mine, theirs) in enumerate(zip_longest(one, other, fillvalue=ABSENT)):
            yield from _walk(f"{place}[{at}]", mine, theirs)
    elif one is ABSENT or other is ABSENT or canonical.write(one) != canonical.write(other):
        yield place, one, other


def _shown(found: object) -> str:
    if found is ABSENT:
        return ""
    text = canonical.write(found)
    shown = text.decode() if isinstance(text, bytes) else "(too deep)"
    return shown if len(shown) <= MAX_SHOWN_CHARS else f"{shown[:MAX_SHOWN_CHARS]}... ({len(shown)} characters)"
