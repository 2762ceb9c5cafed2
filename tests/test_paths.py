"""Which paths are cached, and as what."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.paths import cached_as

SUFFIXES = [b"/chat/completions", b"/completions", b"/responses", b"/embeddings", b"/messages"]
PREFIXES = [b"", b"/v1", b"/openai/v1", b"/openai/deployments/gpt-4.1", b"/openai/deployments/my%20name"]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_answering_path_is_cached(prefix: bytes, suffix: bytes) -> None:
    assert cached_as(b"POST", prefix + suffix, {}) == suffix.decode()


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"QUERY", b"post"])
def test_any_other_method_is_not_cached(method: bytes) -> None:
    assert cached_as(method, b"/v1/chat/completions", {b"/v1/chat/completions": "/chat/completions"}) is None


@pytest.mark.parametrize(
    "path",
    [
        b"",
        b"/",
        b"/v1",
        b"/v1/",
        b"/v1/threads/thread_1/messages",
        b"/v1/responses/resp_1",
        b"/v1/responses/resp_1/cancel",
        b"/v1/chat/completions/",
        b"/v1/chat/completions/chatcmpl-1",
        b"/v1//chat/completions",
        b"//v1/chat/completions",
        b"/v2/chat/completions",
        b"/V1/chat/completions",
        b"/v1/Chat/Completions",
        b"/v1/chat%2Fcompletions",
        b"/v1/chat/completions\n",
        b"/v1/messages/batches",
        b"/v1/messages/count_tokens",
        b"/v1/fine_tuning/jobs",
        b"/v1/files",
        b"/v1/batches",
        b"/v1/images/generations",
        b"/v1/audio/speech",
        b"/v1/moderations",
        b"/api/v1/chat/completions",
        b"/openai/deployments/chat/completions/extra",
        b"/openai/deployments//chat/completions",
        b"/openai/deployments/a/b/chat/completions",
    ],
)
def test_any_other_path_is_not_cached(path: bytes) -> None:
    assert cached_as(b"POST", path, {}) is None


@given(st.sampled_from(PREFIXES), st.sampled_from(SUFFIXES), st.binary(min_size=1, max_size=6), st.booleans())
def test_the_path_is_taken_at_both_ends(prefix: bytes, suffix: bytes, more: bytes, before: bool) -> None:
    path = more + prefix + suffix if before else prefix + suffix + more
    known = {lead + tail for lead in PREFIXES for tail in SUFFIXES}
    assert (cached_as(b"POST", path, {}) is not None) is (path in known)


def test_a_path_of_the_operators_choice_is_cached_as_said() -> None:
    more = {b"/api/chat": "/chat/completions"}
    assert cached_as(b"POST", b"/api/chat", more) == "/chat/completions"


def test_a_path_of_the_operators_choice_is_taken_literally() -> None:
    assert cached_as(b"POST", b"/api/chats", {b"/api/chat": "/chat/completions"}) is None
