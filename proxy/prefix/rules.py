"""What each provider's prompt cache does, as dated data: how it matches, what it costs, which fields it accepts."""

import difflib
import fnmatch
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import date
from enum import StrEnum
from pathlib import Path

import yaml

from proxy.errors import ConfigError

RULES_FILE = Path(__file__).resolve().parent.parent / "data" / "prefix_rules.yaml"

REMEMBERED = 1024
"""Models whose rule is remembered: their names come from strangers."""


class Semantics(StrEnum):
    """Which prefixes of a prompt a provider can use again."""

    BLOCK = "block"
    """The longest known one, in steps."""
    BREAKPOINT = "breakpoint"
    """Only those that end at a mark."""
    UNIT = "unit"
    """Pieces that the provider chooses: whole requests, and what several had in common."""
    SLOT = "slot"
    """What the memory of a self-hosted engine holds, to the token or a small block."""
    UNKNOWN = "unknown"
    """Nothing is published: what its usage tells is all there is."""


class KeyEffect(StrEnum):
    """What a prompt cache key does."""

    NONE = "none"
    """Nothing that is known."""
    ROUTING = "routing"
    """Requests of one key go to one machine, up to a rate."""
    PARTITION = "partition"
    """Requests of different keys share nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What holds for one model at one provider."""

    name: str = "unknown"
    semantics: Semantics = Semantics.UNKNOWN
    implicit: bool = False
    """The provider marks the end of the system prompt and of the last turn itself."""
    min_tokens: int = 0
    step_tokens: int = 1
    read: float = 1.0
    write: float = 1.0
    write_1h: float = 1.0
    ttl_s: float = 300.0
    key: str = ""
    key_effect: KeyEffect = KeyEffect.NONE
    key_rpm: int = 0
    mark: str = ""
    max_marks: int = 0
    lookback: int = 0

    @property
    def steers(self) -> bool:
        """Whether a key from us could make more requests hit."""
        return bool(self.key) and self.key_effect is KeyEffect.ROUTING and self.key_rpm > 0


UNKNOWN = Rule()

_NUMBERS: Mapping[str, tuple[float, float]] = {
    "min_tokens": (0, 1e6),
    "step_tokens": (1, 1e6),
    "read": (0, 10),
    "write": (0, 10),
    "write_1h": (0, 10),
    "ttl_s": (1, 1e8),
    "key_rpm": (0, 1e6),
    "max_marks": (0, 100),
    "lookback": (0, 1000),
}
"""The numbers of a rule, with the range in which each makes sense."""

_WHOLE = frozenset({"min_tokens", "step_tokens", "key_rpm", "max_marks", "lookback"})
_TEXTS = frozenset({"key", "mark"})
_NAMES = frozenset({each.name for each in fields(Rule)} - {"name"} | {"hosts", "models"})
_MARKS = ("", "cache_control", "prompt_cache_breakpoint")
"""The marks that we know how to write."""

_Number = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class _Written:
    """A rule as it stands in the file."""

    name: str
    hosts: tuple[str, ...]
    models: tuple[str, ...]
    words: Mapping[str, str]
    implicit: bool
    numbers: Mapping[str, _Number]

    def rule(self, model: str) -> Rule:
        found: dict[str, float] = {}
        for name, by_model in self.numbers.items():
            for pattern, number in by_model.items():
                if fnmatch.fnmatchcase(model, pattern):
                    found[name] = int(number) if name in _WHOLE else float(number)
                    break
        return Rule(
            name=self.name,
            semantics=Semantics(self.words.get("semantics", "unknown")),
            implicit=self.implicit,
            key=self.words.get("key", ""),
            key_effect=KeyEffect(self.words.get("key_effect", "none")),
            mark=self.words.get("mark", ""),
            **found,  # type: ignore[arg-type]
        )


