"""Reads the settings from file, environment and command line, each over the last, and checks them.

Only this module knows that YAML and the environment exist.
"""

import dataclasses
import difflib
import math
import os
import re
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from proxy.consistency import check
from proxy.errors import ConfigError
from proxy.settings import Config, UpstreamSettings

ENV_PREFIX = "ASKONCE_"
"""``ASKONCE_CACHE__TTL_S=60`` sets ``cache.ttl_s``."""

SHORTHANDS = {"upstream": "url"}
"""Sections that may be written as one value: ``upstream: https://...`` means ``upstream.url``."""


def load(*, file: Path | None = None, environment: Mapping[str, str] | None = None, sets: Iterable[str] = ()) -> Config:
    """The settings: defaults, then *file*, then *environment*, then *sets* (``a.b=value``), each over the last.

    Raises:
        ConfigError: the first setting that is wrong, with its path, the reason and the near miss.
    """
    tree: dict[str, object] = {}
    if file is not None:
        _merge(tree, _read(file), source=str(file))
    for name, text in sorted((environment if environment is not None else os.environ).items()):
        if name.startswith(ENV_PREFIX) and name != ENV_PREFIX:
            path = name.removeprefix(ENV_PREFIX).lower().split("__")
            _merge(tree, _given(path, text, source=name), source=name)
    for item in sets:
        dotted, equals, text = item.partition("=")
        if not equals:
            raise ConfigError(f"--set {item}: write it as a.b=value")
        _merge(tree, _given(dotted.split("."), text, source=""), source=f"--set {dotted}")
    config: Config = _build(Config, tree, "")
    check(config)
    return config


def provider_keys(config: Config, environment: Mapping[str, str] | None = None) -> Mapping[str, bytes | None]:
    """The key for each provider by its name, the default one's under the empty text; None where it wants none.

    Raises:
        ConfigError: a key that should be there is not, or is none.
    """
    found = environment if environment is not None else os.environ
    whose = {"": ("upstream", config.upstream)}
    whose.update({name: (f"upstreams.{name}", each) for name, each in config.upstreams.items()})
    return {name: _provider_key(settings, where, found) for name, (where, settings) in whose.items()}


