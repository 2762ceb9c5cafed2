"""Where breakpoints pay: at ends of segments whose prefix will be asked for again in time often enough. Pure."""

from collections.abc import Sequence

from proxy.prefix import worth
from proxy.prefix.prompt import Prompt
from proxy.prefix.rules import Rule
from proxy.values import value

CAUTION = 0.8
"""Chances are taken for less than they were: what was learned may be over by now, and a write is paid at once."""

ENOUGH_VERDICTS = 12
"""Before so many are known the provider's own marks are not switched off."""


PARTING = 0.05
"""How much rarer what follows a place must be for it to count as one where prompts part."""

FREE = 0.02
"""The chance from which on a mark is set that costs nothing."""


@value
class Place:
    """The end of one segment."""

    number: int
    """Of the segment."""
    octets: int
    """From the start of the prompt."""
    chance: float
    """That this prefix is asked for again in time."""
    live: bool
    """The provider has it now."""
    markable: bool
    within: bool = False
    """Within a turn: more of it follows."""


@value
class Marks:
    """What to set."""

    numbers: tuple[int, ...] = ()
    """Segments behind which a mark belongs."""
    explicit: bool = False
    """The provider's own marks are to be switched off: they would write what nobody reads."""

    def __bool__(self) -> bool:
        return bool(self.numbers) or self.explicit


NONE = Marks()


def choose(prompt: Prompt, places: Sequence[Place], rule: Rule, *, per_octet: float, verdicts: float) -> Marks:
    """The marks that make *prompt* cheapest in the long run; *places* from its start to its end.

    Writing up to a place pays for every stretch before it by that stretch's own chance, so the deepest place is the one
    up to which the gains add up to most. *verdicts*: how many are known of the ends of such prompts.
    """
    fit = [place for place in places if place.markable and place.octets * per_octet >= rule.min_tokens]
    deepest = _deepest(fit, rule)
    if not rule.implicit:
        return Marks(numbers=_around(deepest, fit, rule)) if deepest is not None else NONE
    return _beside_implicit(places, fit, deepest, rule, per_octet=per_octet, verdicts=verdicts)


def _deepest(fit: Sequence[Place], rule: Rule) -> Place | None:
    """The place up to which caching gains most; None where nothing is gained.

    What lies before the first place that is long enough can only be read together with it.
    """
    best, most, gained, done = None, 0.0, 0.0, 0
    for place in fit:
        gained += (place.octets - done) * _gain(place, rule)
        done = place.octets
        if gained > most:
            best, most = place, gained
    return best


def _gain(place: Place, rule: Rule) -> float:
    """What an octet before *place* gains, as a share of its plain price."""
    if place.live:
        return 1.0 - rule.read
    return 1.0 - worth.cost(place.chance * CAUTION, read=rule.read, write=rule.write)


def _around(deepest: Place, fit: Sequence[Place], rule: Rule) -> tuple[int, ...]:
    """*deepest*, and marks before it that cost nothing more: where others branch off, and where the cache is found."""
    pays = worth.break_even(read=rule.read, write=rule.write)
    inner = [place for place in fit if place.number < deepest.number]
    chosen = [deepest.number]
    live = [place for place in inner if place.live]
    if live and (rule.implicit or deepest.number - live[-1].number > rule.lookback):
        # Not found from the deepest mark: too far behind it, or nothing but the marks themselves is looked up.
        chosen.append(live[-1].number)
    # A place that is asked for more often than what follows it is where prompts part.
    following = dict(zip([place.number for place in inner], [*inner[1:], deepest], strict=False))
    forks = [place for place in inner if place.chance > pays and place.number not in chosen]
    forks = [place for place in forks if place.live or place.chance > following[place.number].chance + PARTING]
    forks.sort(key=lambda place: following[place.number].chance - place.chance)
    chosen += [place.number for place in forks]
    return tuple(sorted(chosen[: rule.max_marks]))


def _beside_implicit(
    places: Sequence[Place],
    fit: Sequence[Place],
    deepest: Place | None,
    rule: Rule,
    *,
    per_octet: float,
    verdicts: float,
) -> Marks:
    """The provider marks the ends of the system prompt and of the last turn, and bills the writing of both."""
    last = places[-1] if places else None
    if last is None or last.octets * per_octet < rule.min_tokens:
        return NONE
    wanted = deepest is not None and deepest.number == last.number
    if wanted or last.live or verdicts < ENOUGH_VERDICTS:
        # It writes all of it anyway, so further marks are free: it never looks within a turn.
        within = [place.number for place in fit if place.within and (place.live or place.chance > FREE)]
        return Marks(numbers=tuple(within[-rule.max_marks :]))
    return Marks(numbers=_around(deepest, fit, rule) if deepest is not None else (), explicit=True)
