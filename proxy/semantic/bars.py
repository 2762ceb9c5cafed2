"""The bar that a neighbour has to pass, by policy: fixed, following verdicts, or calibrated. Pure."""

from collections import deque
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import partial
from typing import Protocol

from proxy.semantic import sameness
from proxy.semantic.calibration import Calibration, Label, shipped_prior
from proxy.semantic.question import KINDS
from proxy.settings import SemanticSettings
from proxy.values import value

VERDICTS = 100
"""How many of the last verdicts the adaptive threshold follows, and from how many on."""
FIRST_VERDICTS = 10

ENOUGH, PLENTY = 0.95, 0.99
"""Below the one accuracy the threshold rises; above the other it may come down."""


class Passage(StrEnum):
    """What becomes of a neighbour."""

    SERVE = "serve"
    EXPLORE = "explore"
    """It could be served, but is asked anew, to see."""
    REFUSE = "refuse"


@value
class Level:
    """Where a bar lies for one class of scopes, in numbers."""

    kind: str
    """The class; empty where one bar holds for all."""
    threshold: float
    """From which score, or cosine, on an answer is given; infinite while none is."""
    bound: float | None = None
    """The upper bound of wrong answers per hit, where there is one."""
    right: int = 0
    wrong: int = 0
    """Labels, or verdicts, that it goes by."""
    explored: int = 0
    served: int | None = None
    """How many were given at such scores, where that is counted."""


class Bar(Protocol):
    """Decides, and learns."""

    @property
    def verified(self) -> bool:
        """It goes by the verifier's score; else by the cosine."""
        ...

    def passes(self, kind: str, score: float, chance: float) -> Passage:
        """What becomes of a neighbour in a scope of class *kind*; *chance* is drawn from 0 to 1."""
        ...

    def stands(self, kind: str, score: float) -> bool:
        """Whether what was decided before would be decided so again."""
        ...

    def served(self, kind: str, score: float) -> None:
        """It was served."""
        ...

    def compared(self, kind: str, score: float, *, right: bool, explored: bool) -> bool:
        """Answers were compared in the background; True where something worth keeping was learned."""
        ...

    def judged(self, kind: str, score: float, *, right: bool) -> bool:
        """Somebody said so; True where something worth keeping was learned."""
        ...

    def levels(self) -> Sequence[Level]:
        """Where it lies, class by class."""
        ...

    def shown(self) -> dict[str, object]:
        """As JSON."""
        ...

    def dumped(self) -> object:
        """What was learned, by all who share it."""
        ...

    def written(self) -> None:
        """What was dumped last is known to others now."""
        ...

    def restore(self, dumped: object) -> None:
        """Take up what was learned, by others too, and add to it what is known here alone."""
        ...


class FixedBar:
    """One cosine for ever."""

    verified = False

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {self.threshold:.2f}>"

    def passes(self, kind: str, score: float, chance: float) -> Passage:
        """At or above it."""
        return Passage.SERVE if self.stands(kind, score) else Passage.REFUSE

    def stands(self, kind: str, score: float) -> bool:
        """At or above it."""
        return score >= self.threshold

    def served(self, kind: str, score: float) -> None:
        """Nothing is learned from that."""

    def compared(self, kind: str, score: float, *, right: bool, explored: bool) -> bool:
        """Nothing is learned from that."""
        return False

    def judged(self, kind: str, score: float, *, right: bool) -> bool:
        """Nothing is learned from that."""
        return False

    def levels(self) -> Sequence[Level]:
        """One for all."""
        return (Level(kind="", threshold=self.threshold),)

    def shown(self) -> dict[str, object]:
        """As JSON."""
        return {"threshold": round(self.threshold, 4), "recent_accuracy": None, "verdicts": 0, "classes": []}

    def dumped(self) -> object:
        """Nothing."""
        return None

    def written(self) -> None:
        """Nothing was."""

    def restore(self, dumped: object) -> None:
        """Nothing."""


