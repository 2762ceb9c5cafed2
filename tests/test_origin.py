"""Where the provider is, and how a target is joined to it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.providers.origin import Origin, origin


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://api.openai.com", Origin(secure=True, host="api.openai.com", port=443)),
        ("https://api.openai.com/", Origin(secure=True, host="api.openai.com", port=443)),
        ("http://localhost:11434/v1", Origin(secure=False, host="localhost", port=11434, prefix=b"/v1")),
        ("http://localhost/v1/", Origin(secure=False, host="localhost", port=80, prefix=b"/v1")),
        ("HTTPS://Gateway.Example/team/a//", Origin(secure=True, host="gateway.example", port=443, prefix=b"/team/a")),
        ("https://h:8443", Origin(secure=True, host="h", port=8443)),
        ("http://[::1]:9000/x", Origin(secure=False, host="::1", port=9000, prefix=b"/x")),
        ("https://h/%2Fa%20b", Origin(secure=True, host="h", port=443, prefix=b"/%2Fa%20b")),
    ],
)
def test_the_origin_that_a_url_names(url: str, expected: Origin) -> None:
    assert origin(url) == expected


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("https://api.openai.com", b"api.openai.com"),
        ("https://api.openai.com:443", b"api.openai.com"),
        ("https://api.openai.com:80", b"api.openai.com:80"),
        ("http://h", b"h"),
        ("http://h:80", b"h"),
        ("http://h:443", b"h:443"),
        ("http://h:8080/v1", b"h:8080"),
        ("http://127.0.0.1:1", b"127.0.0.1:1"),
        ("http://[::1]", b"[::1]"),
        ("https://[2001:db8::1]:8443", b"[2001:db8::1]:8443"),
        ("https://bücher.example", b"xn--bcher-kva.example"),
        ("https://bücher.example:8443", b"xn--bcher-kva.example:8443"),
    ],
)
def test_the_authority_names_the_port_where_it_is_not_the_schemes_own(url: str, authority: bytes) -> None:
    assert origin(url).authority == authority


@pytest.mark.parametrize(
    ("url", "identity"),
    [
        ("https://h", b"https://h"),
        ("http://h", b"http://h"),
        ("http://h:8080/v1", b"http://h:8080/v1"),
        ("https://H:443/", b"https://h"),
    ],
)
def test_the_identity_of_a_provider(url: str, identity: bytes) -> None:
    assert origin(url).identity == identity


def test_providers_have_identities_of_their_own() -> None:
    urls = ["http://h", "https://h", "http://h:81", "http://h/a", "http://h/a/b", "http://i"]
    assert len({origin(url).identity for url in urls}) == len(urls)


@pytest.mark.parametrize(
    ("prefix", "target", "joined"),
    [
        (b"", b"/v1/models", b"/v1/models"),
        (b"", b"/chat/completions?a=b", b"/chat/completions?a=b"),
        (b"/v1", b"/v1/models", b"/v1/models"),
        (b"/v1", b"/models", b"/v1/models"),
        (b"/v1", b"/v1", b"/v1"),
        (b"/v1", b"/v1?a=b", b"/v1?a=b"),
        (b"/v1", b"/v10/models", b"/v1/v10/models"),
        (b"/v1", b"/v1x", b"/v1/v1x"),
        (b"/api/v1", b"/v1/models", b"/api/v1/models"),
        (b"/api/v1", b"/models", b"/api/v1/models"),
        (b"/api", b"/v1/models", b"/api/v1/models"),
        (b"/v1beta", b"/v1/models", b"/v1beta/v1/models"),
        (b"/rev1", b"/v1/models", b"/rev1/v1/models"),
        (b"/v1", b"/", b"/v1/"),
        (b"/v1", b"*", b"*"),
        (b"/api", b"*", b"*"),
        (b"/api", b"//a/../b%2f", b"/api//a/../b%2f"),
    ],
)
def test_a_target_is_joined_to_the_prefix(prefix: bytes, target: bytes, joined: bytes) -> None:
    assert Origin(secure=True, host="h", port=443, prefix=prefix).target(target) == joined


@given(st.binary(max_size=30).map(lambda rest: b"/" + rest))
def test_without_a_prefix_a_target_stays_as_it_is(target: bytes) -> None:
    assert Origin(secure=True, host="h", port=443).target(target) == target
