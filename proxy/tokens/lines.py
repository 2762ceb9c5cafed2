"""Counting a file of requests: one line of JSON in, one line of JSON out."""

from collections.abc import Mapping

from proxy.tokens.counter import TokenCounter
from proxy.tokens.jsontext import parse, spaced
from proxy.tokens.turns import object_of, text_of

_PATHS = {
    "chat": "/v1/chat/completions",
    "responses": "/v1/responses",
    "embeddings": "/v1/embeddings",
    "completions": "/v1/completions",
}


def count_line(line: str, counter: TokenCounter) -> str:
    """Return ``{"prompt_tokens": n, "method": ..., "model": ...}`` for a line that holds a request.

    The line is a request body, or an object with the body under ``request`` and perhaps the ``endpoint`` (chat,
    responses, embeddings, completions) and the ``model`` that really answered. Without an endpoint, the body's own
    fields tell. A line that is no JSON object yields ``{"error": ...}``.
    """
    valid, value = parse(line)
    if not valid or not isinstance(value, Mapping):
        return spaced({"error": "not a JSON object"})
    wrapped = isinstance(value.get("request"), Mapping)
    body = object_of(value["request"]) if wrapped else value
    endpoint = text_of(value.get("endpoint")) if wrapped else ""
    model = (text_of(value.get("model")) if wrapped else "") or text_of(body.get("model"))
    count = counter.count_prompt(_PATHS.get(endpoint) or path_of(body), body, model=model)
    told: dict[str, object] = {"prompt_tokens": count.tokens, "method": count.method.value, "model": model}
    return spaced({**told, "lower_bound": True} if count.lower_bound else told)


def path_of(body: Mapping[str, object]) -> str:
    """Return the path of the endpoint that *body* must be meant for."""
    if "messages" in body:
        return _PATHS["chat"]
    if "prompt" in body and "input" not in body and not isinstance(body["prompt"], Mapping):
        return _PATHS["completions"]
    if "embedding" in text_of(body.get("model")) or "encoding_format" in body:
        return _PATHS["embeddings"]
    return _PATHS["responses"]