class AdaptiveBar(FixedBar):
    """A cosine that follows verdicts: up a step while too many are bad, down a step while nearly all are good."""

    def __init__(self, threshold: float, *, least: float, most: float, step: float) -> None:
        super().__init__(threshold)
        self._least, self._most, self._step = least, most, step
        self._verdicts: deque[bool] = deque(maxlen=VERDICTS)
        self._unwritten: deque[bool] = deque(maxlen=VERDICTS)
        """Those that nobody else knows of."""
        self._dumped = 0
        """How many of these the last dump had."""

    @property
    def accuracy(self) -> float | None:
        """The share of good ones among the last verdicts; None where there are none."""
        return sum(self._verdicts) / len(self._verdicts) if self._verdicts else None

    def judged(self, kind: str, score: float, *, right: bool) -> bool:
        """Follow one more verdict."""
        self._unwritten.append(right)
        self._follow(right)
        return True

    def _follow(self, right: bool) -> None:
        self._verdicts.append(right)
        accuracy = self.accuracy
        if accuracy is None or len(self._verdicts) < FIRST_VERDICTS:
            return
        if accuracy < ENOUGH:
            self.threshold = min(self._most, self.threshold + self._step)
        elif accuracy > PLENTY:
            self.threshold = max(self._least, self.threshold - self._step)

    def levels(self) -> Sequence[Level]:
        """One for all."""
        right = sum(self._verdicts)
        return (Level(kind="", threshold=self.threshold, right=right, wrong=len(self._verdicts) - right),)

    def shown(self) -> dict[str, object]:
        """As JSON."""
        accuracy = self.accuracy
        shown = {"recent_accuracy": None if accuracy is None else round(accuracy, 4), "verdicts": len(self._verdicts)}
        return {**super().shown(), **shown}

    def dumped(self) -> object:
        """Threshold and verdicts."""
        self._dumped = len(self._unwritten)
        return {"threshold": self.threshold, "verdicts": list(self._verdicts)}

    def written(self) -> None:
        """What was dumped last is known to others now."""
        for _ in range(min(self._dumped, len(self._unwritten))):
            self._unwritten.popleft()
        self._dumped = 0

    def restore(self, dumped: object) -> None:
        """Go on from there, with the verdicts that are known here alone."""
        if isinstance(dumped, dict) and isinstance(dumped.get("threshold"), float):
            self.threshold = min(self._most, max(self._least, dumped["threshold"]))
            self._verdicts.clear()
            self._verdicts.extend(bool(verdict) for verdict in dumped.get("verdicts") or ())
            for right in self._unwritten:
                self._follow(right)


class CalibratedBar:
    """The verifier's score from which on errors per hit stay under the limit; one calibration for each class."""

    verified = True

    def __init__(self, make: Callable[[], Calibration], kinds: tuple[str, ...], *, explores: bool) -> None:
        self._kinds = {kind: make() for kind in kinds}
        self._explores = explores

    def __repr__(self) -> str:
        return f"<CalibratedBar, {self._kinds}>"

    def passes(self, kind: str, score: float, chance: float) -> Passage:
        """At or above the threshold, but for a few that are explored."""
        if not self.stands(kind, score):
            return Passage.REFUSE
        return Passage.EXPLORE if self._explores and chance < self._kinds[kind].exploring else Passage.SERVE

    def stands(self, kind: str, score: float) -> bool:
        """At or above the threshold."""
        return score >= self._kinds[kind].threshold

    def served(self, kind: str, score: float) -> None:
        """Count it."""
        self._kinds[kind].served(score)

    def compared(self, kind: str, score: float, *, right: bool, explored: bool) -> bool:
        """One more label; one that was explored stands for those that were not."""
        calibration = self._kinds[kind]
        # Everything below the threshold is looked at, and everything where nothing is served.
        weight = 1 / calibration.exploring if explored and self._explores else 1.0
        calibration.explored += explored
        return calibration.add(Label(score=score, right=right, weight=weight))

    def judged(self, kind: str, score: float, *, right: bool) -> bool:
        """A verdict on what was served. Only a bad one is a label: nobody reports the good ones."""
        return not right and self._kinds[kind].add(Label(score=score, right=False))

    def levels(self) -> Sequence[Level]:
        """One for each class."""
        return tuple(
            Level(
                kind=kind,
                threshold=each.threshold,
                bound=each.bound,
                right=each.right,
                wrong=each.labels - each.right,
                explored=each.explored,
                served=each.served_ever,
            )
            for kind, each in self._kinds.items()
        )

    def shown(self) -> dict[str, object]:
        """As JSON, by class."""
        classes = [{"class": kind, **calibration.shown()} for kind, calibration in self._kinds.items()]
        return {"threshold": None, "recent_accuracy": None, "verdicts": 0, "classes": classes}

    def dumped(self) -> object:
        """By class."""
        return {kind: calibration.dumped() for kind, calibration in self._kinds.items()}

    def written(self) -> None:
        """By class."""
        for calibration in self._kinds.values():
            calibration.written()

    def restore(self, dumped: object) -> None:
        """By class."""
        for kind, calibration in self._kinds.items():
            calibration.restore(dumped.get(kind) if isinstance(dumped, dict) else None)


def bar(settings: SemanticSettings, verifier: str) -> Bar:
    """The bar of the operator's policy; what *verifier* was calibrated on goes before what is learned."""
    match settings.policy:
        case "fixed":
            return FixedBar(settings.threshold)
        case "adaptive":
            return AdaptiveBar(
                settings.threshold,
                least=settings.min_threshold,
                most=settings.max_threshold,
                step=settings.threshold_step,
            )
        case _:
            prior = shipped_prior(verifier)
            make = partial(Calibration, prior, limit=settings.max_error_rate, judge_error=sameness.ERROR_RATE)
            return CalibratedBar(make, tuple(KINDS.values()), explores=settings.policy != "shadow")
