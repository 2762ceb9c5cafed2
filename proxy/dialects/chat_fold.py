"""A chat stream as the whole answer that it tells."""

from proxy.dialects import chunks, jsontext
from proxy.dialects.pieces import Unfaithful, base64, by_index, first, joined, last, lone, members, same, text

_FUNCTION = members({"name": same, "arguments": text}, rest=lone)
_CUSTOM = members({"name": same, "input": text}, rest=lone)
_TOOL_CALL = members({"id": same, "type": same, "function": _FUNCTION, "custom": _CUSTOM}, rest=lone)
# OpenRouter's structured reasoning; a whole answer keeps the index of its items.
_REASONING = members(
    {"type": same, "id": same, "format": same, "index": same, "text": text, "summary": text}, rest=lone
)
_AUDIO = members({"id": same, "data": base64, "transcript": text, "expires_at": same}, rest=lone)
_DELTA = members(
    {
        "role": same,
        "content": text,
        "refusal": text,
        "reasoning_content": text,
        "reasoning": text,
        "reasoning_details": by_index(_REASONING, keep_index=True),
        "tool_calls": by_index(_TOOL_CALL, keep_index=False),
        "function_call": _FUNCTION,
        "audio": _AUDIO,
        "annotations": joined,
    },
    rest=lone,
)
_LOGPROBS = members({"content": joined, "refusal": joined}, rest=lone)
_CHOICE = members(
    {
        "index": same,
        "delta": _DELTA,
        "logprobs": _LOGPROBS,
        "finish_reason": same,
        "native_finish_reason": same,
        "stop_reason": same,
        "token_ids": joined,
        # Azure judges each chunk; categories that agree add up, others cannot be summed up for it.
        "content_filter_results": members({}, rest=same),
    },
    rest=lone,
)
_ANSWER = members(
    {
        # Azure's first chunk speaks of the prompt alone, with an empty id and model and created 0.
        "id": same,
        "object": last,
        # One stream, one creation; but some engines stamp each chunk with its own second.
        "created": first,
        "choices": by_index(_CHOICE, keep_index=True),
        "usage": last,
        "timings": last,
        "obfuscation": last,
        # Groq tells its request id first and some of the usage last.
        "x_groq": members({}, rest=same),
    },
    rest=same,
)

# Members that speak of the stream and not of the answer: padding, and LiteLLM's echo of the options.
_OF_THE_STREAM = ("obfuscation", "stream_options")


def fold(body: bytes) -> bytes:
    """The whole answer that the chat stream in *body* tells."""
    answer = _ANSWER(chunks.objects(body))
    if not isinstance(answer, dict) or not isinstance(answer.get("usage"), dict):
        raise Unfaithful("the usage was not recorded, and every whole answer has one")
    for name in _OF_THE_STREAM:
        answer.pop(name, None)
    answer["object"] = "chat.completion"
    choices = answer.get("choices")
    if not isinstance(choices, list) or not choices:
        raise Unfaithful("there is no choice")
    answer["choices"] = [_choice(choice) for choice in choices]
    return jsontext.write(answer)


def _choice(choice: dict[str, object]) -> dict[str, object]:
    if choice.get("finish_reason") is None or "message" in choice:
        raise Unfaithful("a choice has no end, or a message beside its pieces")
    message = choice.get("delta")
    if not isinstance(message, dict):
        raise Unfaithful("a choice says nothing")
    # Whole choices name the index first, then the message; nothing but an assistant answers.
    return {"index": choice["index"], "message": {"role": "assistant"} | message} | {
        name: value for name, value in choice.items() if name not in ("index", "delta")
    }
