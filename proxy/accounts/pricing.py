"""What tokens cost: dated prices by provider, model, service tier and hour, exact in Decimal; never fetched."""

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from types import MappingProxyType
from typing import Any, NewType, TypeAlias

from proxy.accounts.usage import Usage

Usd = NewType("Usd", Decimal)
"""US dollars, exact."""

PRICES_FILE = Path(__file__).resolve().parents[1] / "data" / "prices.json"
"""Written by ``scripts/freeze_prices.py`` from genai-prices (MIT); its head says when and from which release."""

PER_MILLION = Decimal(1_000_000)
PER_THOUSAND = Decimal(1_000)

# A service tier as an answer names it, where the list price holds.
STANDARD_TIERS = frozenset({"", "auto", "default", "standard", "standard_only"})

# Model names come from answers and so from strangers; what is remembered of them is bounded.
REMEMBERED = 4096
LONGEST_NAME = 256

_COMPACT_DATE = re.compile(r"-(20\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)")


@dataclass(frozen=True, slots=True)
class Rate:
    """US dollars per million tokens. Past a prompt length in `steps`, all tokens cost what stands there."""

    base: Decimal
    steps: tuple[tuple[int, Decimal], ...] = ()

    def at(self, input_tokens: int) -> Decimal:
        """Return the dollars per million tokens for a prompt of *input_tokens*."""
        price = self.base
        for start, dearer in self.steps:
            if input_tokens > start:
                price = dearer
        return price


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a model's tokens cost at one moment. A rate that is not listed costs what the tokens are otherwise."""

    input: Rate
    output: Rate = Rate(Decimal(0))
    """None is listed where a model answers with vectors."""
    cached: Rate | None = None
    cache_write: Rate | None = None
    cache_write_1h: Rate | None = None
    audio_input: Rate | None = None
    cached_audio: Rate | None = None
    audio_output: Rate | None = None
    requests: Rate | None = None
    """US dollars per thousand requests, beside the tokens."""

    def cost(self, usage: Usage) -> Usd:
        """Return what *usage* costs. Reasoning is output; fees for searches and the like are in no usage, nor here."""
        n = usage.input_tokens
        cached = self.cached or self.input
        written = self.cache_write or self.input
        fresh_audio = min(
            usage.audio_input_tokens - usage.cached_audio_tokens, n - usage.cached_tokens - usage.cache_write_tokens
        )
        parts = (
            (self.input, n - usage.cached_tokens - usage.cache_write_tokens - fresh_audio),
            (cached, usage.cached_tokens - usage.cached_audio_tokens),
            (written, usage.cache_write_tokens - usage.cache_write_1h_tokens),
            (self.cache_write_1h or written, usage.cache_write_1h_tokens),
            (self.audio_input or self.input, fresh_audio),
            (self.cached_audio or cached, usage.cached_audio_tokens),
            (self.output, usage.output_tokens - usage.audio_output_tokens),
            (self.audio_output or self.output, usage.audio_output_tokens),
        )
        millionths = sum((rate.at(n) * tokens for rate, tokens in parts), Decimal(0))
        fee = self.requests.at(n) / PER_THOUSAND if self.requests else Decimal(0)
        return Usd(millionths / PER_MILLION + fee)


FREE = Price(input=Rate(Decimal(0)))
"""What one more token costs where the bill does not depend on it: self-hosted, provisioned, flat rate."""

_RATE_NAMES = tuple(part.name for part in fields(Price))

