"""The documents name everything there is: what is not in them was never promised, and nobody finds it."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from proxy import aliases, config, fingerprint, labels, policy
from proxy.accounts.ledger import Ledger
from proxy.accounts.usage import Method
from proxy.aliases import Alias
from proxy.model import Key, Outcome, Reason, Unkept
from proxy.settings import Config

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
EXAMPLE = ROOT / "config.example.yaml"
SCHEMA = json.loads((ROOT / "docs" / "stats.schema.json").read_text(encoding="utf-8"))

SETTINGS = config.describe()
ANSWER_FIELDS = [
    line.partition(b":")[0].decode()
    for line in labels.labels(
        "full",
        Outcome.HIT,
        Reason.FOUND,
        key=Key("k"),
        tier="exact",
        age_s=1,
        ttl_s=1,
        saved_tokens=1,
        saved_method=Method.COUNTED,
        saved_usd="0",
    ).splitlines()
]
REQUEST_FIELDS = sorted(
    {name.decode() for name in (*policy.CONTROLS, *fingerprint.ANSWER_RELEVANT, *fingerprint.CREDENTIALS)}
)


def section(title: str) -> str:
    """The part of the reference under a heading, up to the next one of the same or a higher level."""
    found = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^#{{1,3}} |\Z)", REFERENCE, re.MULTILINE | re.DOTALL)
    assert found is not None, f"docs/reference.md has no section {title!r}"
    return found[2]


def rows(text: str) -> dict[str, list[str]]:
    """The rows of the tables in *text* by their first cell."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return {row[0]: row[1:] for row in cells}


def names(tree: Mapping[str, object]) -> Iterator[str]:
    """The names of every counter, at any depth, that are not words of a vocabulary told elsewhere."""
    for name, below in tree.items():
        yield name
        if isinstance(below, Mapping) and name not in ("reasons", "unkept", "models", "tiers"):
            yield from (each for each in names(below) if each not in set(Outcome))


@pytest.mark.parametrize("path", [path for path, _, _ in SETTINGS])
def test_every_setting_is_in_the_reference(path: str) -> None:
    assert f"`{path}`" in rows(REFERENCE)


@pytest.mark.parametrize(("path", "value"), [(path, value) for path, value, _ in SETTINGS])
def test_the_reference_tells_every_default(path: str, value: object) -> None:
    if isinstance(value, bool):
        told = str(value).lower()
    elif isinstance(value, int | float):
        told = f"{value:.10g}"
    else:
        told = f"`{value}`" if value and isinstance(value, str) else ""
    assert rows(REFERENCE)[f"`{path}`"][0] in (told, "empty" if value == "" else "none" if not value else told)


def test_the_reference_tells_of_no_setting_that_is_none() -> None:
    told = {name.strip("`") for name in rows(section_of_settings()) if re.fullmatch(r"`[a-z_]+\.[a-z_]+`", name)}
    assert told <= {path for path, _, _ in SETTINGS}


def section_of_settings() -> str:
    """Everything between the settings and the paths."""
    return REFERENCE.partition("\n## Settings\n")[2].partition("\n## Paths\n")[0]


@pytest.mark.parametrize(("path", "_value", "secret"), SETTINGS)
def test_the_reference_tells_which_settings_are_secret(path: str, _value: object, secret: bool) -> None:
    assert ("secret" in rows(REFERENCE)[f"`{path}`"][1].split("; ")[-1].split(".")[0].split()) is secret


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_is_in_the_reference(reason: Reason) -> None:
    assert rows(section("Reasons"))[f"`{reason}`"][0] in set(Outcome)


@pytest.mark.parametrize("reason", list(Reason))
def test_the_reference_tells_the_outcome_that_the_code_tells(reason: Reason) -> None:
    source = (ROOT / "proxy" / "model.py").read_text(encoding="utf-8")
    said = re.search(rf'{reason.name} = "{reason}"\n    """([A-Z]+): ', source)
    assert said is not None
    assert rows(section("Reasons"))[f"`{reason}`"][0] == said[1]


