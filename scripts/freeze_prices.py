"""Freeze the price list of the installed genai-prices into proxy/data/prices.json.

    pip install -U genai-prices && python scripts/freeze_prices.py

Why a frozen file and not the library at run time: importing it costs 0.36 s and 27 MB (pydantic, an HTTP client), a
price a quarter of a millisecond, and its newest release would change a company's figures without anybody having read
the difference. The file is dated, exact (decimals as text), one model a line, so that an update is a readable diff; and
a test recomputes it with the library.
"""

import datetime
import json
import re
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from genai_prices.data import providers
from genai_prices.types import (
    ClauseAnd,
    ClauseContains,
    ClauseEndsWith,
    ClauseEquals,
    ClauseOr,
    ClauseRegex,
    ClauseStartsWith,
    ConditionalPrice,
    MatchLogic,
    ModelInfo,
    ModelPrice,
    Provider,
    StartDateConstraint,
    TieredPrices,
    TimeOfDateConstraint,
)

TARGET = Path(__file__).resolve().parents[1] / "proxy" / "data" / "prices.json"

# Our words for what is billed by the token; fees by the page, hour, image or search are not in a usage object.
RATES = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cached",
    "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h",
    "input_audio_mtok": "audio_input",
    "cache_audio_read_mtok": "cached_audio",
    "output_audio_mtok": "audio_output",
    "requests_kcount": "requests",
}
DATE = re.compile(r"\b20\d\d-[01]\d-[0-3]\d\b")


def clause(logic: MatchLogic) -> list[Any]:
    """Return a rule that recognises names, as a word and its operands."""
    match logic:
        case ClauseEquals(equals=text):
            return ["equals", text]
        case ClauseStartsWith(starts_with=text):
            return ["starts", text]
        case ClauseEndsWith(ends_with=text):
            return ["ends", text]
        case ClauseContains(contains=text):
            return ["contains", text]
        case ClauseRegex(regex=text):
            return ["regex", text]
        case ClauseOr(or_=parts):
            return ["or", *map(clause, parts)]
        case ClauseAnd(and_=parts):
            return ["and", *map(clause, parts)]


def rates(prices: ModelPrice) -> dict[str, Any]:
    """Return dollars per million tokens (requests: per thousand) as text; a list where they depend on the prompt."""
    frozen: dict[str, Any] = {}
    for theirs, ours in RATES.items():
        match getattr(prices, theirs):
            case None:
                continue
            case TieredPrices(base=base, tiers=tiers):
                frozen[ours] = [str(base), *([tier.start, str(tier.price)] for tier in tiers)]
            case price:
                frozen[ours] = str(price)
    return frozen


def valid(constraint: StartDateConstraint | TimeOfDateConstraint | None) -> dict[str, Any]:
    """Return when a price holds."""
    match constraint:
        case None:
            return {}
        case StartDateConstraint(start_date=start):
            return {"from": start.isoformat()}
        case TimeOfDateConstraint(start_time=start, end_time=end):
            return {"between": [utc(start), utc(end)]}


def utc(moment: datetime.time) -> str:
    """Return a time of day in UTC."""
    if moment.tzinfo is not None:
        day = datetime.datetime.combine(datetime.date(1970, 1, 1), moment)
        moment = day.astimezone(datetime.UTC).time()
    return moment.isoformat()


def model(info: ModelInfo) -> dict[str, Any] | None:
    """Return one model, or None if it has no price by the token."""
    listed = [ConditionalPrice(prices=info.prices)] if isinstance(info.prices, ModelPrice) else info.prices
    prices = [{**valid(item.constraint), "rates": rates(item.prices)} for item in listed]
    if not any("input" in price["rates"] for price in prices):
        return None
    variants = [
        {"when": item.when, **valid(item.constraint), "rates": changed}
        for item in info.price_variants or ()
        if (changed := rates(item.prices))
    ]
    frozen: dict[str, Any] = {"id": info.id, "match": clause(info.match), "prices": prices}
    return {**frozen, "variants": variants} if variants else frozen


def last_checked() -> str:
    """Return the latest day on which the library's authors say that they looked at a price, or that one began."""
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    days: list[str] = DATE.findall(repr(providers))
    return max(day for day in days if day <= today)


def main() -> int:
    """Write the file; say what is in it."""
    lines: list[str] = []
    count = 0
    for provider in providers:
        models = [json.dumps(frozen) for info in provider.models if (frozen := model(info)) is not None]
        count += len(models)
        lines.append(head(provider) + ("[\n   " + ",\n   ".join(models) + "\n  ]" if models else "[]") + "}")
    source = {"as_of": last_checked(), "source": f"genai-prices {version('genai-prices')}", "licence": "MIT"}
    text = json.dumps(source)[:-1] + ',\n "providers": [\n  ' + ",\n  ".join(lines) + "\n ]\n}\n"
    json.loads(text)
    TARGET.write_text(text, encoding="utf-8")
    print(f"{TARGET}: {len(text)} bytes, {len(lines)} providers, {count} models, as of {source['as_of']}")
    return 0


def head(provider: Provider) -> str:
    """Return the opening of a provider's object, up to its models."""
    fields: dict[str, Any] = {"id": provider.id, "url": provider.api_pattern}
    if provider.fallback_model_providers:
        fields["fallback"] = provider.fallback_model_providers
    return json.dumps(fields)[:-1] + ', "models": '


if __name__ == "__main__":
    sys.exit(main())