_Recognise: TypeAlias = Callable[[str], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """Rates and when they hold. `when` names what a request must have asked for (a service tier)."""

    rates: Mapping[str, Rate]
    start: date | None = None
    between: tuple[time, time] | None = None
    when: tuple[tuple[str, str], ...] = ()

    def holds(self, moment: datetime) -> bool:
        if self.start is not None and moment.date() < self.start:
            return False
        if self.between is None:
            return True
        begin, end = self.between
        now = moment.time()
        return begin <= now < end if begin <= end else now >= begin or now < end


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listed:
    """A model in the list."""

    recognise: _Recognise
    rows: tuple[_Row, ...]
    variants: tuple[_Row, ...]

    def price(self, when: tuple[tuple[str, str], ...], moment: datetime) -> Price | None:
        # The last that holds counts; the first, if none does.
        row = next((row for row in reversed(self.rows) if row.holds(moment)), self.rows[0])
        rates = dict(row.rates)
        if when:
            changes = [variant for variant in self.variants if variant.when == when and variant.holds(moment)]
            if not changes:
                return None
            for change in reversed(changes):
                rates.update(change.rates)
        if "input" not in rates:
            return None
        return Price(**rates)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Provider:
    name: str
    url: re.Pattern[str]
    models: tuple[_Listed, ...]
    fallback: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Found:
    """What a lookup came to: a fixed price, a listed model with what was asked of it, or nothing."""

    fixed: Price | None = None
    listed: _Listed | None = None
    when: tuple[tuple[str, str], ...] = field(default=())


class Prices:
    """The price list, with the operator's own prices before it. Safe to use from several threads."""

    def __init__(
        self,
        overrides: Mapping[str, Mapping[str, object]] = MappingProxyType({}),
        *,
        provider: str | None = None,
        marginal: Mapping[str, object] | None = None,
        file: Path = PRICES_FILE,
    ) -> None:
        """Read the list in *file* (a few milliseconds).

        *overrides*: model name or pattern (``gpt-4o*``) to rates by name, in US dollars per million tokens; they hold
        for every upstream and tier. *provider*: whose list an upstream follows that is not recognised by its address, a
        gateway of the company's, say. *marginal*: the upstream's bill does not depend on tokens; these rates (``{}``:
        nothing) are what one more costs, for every model without an override. Raises `ValueError` naming a bad setting.
        """
        listed = json.loads(file.read_text("utf-8"))
        self.as_of = date.fromisoformat(listed["as_of"])
        """The day as of which the list was checked."""
        self.source: str = listed["source"]
        self._providers = tuple(_provider(entry) for entry in listed["providers"])
        self._overrides = {
            name.lower(): price_of(rates, f"prices.{name}", require_input=True) for name, rates in overrides.items()
        }
        self._marginal = None if marginal is None else price_of(marginal, "marginal_price", require_input=False)
        if provider is not None:
            self.check_provider(provider)
        self._provider = provider
        self._known: OrderedDict[tuple[str, str, str], _Found] = OrderedDict()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Prices as of {self.as_of}, {self.source}, {len(self._overrides)} overrides>"

    def check_provider(self, provider: str) -> None:
        """Raise `ValueError` where there is no list of *provider*."""
        names = sorted(known.name for known in self._providers)
        if provider not in names:
            close = get_close_matches(provider, names, n=1)
            hint = f", did you mean {close[0]}?" if close else f"; known are {', '.join(names)}"
            raise ValueError(f"provider: no price list of {provider!r}{hint}")

    def price(self, upstream: str, model: str, tier: str | None, when: datetime) -> Price | None:
        """Return what *model* costs at *upstream* (a provider's name or address) at *when*, or None: unpriced.

        *tier* is the service tier that the answer names. An upstream that is not recognised, an unknown model, and a
        tier that has no published price are all unpriced; nothing stands in for them.
        """
        found = self._find(upstream[:LONGEST_NAME], model[:LONGEST_NAME].lower(), (tier or "")[:LONGEST_NAME].lower())
        if found.listed is None:
            return found.fixed
        moment = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
        return found.listed.price(found.when, moment)

    def listed(self, upstream: str, model: str) -> bool:
        """Return whether *model* itself has a price: in the list of *upstream*, or set by name and not by a pattern."""
        name = model[:LONGEST_NAME].lower()
        if name in self._overrides:
            return True
        provider = self._recognised(upstream[:LONGEST_NAME])
        return provider is not None and _model(provider, name) is not None

    def _find(self, upstream: str, model: str, tier: str) -> _Found:
        key = (upstream, model, tier)
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        found = self._look_up(upstream, model, tier)
        with self._lock:
            self._known[key] = found
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return found

    def _look_up(self, upstream: str, model: str, tier: str) -> _Found:
        if (own := self._override(model)) is not None:
            return _Found(fixed=own)
        if self._marginal is not None:
            return _Found(fixed=self._marginal)
        provider = self._recognised(upstream)
        if provider is None:
            return _Found()
        when = () if tier in STANDARD_TIERS else (_condition(tier),)
        for name in dict.fromkeys((model, _COMPACT_DATE.sub(r"-\1-\2-\3", model))):
            if (listed := _model(provider, name)) is not None:
                return _Found(listed=listed, when=when)
            for other in self._providers:
                # Another's list says nothing of the tiers here, so only its standard prices are taken.
                if other.name in provider.fallback and not when and (listed := _model(other, name)) is not None:
                    return _Found(listed=listed)
        return _Found()

    def _override(self, model: str) -> Price | None:
        if model in self._overrides:
            return self._overrides[model]
        return next((price for name, price in self._overrides.items() if fnmatchcase(model, name)), None)

    def _recognised(self, upstream: str) -> _Provider | None:
        for provider in self._providers:
            if provider.name == upstream or provider.url.match(upstream):
                return provider
        return next((provider for provider in self._providers if provider.name == self._provider), None)


def price_of(rates: Mapping[str, object], where: str, *, require_input: bool) -> Price:
    """Return the price that a setting spells, in US dollars per million tokens. Raises `ValueError` that names it."""
    read: dict[str, Rate] = {}
    for name, value in rates.items():
        if name not in _RATE_NAMES:
            raise ValueError(f"{where}.{name}: unknown rate, known are {', '.join(_RATE_NAMES)}")
        try:
            dollars = Decimal(str(value))
        except InvalidOperation:
            dollars = Decimal("NaN")
        if isinstance(value, bool) or not dollars.is_finite() or dollars < 0:
            raise ValueError(f"{where}.{name}: {value!r} is no price in US dollars per million tokens")
        read[name] = Rate(dollars)
    if require_input and "input" not in read:
        raise ValueError(f"{where}.input: missing")
    return Price(**{"input": Rate(Decimal(0)), **read})


def _condition(tier: str) -> tuple[str, str]:
    return ("processing", tier) if tier == "batch" else ("service_tier", tier)


def _model(provider: _Provider, name: str) -> _Listed | None:
    return next((listed for listed in provider.models if listed.recognise(name)), None)


def _provider(entry: Mapping[str, Any]) -> _Provider:
    return _Provider(
        name=entry["id"],
        url=re.compile(entry["url"]),
        models=tuple(
            _Listed(
                recognise=_recogniser(model["match"]),
                rows=tuple(map(_row, model["prices"])),
                variants=tuple(map(_row, model.get("variants", ()))),
            )
            for model in entry["models"]
        ),
        fallback=tuple(entry.get("fallback", ())),
    )


def _row(entry: Mapping[str, Any]) -> _Row:
    between = entry.get("between")
    return _Row(
        rates={name: _rate(value) for name, value in entry["rates"].items()},
        start=date.fromisoformat(entry["from"]) if "from" in entry else None,
        between=(time.fromisoformat(between[0]), time.fromisoformat(between[1])) if between else None,
        when=tuple(entry.get("when", {}).items()),
    )


def _rate(value: str | list[Any]) -> Rate:
    if isinstance(value, str):
        return Rate(Decimal(value))
    base, *steps = value
    return Rate(Decimal(base), tuple((start, Decimal(price)) for start, price in steps))


def _recogniser(clause: Sequence[Any]) -> _Recognise:
    """Return the test that *clause* describes; names come in lower case."""
    word, *operands = clause
    match word:
        case "or":
            tests = [_recogniser(operand) for operand in operands]
            return lambda name: any(test(name) for test in tests)
        case "and":
            tests = [_recogniser(operand) for operand in operands]
            return lambda name: all(test(name) for test in tests)
        case "regex":
            pattern = re.compile(operands[0])
            return lambda name: pattern.search(name) is not None
        case _:
            compare = _COMPARISONS[word]
            text: str = operands[0].lower()
            return lambda name: compare(name, text)


_COMPARISONS: Mapping[str, Callable[[str, str], bool]] = MappingProxyType(
    {
        "equals": lambda name, text: name == text,
        "starts": lambda name, text: name.startswith(text),
        "ends": lambda name, text: name.endswith(text),
        "contains": lambda name, text: text in name,
    }
)