def _provider_key(settings: UpstreamSettings, where: str, environment: Mapping[str, str]) -> bytes | None:
    if settings.key_file:
        at = f"{where}.key_file"
        try:
            key = Path(settings.key_file).read_text(encoding="ascii").strip()
        except OSError as error:
            raise ConfigError(f"{at}: {settings.key_file!r} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError:
            raise ConfigError(f"{at}: what stands in {settings.key_file!r} is no key") from None
    elif settings.key_env:
        at = f"{where}.key_env"
        key = environment.get(settings.key_env, "").strip()
        if not key:
            raise ConfigError(
                f"{at}: {settings.key_env} is not set in the environment; keys.mode shared needs the provider's key "
                f"there or in {where}.key_file (both empty: this provider wants none)"
            )
    else:
        return None
    if not re.fullmatch(r"[!-~]+", key):
        raise ConfigError(f"{at}: what stands there is no key: it must be one line of printable characters")
    return key.encode()


def _read(file: Path) -> Mapping[str, object]:
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: not valid YAML: not in UTF-8") from error
    loaded = _yaml(text, str(file))
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise ConfigError(f"{file}: expected settings as `name: value`, found {_kind(loaded)}")
    return loaded


class _Loader(yaml.SafeLoader):
    """YAML in which a name that stands twice in one section is an error: one of the two would be lost in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[typing.Hashable, Any]:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for number, (key, _) in enumerate(node.value):
            if isinstance(key, yaml.ScalarNode) and key.value in names[:number]:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} is set twice", key.start_mark)
        return super().construct_mapping(node, deep)


def _yaml(text: str, where: str) -> object:
    try:
        return yaml.load(text, _Loader)  # noqa: S506  (a SafeLoader)
    except yaml.MarkedYAMLError as error:
        # No more of the text than its place: it may hold a secret.
        at = error.problem_mark
        place = f"line {at.line + 1}, column {at.column + 1}: " if at is not None else ""
        raise ConfigError(f"{where}: not valid YAML: {place}{error.problem}") from None
    except (yaml.YAMLError, ValueError):
        # A character that YAML does not allow, or a date that is in no calendar.
        raise ConfigError(f"{where}: not valid YAML") from None


def _given(path: list[str], text: str, *, source: str) -> dict[str, object]:
    """The tree in which the setting at *path* is *text*: as it stands where a text is wanted, else read as YAML.

    YAML would take a secret like ``0123`` for a number and cut one off at `` #``.
    """
    dotted = ".".join(path)
    kind: object = Config
    for at, name in enumerate(path):
        if (section := _section(kind)) is not None:
            # A name that the operator chose: upstreams.claude.url
            kind = section
            continue
        if typing.get_origin(kind) is Mapping:
            # The rest is one name, dots and all: cache.when_by_model.gpt-4.1
            if kind == Mapping[str, str]:
                return _nest([*path[:at], ".".join(path[at:])], text)
            if kind == Mapping[str, float]:
                return _nest([*path[:at], ".".join(path[at:])], _yaml(text, dotted))
            # Or a name and what it has below: accounting.prices.gpt-4.1={input: 2}, accounting.prices.gpt-4.1.input=2
            below = _yaml(text, f"{dotted} (from {source})" if source else f"--set {dotted}")
            if isinstance(below, dict) or len(path) == at + 1:
                return _nest([*path[:at], ".".join(path[at:])], below)
            return _nest([*path[:at], ".".join(path[at:-1]), path[-1]], below)
        if not dataclasses.is_dataclass(kind):
            break
        hints = typing.get_type_hints(kind)
        if name not in hints:
            near = _near(name, hints, "".join(f"{section}." for section in path[:at]))
            raise ConfigError(f"{dotted}: unknown setting{near}{f' (from {source})' if source else ''}")
        kind = hints[name]
    listed = typing.get_origin(kind) is tuple and not text.lstrip().startswith("[")
    if kind is str or listed or (dotted in SHORTHANDS and not text.lstrip().startswith("{")):
        return _nest(path, text)
    value = _yaml(text, f"{dotted} (from {source})" if source else f"--set {dotted}")
    return _nest(path, "" if value is None and text.strip() not in ("null", "~") else value)


def _nest(path: list[str], value: object) -> dict[str, object]:
    for name in reversed(path):
        value = {name: value}
    return typing.cast(dict[str, object], value)


def _merge(tree: dict[str, object], more: Mapping[str, object], *, source: str) -> None:
    for name, value in more.items():
        if not isinstance(name, str):
            raise ConfigError(f"{source}: {name!r} is not the name of a setting")
        if name in SHORTHANDS and value is not None and not isinstance(value, dict):
            value = {SHORTHANDS[name]: value}
        below = tree.get(name)
        if isinstance(below, dict) and isinstance(value, dict):
            _merge(below, value, source=source)
        elif isinstance(value, dict):
            copy: dict[str, object] = {}
            _merge(copy, value, source=source)
            tree[name] = copy
        else:
            tree[name] = value


def _section(hint: object) -> type[Any] | None:
    """What stands under each name, where *hint* is a mapping of names to sections."""
    of = typing.get_args(hint)
    return of[1] if typing.get_origin(hint) is Mapping and dataclasses.is_dataclass(of[1]) else None  # type: ignore[return-value]


def _build(kind: type[Any], tree: Mapping[str, object], path: str) -> Any:  # noqa: ANN401
    fields = {each.name: each for each in dataclasses.fields(kind)}
    hints = typing.get_type_hints(kind)
    values: dict[str, object] = {}
    for name, value in tree.items():
        where = f"{path}{name}"
        if name not in fields:
            raise ConfigError(f"{where}: unknown setting{_near(name, fields, path)}")
        if dataclasses.is_dataclass(hints[name]):
            if value is None:
                value = {}
            if not isinstance(value, dict):
                raise ConfigError(f"{where}: expected a section with settings, found {_kind(value)}")
            values[name] = _build(typing.cast(type[Any], hints[name]), value, f"{where}.")
        elif (section := _section(hints[name])) is not None:
            values[name] = _sections(value, section, where)
        else:
            values[name] = _check(
                _coerce(value, hints[name], where, fields[name].metadata), fields[name].metadata, where
            )
    return kind(**values)


def _sections(value: object, section: type[Any], where: str) -> dict[str, object]:
    """Sections of one kind under names of the operator's own."""
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: expected sections as `name: {{setting: value}}`, found {_kind(value)}")
    built: dict[str, object] = {}
    for name, below in value.items():
        if not isinstance(below, dict):
            raise ConfigError(f"{where}.{name}: expected a section with settings, found {_kind(below)}")
        built[name] = _build(section, below, f"{where}.{name}.")
    return built


def _near(name: str, fields: Iterable[str], path: str) -> str:
    settings = [dotted for dotted, _, _ in describe()]
    joined = [dotted for dotted in settings if dotted.replace(".", "_") == f"{path}{name}".replace(".", "_")]
    if joined:
        return f", did you mean {joined[0]}?"
    close = difflib.get_close_matches(name, list(fields), n=1, cutoff=0.6)
    if close:
        return f", did you mean {path}{close[0]}?"
    elsewhere = [dotted for dotted in settings if dotted.rpartition(".")[2] == name]
    if elsewhere:
        return f", did you mean {elsewhere[0]}?"
    return f"; known here: {', '.join(sorted(fields))}"


def _kind(value: object, *, secret: bool = False) -> str:
    names = {
        dict: "a section",
        list: "a list",
        str: "a text",
        bool: "true or false",
        int: "a number",
        float: "a number",
    }
    kind = "nothing" if value is None else names.get(type(value), type(value).__name__)
    return kind if value is None or secret else f"{kind} ({value!r})"


def _coerce(value: object, hint: object, where: str, metadata: Mapping[str, Any]) -> object:
    found = _kind(value, secret=bool(metadata.get("secret")))
    origin = typing.get_origin(hint)
    if origin is tuple:
        items = [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
        if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
            raise ConfigError(f"{where}: expected a list of texts, found {found}")
        return tuple(items)
    if rates := metadata.get("rates"):
        return _rates(value, rates, where)
    if hint == Mapping[str, float]:
        return _numbers(value, where)
    if origin is not None:
        choices = metadata.get("choices", ())
        if isinstance(value, dict) and choices:
            value = {name: _word(each, choices) for name, each in value.items()}
        if not isinstance(value, dict) or not all(isinstance(k, str) and isinstance(v, str) for k, v in value.items()):
            raise ConfigError(f"{where}: expected `name: text` pairs, found {found}")
        return dict(value)
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if type(value) is hint:
        return value
    if hint is str and isinstance(word := _word(value, metadata.get("choices", ())), str):
        return word
    expected = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
    quotes = "; put it in quotes" if hint is str and isinstance(value, int | float) else ""
    raise ConfigError(f"{where}: expected {expected[typing.cast(type, hint)]}, found {found}{quotes}")


def _word(value: object, choices: Iterable[str]) -> object:
    """*value*, or the word that it was: YAML reads a bare ``off`` as false."""
    word = {True: "on", False: "off"}[value] if isinstance(value, bool) else ""
    return word if word in choices else value


def _numbers(value: object, where: str) -> dict[str, float]:
    if not isinstance(value, dict) or not all(
        isinstance(name, str) and isinstance(number, int | float) and not isinstance(number, bool)
        for name, number in value.items()
    ):
        raise ConfigError(f"{where}: expected `name: number` pairs, found {_kind(value)}")
    return {name: float(number) for name, number in value.items()}


def _rates(value: object, known: tuple[str, ...], where: str) -> dict[str, dict[str, float]]:
    """Prices by model: rates by name, each a number of dollars."""
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: expected prices as `model: {{input: dollars, ...}}`, found {_kind(value)}")
    read: dict[str, dict[str, float]] = {}
    for model, rates in value.items():
        at = f"{where}.{model}"
        if not isinstance(rates, dict):
            raise ConfigError(f"{at}: expected rates as `name: dollars per million tokens`, found {_kind(rates)}")
        for name, dollars in rates.items():
            if name not in known:
                close = difflib.get_close_matches(str(name), known, n=1)
                hint = f", did you mean {at}.{close[0]}?" if close else f"; known here: {', '.join(known)}"
                raise ConfigError(f"{at}.{name}: unknown rate{hint}")
            if isinstance(dollars, bool) or not isinstance(dollars, int | float):
                raise ConfigError(f"{at}.{name}: expected a number of dollars, found {_kind(dollars)}")
            if not 0 <= dollars < math.inf:
                raise ConfigError(f"{at}.{name}: must be 0 or more dollars, found {dollars!r}")
        if "input" not in rates:
            raise ConfigError(f"{at}.input: missing; say what a million input tokens cost, 0 if nothing")
        read[str(model)] = dict(rates)
    return read


def _check(value: object, metadata: Mapping[str, Any], where: str) -> object:
    least, choices, pattern = metadata.get("least"), metadata.get("choices"), metadata.get("pattern")
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else (value,):
        if least is not None and isinstance(each, int | float) and not each >= least:
            raise ConfigError(f"{where}: must be at least {least:g}, found {each!r}")
    if choices:
        for each in value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else (value,):
            if each not in choices:
                close = difflib.get_close_matches(str(each), choices, n=1)
                hint = f", did you mean {close[0]}?" if close else ""
                raise ConfigError(f"{where}: must be one of {', '.join(choices)}; found {each!r}{hint}")
    if pattern and not re.fullmatch(pattern, str(value)):
        raise ConfigError(f"{where}: {value!r} does not fit; it must match {pattern}")
    return value


def describe(config: Config | None = None) -> list[tuple[str, object, bool]]:
    """Every setting as (dotted path, value, is it a secret), in the order of the tree."""
    rows: list[tuple[str, object, bool]] = []

    def walk(node: object, path: str) -> None:
        for each in dataclasses.fields(typing.cast(Any, node)):
            value = getattr(node, each.name)
            if dataclasses.is_dataclass(value):
                walk(value, f"{path}{each.name}.")
            else:
                rows.append((f"{path}{each.name}", value, bool(each.metadata.get("secret"))))

    walk(config if config is not None else Config(), "")
    return rows


def effective(config: Config) -> dict[str, object]:
    """The settings as a nested mapping fit for printing: secrets are masked."""
    tree: dict[str, object] = {}
    for path, value, secret in describe(config):
        *sections, name = path.split(".")
        node = tree
        for section in sections:
            node = typing.cast(dict[str, object], node.setdefault(section, {}))
        node[name] = _shown(value, secret=secret)
    return tree


def _shown(value: object, *, secret: bool) -> object:
    if secret and value:
        return dict.fromkeys(value, "***") if isinstance(value, dict) else "***"
    if dataclasses.is_dataclass(value):
        return {
            each.name: _shown(getattr(value, each.name), secret=bool(each.metadata.get("secret")))
            for each in dataclasses.fields(value)
        }
    if isinstance(value, dict):
        return {name: _shown(below, secret=False) for name, below in value.items()}
    return list(value) if isinstance(value, tuple) else value
