"""Who may see more than sums, and who may not: by token, by address, by the page that a browser shows."""

import asyncio
import json

import pytest

from proxy.call import Call, Reply
from proxy.headers import Fields
from proxy.pages import answers
from proxy.pages.doors import Doors
from tests import raw_client
from tests.comparison import Ways
from tests.conftest import StartProxy
from tests.raw_client import Headers

TOKEN = "the-operators-word"


async def _secret(_: Call) -> Reply:
    return answers.shown({"secret": 1})


def entered(doors: Doors, *fields: tuple[bytes, bytes]) -> int:
    """The status of the guarded page for a request with *fields*."""
    call = Call(method=b"GET", target=b"/_askonce/requests", fields=Fields(fields), body=None)
    return asyncio.run(doors.operators(_secret)(call)).status  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "field",
    [
        (b"x-askonce-admin-token", TOKEN.encode()),
        (b"Authorization", b"Bearer " + TOKEN.encode()),
        (b"authorization", b"bearer  " + TOKEN.encode()),
    ],
)
@pytest.mark.parametrize("on_loopback", [True, False])
def test_the_token_opens_wherever_the_server_is(field: tuple[bytes, bytes], on_loopback: bool) -> None:
    doors = Doors(token=TOKEN, on_loopback=on_loopback)
    assert entered(doors, (b"Host", b"proxy.example"), (b"Origin", b"https://dash.example"), field) == 200


@pytest.mark.parametrize(
    "fields",
    [
        (),
        ((b"Authorization", b"Bearer "),),
        ((b"Authorization", TOKEN.encode()),),
        ((b"Authorization", b"Basic " + TOKEN.encode()),),
        ((b"x-askonce-admin-token", b""),),
        ((b"x-askonce-admin-token", TOKEN.encode() + b"x"),),
        ((b"x-askonce-admin-token", TOKEN[:-1].encode()),),
        ((b"x-askonce-admin-token", "wört".encode()),),
    ],
)
def test_nothing_but_the_token_opens_where_there_is_one(fields: tuple[tuple[bytes, bytes], ...]) -> None:
    assert entered(Doors(token=TOKEN, on_loopback=True), (b"Host", b"localhost"), *fields) == 401


@pytest.mark.parametrize("host", [b"localhost", b"localhost:8080", b"127.0.0.1:8080", b"[::1]:8080", b"LOCALHOST:80"])
def test_without_a_token_whoever_is_on_this_machine_may_enter(host: bytes) -> None:
    assert entered(Doors(token="", on_loopback=True), (b"Host", host)) == 200


@pytest.mark.parametrize(
    "host", [b"evil.example", b"evil.example:8080", b"localhost.evil.example", b"", b"[::1", b"10.0.0.1"]
)
def test_a_name_that_only_points_here_does_not_open(host: bytes) -> None:
    assert entered(Doors(token="", on_loopback=True), (b"Host", host)) == 403


def test_a_request_without_host_does_not_open() -> None:
    assert entered(Doors(token="", on_loopback=True)) == 403


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (b"http://localhost:8080", 200),
        (b"HTTP://LOCALHOST:8080", 200),
        (b"http://localhost:3000", 403),
        (b"https://localhost:8080", 403),
        (b"https://evil.example", 403),
        (b"null", 403),
        (b"", 403),
    ],
)
def test_a_page_from_elsewhere_cannot_drive_a_local_proxy(origin: bytes, status: int) -> None:
    assert entered(Doors(token="", on_loopback=True), (b"Host", b"localhost:8080"), (b"Origin", origin)) == status


@pytest.mark.parametrize(
    ("site", "status"), [(b"same-origin", 200), (b"none", 200), (b"cross-site", 403), (b"same-site", 403)]
)
def test_a_browser_that_says_where_its_page_is_from_is_believed(site: bytes, status: int) -> None:
    assert entered(Doors(token="", on_loopback=True), (b"Host", b"localhost"), (b"Sec-Fetch-Site", site)) == status


@pytest.mark.parametrize("field", [b"X-Forwarded-For", b"Forwarded", b"X-Real-IP", b"Via", b"CF-Connecting-IP"])
def test_what_a_tunnel_brings_from_elsewhere_does_not_open(field: bytes) -> None:
    assert entered(Doors(token="", on_loopback=True), (b"Host", b"127.0.0.1:8080"), (field, b"203.0.113.7")) == 403


@pytest.mark.parametrize("host", [b"localhost", b"127.0.0.1"])
def test_a_server_that_is_open_to_the_network_shows_nobody_without_a_token(host: bytes) -> None:
    assert entered(Doors(token="", on_loopback=False), (b"Host", host)) == 403


@pytest.mark.proxy_only
def test_the_list_of_requests_is_behind_the_door_and_the_sums_are_not(start_proxy: StartProxy) -> None:
    ways = start_proxy(admin__token=TOKEN)

    def asked(path: str, *fields: tuple[str, str]) -> int:
        return raw_client.exchange(ways.proxy, raw_client.request("GET", path, fields)).status

    assert asked("/_askonce/requests") == 401
    assert asked("/_askonce/requests", ("x-askonce-admin-token", TOKEN)) == 200
    assert [asked(path) for path in ("/stats", "/metrics", "/healthz")] == [200, 200, 200]


@pytest.mark.proxy_only
def test_a_refusal_says_what_to_do_and_not_the_token(start_proxy: StartProxy) -> None:
    ways = start_proxy(admin__token=TOKEN)
    wrong: Headers = (("x-askonce-admin-token", "guess"),)
    answer = raw_client.exchange(ways.proxy, raw_client.request("GET", "/_askonce/requests", wrong))
    error = json.loads(bytes(answer.body))["error"]
    assert (error["type"], error["code"]) == ("askonce_error", "admin_token")
    assert "admin.token" in error["message"]
    assert TOKEN not in bytes(answer.body).decode() + ways_log(ways)


def ways_log(ways: Ways) -> str:
    """What the proxy has logged."""
    assert ways.process is not None
    return ways.process.said()


@pytest.mark.proxy_only
def test_a_page_is_asked_for_with_its_own_method(ways: Ways) -> None:
    for method in ("POST", "DELETE", "PUT"):
        answer = raw_client.exchange(ways.proxy, raw_client.request(method, "/_askonce/stats"))
        assert (answer.status, json.loads(bytes(answer.body))["error"]["code"]) == (404, "not_found")
