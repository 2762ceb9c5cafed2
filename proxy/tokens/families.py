"""What is known of a model by its name: its vocabulary, and how its family frames messages, tools and calls."""

import re
from dataclasses import dataclass
from enum import StrEnum

from proxy.tokens.encodings import EncodingName


class Family(StrEnum):
    """Models that render a conversation alike. The figures behind it stand in `proxy.tokens.framing`."""

    CLASSIC = "classic"
    """gpt-3.5, gpt-4, gpt-4o, gpt-4.1, gpt-4.5."""
    FIRST_CHAT = "first_chat"
    """gpt-3.5-turbo-0301, which Azure called gpt-35-turbo: a token more for each message."""
    EARLY_REASONING = "early_reasoning"
    """o1, o3-mini: frames like the classics, with one token less before the answer."""
    REASONING = "reasoning"
    """o3, o4-mini, gpt-5 and after: answers name a channel; tools have a message of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What a name tells."""

    name: str
    encoding: EncodingName
    family: Family
    known: bool
    """False: nothing is known, and o200k_base stands in; figures are estimates."""


# First match wins. Names are lower-case, without a provider's prefix and without "ft:".
_RULES: tuple[tuple[re.Pattern[str], EncodingName, Family], ...] = tuple(
    (re.compile(pattern), encoding, family)
    for pattern, encoding, family in (
        (r"o1(?!\d)|o3-mini", EncodingName.O200K, Family.EARLY_REASONING),
        # Before gpt-5: the non-reasoning chat snapshots of that line are framed like the rest of it.
        (r"o[3-9](?!\d)|gpt-[5-9](?!\d)|gpt-oss|codex-|computer-use", EncodingName.O200K, Family.REASONING),
        (r"gpt-4o|gpt-4\.\d|chatgpt-|gpt-audio|gpt-realtime", EncodingName.O200K, Family.CLASSIC),
        (r"gpt-3\.5-turbo-0301|gpt-35-turbo$", EncodingName.CL100K, Family.FIRST_CHAT),
        (r"gpt-4(?!\d)|gpt-3\.?5", EncodingName.CL100K, Family.CLASSIC),
        (r"text-embedding-(?:ada-002|3-)", EncodingName.CL100K, Family.CLASSIC),
        (r"(?:davinci|babbage)(?:-002|:20)", EncodingName.CL100K, Family.CLASSIC),
        (r"text-davinci-00[23]|code-(?:davinci|cushman)-|(?:davinci|cushman)-codex", EncodingName.P50K, Family.CLASSIC),
        (
            r"(?:text-|code-)?(?:similarity-|search-)?(?:davinci|curie|babbage|ada)(?!\w)",
            EncodingName.R50K,
            Family.CLASSIC,
        ),
    )
)


def model_of(name: object) -> Model:
    """Return what is known of the model called *name*; any JSON value will do."""
    given = name if isinstance(name, str) else ""
    # "openai/gpt-4o" (OpenRouter, LiteLLM), "ft:gpt-4o-mini:acme::id".
    bare = given.lower().rpartition("/")[2].removeprefix("ft:")
    for pattern, encoding, family in _RULES:
        if pattern.match(bare):
            return Model(name=given, encoding=encoding, family=family, known=True)
    return Model(name=given, encoding=EncodingName.O200K, family=Family.CLASSIC, known=False)
