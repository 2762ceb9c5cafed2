"""The command: what it prints, where, and with which exit status."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import proxy
from proxy import cli, config
from proxy.settings import Config
from tests.proxy_process import NOT_INHERITED, ROOT, ProxyProcess


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if NOT_INHERITED.fullmatch(name):
            monkeypatch.delenv(name)


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port that somebody else listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "proxy", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=15,
        check=False,
    )


def test_check_prints_the_settings_in_force(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check"]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == config.effective(Config())


def test_check_says_nothing_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["check"])
    assert capsys.readouterr().err == ""


def test_what_check_prints_can_be_read_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["check", "--set", "cache.ttl_s=5", "--set", "cache.when_by_model.gpt-4.1=always"])
    file = tmp_path / "config.yaml"
    file.write_text(capsys.readouterr().out, encoding="utf-8")
    loaded = config.load(file=file, environment={})
    assert (loaded.cache.ttl_s, loaded.cache.when_by_model) == (5.0, {"gpt-4.1": "always"})


def test_check_prints_settings_in_the_order_of_the_example(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["check"])
    example = yaml.safe_load((ROOT / "config.example.yaml").read_text(encoding="utf-8"))
    assert list(yaml.safe_load(capsys.readouterr().out)) == list(example)


def test_check_masks_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    secret = ["--set", "cache.secret=hunter2", "--set", "upstream.add_headers={x-key: hunter2}"]
    assert cli.main(["check", *secret, "--set", "upstream.proxy_url=http://u:hunter2@h"]) == 0
    printed = capsys.readouterr().out
    assert "hunter2" not in printed
    assert printed.count("***") == 3


@pytest.mark.parametrize(
    ("option", "path", "value"),
    [
        (["--upstream", "http://h:1/v1"], "upstream.url", "http://h:1/v1"),
        (["--host", "::1"], "server.host", "::1"),
        (["--port", "0"], "server.port", 0),
        (["--set", "cache.when=always"], "cache.when", "always"),
        (["--set", "headers=none"], "headers", "none"),
    ],
    ids=str,
)
@pytest.mark.parametrize("command", ["check"])
def test_an_option_makes_its_setting(
    command: str, option: list[str], path: str, value: object, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([command, *option]) == 0
    found = yaml.safe_load(capsys.readouterr().out)
    for name in path.split("."):
        found = found[name]
    assert found == value


def test_a_file_a_variable_and_an_option_are_over_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("server: {port: 1, host: 127.0.0.1, drain_s: 1}\n", encoding="utf-8")
    monkeypatch.setenv("ASKONCE_SERVER__PORT", "2")
    monkeypatch.setenv("ASKONCE_SERVER__HOST", "127.0.0.2")
    assert cli.main(["check", "--config", str(file), "--port", "3"]) == 0
    server = yaml.safe_load(capsys.readouterr().out)["server"]
    assert (server["port"], server["host"], server["drain_s"]) == (3, "127.0.0.2", 1.0)


def test_a_named_option_is_over_a_set(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["check", "--port", "3", "--set", "server.port=2"])
    assert yaml.safe_load(capsys.readouterr().out)["server"]["port"] == 3


@pytest.mark.parametrize("command", ["serve", "check"])
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--set", "cache.tll_s=1"], "cache.tll_s: unknown setting, did you mean cache.ttl_s?"),
        (["--set", "log.level=warn"],
         "log.level: must be one of debug, info, warning, error; found 'warn', did you mean warning?"),
        (["--port", "http"], "server.port: expected a whole number, found a text ('http')"),
        (["--port", "70000"], "server.port: must be 0 to 65535, found 70000"),
        (["--upstream", "api.openai.com"], "upstream.url: 'api.openai.com' must begin with http:// or https://"),
        (["--set", "cache.ttl_s"], "--set cache.ttl_s: write it as a.b=value"),
        (["--config", "nowhere.yaml"], "nowhere.yaml: cannot be read: No such file or directory"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else "",
)  # fmt: skip
def test_a_wrong_setting_fails_with_its_path_the_reason_and_the_near_miss(
    command: str, arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([command, *arguments]) == 2
    said = capsys.readouterr()
    assert said.err == f"askonce: {told}\n"
    assert said.out == ""


@pytest.mark.parametrize("arguments", [[], ["fly"], ["serve", "--fly"], ["check", "extra"], ["check", "--port"]])
def test_what_is_no_command_fails_with_the_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("usage: askonce")


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"askonce {proxy.__version__}\n"


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"], ["check", "--help"]])
def test_the_command_explains_itself(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 0
    assert "usage: askonce" in capsys.readouterr().out


def test_a_port_in_use_fails_with_the_address_and_the_reason(
    taken_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["serve", "--port", str(taken_port)]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"askonce: cannot listen on 127.0.0.1:{taken_port}: ")
    assert "in use" in said.lower()


def test_a_process_whose_port_is_in_use_says_so_in_one_line(taken_port: int) -> None:
    ended = run("serve", "--port", str(taken_port))
    assert ended.returncode == 1
    assert ended.stdout == ""
    [line] = ended.stderr.splitlines()
    assert line.startswith(f"askonce: cannot listen on 127.0.0.1:{taken_port}: ")


def test_an_address_that_is_not_ours_fails_in_one_line() -> None:
    # 192.0.2.0/24 is for documents: no machine has an address there.
    ended = run("serve", "--host", "192.0.2.1", "--port", "0")
    assert ended.returncode == 1
    [line] = ended.stderr.splitlines()
    assert line.startswith("askonce: cannot listen on 192.0.2.1:0: ")


def test_the_module_is_the_command() -> None:
    ended = run("check", ASKONCE_CACHE__TTL_S="7")
    assert ended.returncode == 0
    assert yaml.safe_load(ended.stdout)["cache"]["ttl_s"] == 7.0


def test_the_module_fails_as_the_command_does() -> None:
    ended = run("check", ASKONCE_CACHE__TLL_S="7")
    assert ended.returncode == 2
    assert ended.stderr == (
        "askonce: cache.tll_s: unknown setting, did you mean cache.ttl_s? (from ASKONCE_CACHE__TLL_S)\n"
    )


def test_serving_ends_well_when_it_is_told_to(tmp_path: Path) -> None:
    with ProxyProcess("http://127.0.0.1:9/v1", tmp_path / "stderr.log") as running:
        assert running.accepts()
        assert running.stop() == 0


def test_serving_says_where_and_for_whom(tmp_path: Path) -> None:
    with ProxyProcess("http://127.0.0.1:9/v1", tmp_path / "stderr.log") as running:
        running.stop()
        line = running.said().splitlines()[0]
    port = running.address[1]
    assert line == f"askonce {proxy.__version__} listening on http://127.0.0.1:{port} -> http://127.0.0.1:9/v1"