def test_the_reference_tells_of_no_reason_that_is_none() -> None:
    assert {name.strip("`") for name in rows(section("Reasons"))} - {"reason", "---"} == set(Reason)


@pytest.mark.parametrize("word", list(Unkept))
def test_every_unkept_word_is_in_the_reference(word: Unkept) -> None:
    assert f"`{word}`" in rows(section("Unkept"))


def test_the_reference_tells_of_no_unkept_word_that_is_none() -> None:
    assert {name.strip("`") for name in rows(section("Unkept"))} - {"word", "---"} == set(Unkept)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_outcome_is_in_the_reference(outcome: Outcome) -> None:
    assert f"`{outcome}`" in rows(section("What an answer says"))


@pytest.mark.parametrize("name", ANSWER_FIELDS)
def test_every_answer_header_is_in_the_reference(name: str) -> None:
    assert f"`{name}`" in rows(section("What an answer says"))


@pytest.mark.parametrize("name", REQUEST_FIELDS)
def test_every_request_header_is_in_the_reference(name: str) -> None:
    assert re.search(rf"`{name}[`:]", section("What a request can say"), re.IGNORECASE)


@pytest.mark.parametrize("name", sorted(set(names(Ledger().shown()))))
def test_every_counter_is_in_the_reference(name: str) -> None:
    assert re.search(rf"[`.]{name}[`.]", section("/stats"))


@pytest.mark.parametrize("name", sorted(SCHEMA["properties"]))
def test_every_field_of_the_schema_is_in_the_reference(name: str) -> None:
    assert re.search(rf"`{name}[`.]", section("/stats"))


@pytest.mark.parametrize("alias", aliases.ALIASES, ids=lambda alias: alias.field.decode())
def test_every_alias_is_in_the_reference_with_what_it_stands_for(alias: Alias) -> None:
    lines = [line for line in section("In other gateways' words").splitlines() if alias.field.decode() in line.lower()]
    assert any(alias.gateway in line and alias.ours.decode() in line.lower() for line in lines)


@pytest.mark.parametrize("option", ["--upstream", "--host", "--port", "--config", "--set", "--version"])
def test_every_option_is_in_the_reference(option: str) -> None:
    assert option in section("Command line")


def test_every_environment_variable_is_explained_by_one() -> None:
    assert f"`{config.ENV_PREFIX}CACHE__TTL_S=600`" in section("Settings")


def test_the_example_is_the_defaults() -> None:
    assert config.load(file=EXAMPLE, environment={}) == Config()


def test_the_example_names_every_setting() -> None:
    def leaves(tree: Mapping[str, object], path: str = "") -> Iterator[str]:
        for name, below in tree.items():
            if isinstance(below, dict) and below:
                yield from leaves(below, f"{path}{name}.")
            else:
                yield f"{path}{name}"

    assert list(leaves(yaml.safe_load(EXAMPLE.read_text(encoding="utf-8")))) == [path for path, _, _ in SETTINGS]


def test_the_example_explains_every_setting() -> None:
    # A comment stands right above each setting, above the one that it is set with, or above their section.
    explained = False
    for line in EXAMPLE.read_text(encoding="utf-8").splitlines():
        if line.lstrip().startswith("#"):
            explained = True
        elif not line:
            explained = False
        else:
            assert explained, line


def test_the_example_explains_what_to_do_about_models_that_refuse_a_temperature() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    assert "Reasoning models" in text[text.index("  # Which requests") : text.index("  when_by_model:")]


@pytest.mark.parametrize(
    "document", ["README.md", "docs/reference.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"]
)
def test_every_link_between_documents_leads_somewhere(document: str) -> None:
    file = ROOT / document
    targets = re.findall(r"\]\((?!https?://|#)([^)#]+)", file.read_text(encoding="utf-8"))
    assert [target for target in targets if not (file.parent / target).exists()] == []
