"""The Grafana dashboard: whole, and asking for nothing that /metrics does not have."""

import itertools
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests import raw_client
from tests.conftest import StartProxy
from tests.observation import settled

pytestmark = pytest.mark.proxy_only

DASHBOARD = Path(__file__).resolve().parent.parent / "deploy" / "grafana" / "askonce.json"
BOARD: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
PANELS: list[dict[str, Any]] = BOARD["panels"]
COLUMNS = 24

# What Grafana puts in the place of its variables, so that Prometheus can read the rest.
FILLED = (("$__rate_interval", "5m"), ("$__range", "24h"), ("$instance", ".*"), ("$model", ".*"))


def expressions() -> Iterator[str]:
    """Every query of every panel."""
    for panel in PANELS:
        for target in panel["targets"]:
            expression = target["expr"]
            for variable, value in FILLED:
                expression = expression.replace(variable, value)
            yield expression


def test_the_dashboard_is_whole() -> None:
    assert BOARD["title"]
    assert BOARD["schemaVersion"] >= 36
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    names = [variable["name"] for variable in BOARD["templating"]["list"]]
    assert names == ["datasource", "instance", "model"]
    for panel in PANELS:
        assert panel["title"]
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        for part in (panel, *panel["targets"]):
            assert part["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references)


def test_no_panel_lies_on_another_or_beyond_the_edge() -> None:
    for one, other in itertools.combinations([panel["gridPos"] for panel in PANELS], 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart, (one, other)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= COLUMNS for panel in PANELS)


def test_every_variable_of_a_query_is_one_of_the_dashboard() -> None:
    assert not [expression for expression in expressions() if "$" in expression]


def test_every_query_asks_for_what_is_there(start_proxy: StartProxy) -> None:
    ways = start_proxy()
    for _ in range(2):
        raw_client.exchange(ways.proxy, ways.chat())
    settled(ways.proxy, requests=2, fetches=1)
    page = raw_client.exchange(ways.proxy, raw_client.request("GET", "/metrics")).body.decode()
    labels: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            # The scraper knows which instance it asked.
            labels.setdefault(sample.name, {"instance"}).update(sample.labels)
    for expression in expressions():
        asked = re.findall(r"(askonce_\w+)\{([^}]*)\}", expression)
        assert asked, expression
        for name, matchers in asked:
            assert name in labels, name
            assert set(re.findall(r"(\w+)(?:=~|!~|!=|=)", matchers)) <= labels[name], expression
        for grouped in re.findall(r"by \(([^)]*)\)", expression):
            assert {label.strip() for label in grouped.split(",")} <= labels[asked[0][0]], expression
    for variable in BOARD["templating"]["list"][1:]:
        name, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["definition"]).groups()  # type: ignore[union-attr]
        assert label in labels[name]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool, of Debian's package prometheus")
def test_prometheus_reads_every_query_and_every_metric(start_proxy: StartProxy, tmp_path: Path) -> None:
    rules = [{"record": f"askonce:{number}", "expr": each} for number, each in enumerate(expressions())]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "askonce", "rules": rules}]}))
    read = subprocess.run(["promtool", "check", "rules", str(file)], capture_output=True, text=True, check=False)
    assert read.returncode == 0, read.stdout + read.stderr
    ways = start_proxy()
    page = raw_client.exchange(ways.proxy, raw_client.request("GET", "/metrics")).body
    lint = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, check=False)
    assert lint.returncode == 0, lint.stdout + lint.stderr