class Rules:
    """The rules in their order. Not safe to use from several threads."""

    def __init__(self, written: tuple[_Written, ...], as_of: date) -> None:
        self._written = written
        self.as_of = as_of
        """The day as of which they were checked against the providers' pages."""
        self._known: dict[tuple[str, str], Rule] = {}

    def __repr__(self) -> str:
        return f"<Rules as of {self.as_of}, {len(self._written)}>"

    @property
    def names(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(each.name for each in self._written)

    def find(self, provider: str, model: str) -> Rule:
        """What holds for *model* at *provider*, a host or the name of a rule; ``UNKNOWN`` where nothing does."""
        at = (provider, model)
        found = self._known.get(at)
        if found is None:
            found = self._find(provider.lower(), model.lower())
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known[at] = found
        return found

    def _find(self, provider: str, model: str) -> Rule:
        # Gateways put the provider in front: openai/gpt-4o.
        model = model.rpartition("/")[2]
        for each in self._written:
            here = each.name == provider or any(fnmatch.fnmatchcase(provider, host) for host in each.hosts)
            if here and any(fnmatch.fnmatchcase(model, pattern) for pattern in each.models):
                return each.rule(model)
        return UNKNOWN


def read(own: Path | None = None) -> Rules:
    """The rules of the package, with those of the file *own* before them.

    Raises:
        ConfigError: *own* cannot be read or holds what is no rule; the message names the place.
    """
    as_of, ours = _file(RULES_FILE)
    theirs = _file(own)[1] if own is not None else ()
    return Rules((*theirs, *ours), as_of)


def _file(path: Path) -> tuple[date, tuple[_Written, ...]]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"prefix.rules_file: {path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        raise ConfigError(f"prefix.rules_file: {path}: not valid YAML") from error
    return parse(tree, str(path))


def parse(tree: object, where: str) -> tuple[date, tuple[_Written, ...]]:
    """The day and the rules that *tree* (the YAML of the file *where*) spells. Raises ConfigError."""
    if not isinstance(tree, dict) or not isinstance(tree.get("rules"), dict):
        raise ConfigError(f"{where}: expected `as_of: <date>` and `rules:` with rules by name")
    as_of = tree.get("as_of")
    if not isinstance(as_of, date):
        raise ConfigError(f"{where}: as_of: expected the day the rules were checked, like 2026-11-23")
    if unknown := set(tree) - {"as_of", "rules"}:
        raise ConfigError(f"{where}: {min(map(str, unknown))}: unknown; known here: as_of, rules")
    return as_of, tuple(_written(str(name), rule, f"{where}: rules.{name}") for name, rule in tree["rules"].items())


def _written(name: str, rule: object, where: str) -> _Written:
    if not isinstance(rule, dict):
        raise ConfigError(f"{where}: expected a rule as `name: value` pairs")
    for given in rule:
        if given not in _NAMES:
            close = difflib.get_close_matches(str(given), _NAMES, n=1)
            hint = f", did you mean {close[0]}?" if close else f"; known here: {', '.join(sorted(_NAMES))}"
            raise ConfigError(f"{where}.{given}: unknown{hint}")
    words: dict[str, str] = {}
    for given, allowed in (("semantics", list(Semantics)), ("key_effect", list(KeyEffect))):
        if given in rule:
            if rule[given] not in allowed:
                raise ConfigError(f"{where}.{given}: must be one of {', '.join(allowed)}; found {rule[given]!r}")
            words[given] = str(rule[given])
    implicit = rule.get("implicit", False)
    if not isinstance(implicit, bool):
        raise ConfigError(f"{where}.implicit: expected true or false")
    for given in _TEXTS & rule.keys():
        if not isinstance(rule[given], str) or not re.fullmatch(r"[a-z_]*", rule[given]):
            raise ConfigError(f"{where}.{given}: expected the name of a request field")
        words[given] = rule[given]
    if words.get("mark", "") not in _MARKS:
        raise ConfigError(f"{where}.mark: must be one of {', '.join(_MARKS[1:])}; found {words['mark']!r}")
    return _Written(
        name=name,
        hosts=_patterns(rule.get("hosts", []), f"{where}.hosts"),
        models=_patterns(rule.get("models", ["*"]), f"{where}.models"),
        words=words,
        implicit=implicit,
        numbers={given: _number(given, rule[given], where) for given in _NUMBERS if given in rule},
    )


def _patterns(given: object, where: str) -> tuple[str, ...]:
    if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
        raise ConfigError(f"{where}: expected a list of patterns")
    return tuple(each.lower() for each in given)


def _number(name: str, given: object, where: str) -> _Number:
    least, most = _NUMBERS[name]
    by_model: Mapping[object, object] = given if isinstance(given, dict) else {"*": given}
    read: dict[str, float] = {}
    for pattern, number in by_model.items():
        at = f"{where}.{name}" + (f".{pattern}" if isinstance(given, dict) else "")
        whole = " whole" if name in _WHOLE else ""
        if isinstance(number, bool) or not isinstance(number, int | float) or (whole and isinstance(number, float)):
            raise ConfigError(f"{at}: expected a{whole} number, found {number!r}")
        if not least <= number <= most:
            raise ConfigError(f"{at}: must be {least:g} to {most:g}, found {number!r}")
        read[str(pattern).lower()] = float(number)
    return read
