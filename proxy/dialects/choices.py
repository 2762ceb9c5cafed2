"""Judging answers that are made of choices: chat and legacy completions, streamed and whole."""

from collections.abc import Callable

from proxy import sse
from proxy.dialects import jsontext
from proxy.dialects.verdict import Evidence, is_error
from proxy.model import Unkept

DONE = b"[DONE]"

Look = Callable[[dict[str, object], Evidence], None]
"""What else a dialect reads in one choice, or in the object around the choices."""


def read_stream(body: bytes, evidence: Evidence, *, in_choice: Look, around: Look) -> None:
    """Note what the stream in *body* shows: an end for every choice, ``[DONE]``, and no error."""
    frames, _ = sse.read(body)
    finished: dict[object, bool] = {}
    done = False
    for frame in frames:
        if frame.data is None:
            continue
        if frame.data.strip() == DONE:
            done = True
            continue
        if frame.name == "error":
            evidence.faults.add(Unkept.ERROR_INSIDE)
        chunk = jsontext.read(frame.data)
        if not isinstance(chunk, dict):
            raise ValueError("a chunk is not an object")
        if is_error(chunk):
            evidence.faults.add(Unkept.ERROR_INSIDE)
        _around(chunk, evidence, around)
        for choice in _choices(chunk):
            index = choice.get("index", 0)
            index = index if isinstance(index, int) else 0
            if choice.get("finish_reason") is not None:
                evidence.stopped(choice["finish_reason"])
                finished[index] = True
            finished.setdefault(index, False)
            _inside(choice, evidence, in_choice)
    if not frames and _is_json_error(body):
        evidence.faults.add(Unkept.ERROR_INSIDE)
    # Choices are numbered from 0, so a gap is a choice that never began.
    if not done or not all(finished.values()) or not finished or set(finished) != set(range(len(finished))):
        evidence.faults.add(Unkept.INCOMPLETE)


def read_whole(body: bytes, evidence: Evidence, *, in_choice: Look, around: Look) -> None:
    """Note what the JSON object in *body* shows."""
    answer = jsontext.read(body)
    if not isinstance(answer, dict):
        raise ValueError("the answer is not an object")
    if is_error(answer):
        evidence.faults.add(Unkept.ERROR_INSIDE)
    _around(answer, evidence, around)
    if not isinstance(answer.get("choices"), list):
        raise ValueError("the answer has no choices")
    for choice in _choices(answer):
        evidence.stopped(choice.get("finish_reason"))
        _inside(choice, evidence, in_choice)


def _around(value: dict[str, object], evidence: Evidence, around: Look) -> None:
    evidence.named(value.get("model"))
    evidence.billed(value.get("usage"))
    evidence.served(value.get("service_tier"))
    around(value, evidence)


def _inside(choice: dict[str, object], evidence: Evidence, in_choice: Look) -> None:
    if is_error(choice):
        evidence.faults.add(Unkept.ERROR_INSIDE)
    in_choice(choice, evidence)


def _choices(value: dict[str, object]) -> list[dict[str, object]]:
    choices = value.get("choices")
    # A chunk may speak of something else than choices (filters, usage, timings).
    if choices is None:
        return []
    if isinstance(choices, list):
        found = [choice for choice in choices if isinstance(choice, dict)]
        if len(found) == len(choices):
            return found
    raise ValueError("the choices are no list of objects")


def _is_json_error(body: bytes) -> bool:
    # Some providers answer a streamed request with a JSON error under status 200.
    try:
        value = jsontext.read(body)
    except ValueError:
        return False
    return isinstance(value, dict) and is_error(value)
