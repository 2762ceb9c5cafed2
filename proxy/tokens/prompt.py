"""How many tokens a request's prompt has, by endpoint."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum

from proxy.tokens.calls import compact_arguments, render_parallel
from proxy.tokens.families import Model
from proxy.tokens.framing import CALL, FRAMINGS, MESSAGE, NAMED_CHOICE, PARALLEL, SCHEMA_HEADER, Framing
from proxy.tokens.images import picture_tokens
from proxy.tokens.schemas import render_schema, schema_of
from proxy.tokens.tools import named_choice, render_tools, tools_of
from proxy.tokens.turns import Call, Called, Returned, Said, Turn, Unseen, chat_turns, responses_turns

# Fields of a Responses request that bring in text which is not in it.
_ELSEWHERE = ("previous_response_id", "conversation", "prompt")

Words = Callable[[str], int]
"""Counts the tokens of a text with the model's tokenizer."""


class Endpoint(Enum):
    """The two conversational endpoints, which frame tools differently."""

    CHAT = "chat"
    RESPONSES = "responses"


class Tally:
    """A running sum, and whether all of it was known."""

    def __init__(self) -> None:
        self.tokens = 0
        self.certain = True
        self.lower_bound = False

    def __repr__(self) -> str:
        return f"<Tally {self.tokens}{'' if self.certain else ' guessed'}{' or more' if self.lower_bound else ''}>"

    def add(self, tokens: int, *, certain: bool) -> None:
        """Add *tokens* that may be only probable."""
        self.tokens += tokens
        self.certain = self.certain and certain

    def miss(self) -> None:
        """Note that something is not in the sum."""
        self.certain = False
        self.lower_bound = True


def conversation(body: Mapping[str, object], endpoint: Endpoint, model: Model, words: Words) -> Tally:
    """Return the prompt tokens of a chat or Responses request."""
    tally = Tally()
    turns: Sequence[Turn] = tuple(chat_turns(body) if endpoint is Endpoint.CHAT else responses_turns(body))
    if endpoint is Endpoint.RESPONSES and any(body.get(field) is not None for field in _ELSEWHERE):
        tally.miss()
    frame = FRAMINGS[model.family]
    schema = schema_of(body)
    header = SCHEMA_HEADER + words(schema.name) if schema else 0
    tools = tools_of(body)
    if tools.foreign:
        tally.miss()

    tally.tokens += frame.answer_start
    declared: list[str] = []
    if tools.functions:
        declaration = render_tools(tools.functions)
        declared.append(declaration.text)
        tally.add(0, certain=declaration.whole)
        tally.tokens += frame.undescribed if tools.first_is_undescribed else 0
        if frame.named_choice and (name := named_choice(body)):
            tally.tokens += NAMED_CHOICE + words(name)
    if schema:
        declared.append(render_schema(schema))
    if declared and endpoint is Endpoint.RESPONSES:
        tally.tokens += words("\n\n".join(declared))
        tally.tokens += frame.responses_tools if tools.functions else frame.responses_schema
    elif declared:
        # With tools at hand the answer may be a call, and its header is left open.
        tally.tokens += 0 if tools.functions else header
        tally.tokens += frame.chat_tools if tools.functions else 0
        if tools.functions and not frame.tools_join_system:
            tally.tokens += words(declared.pop(0))
        if declared:
            turns = _declare(turns, "\n\n".join(declared))
    _add_turns(tally, turns, model, words, header if endpoint is Endpoint.CHAT else None)
    return tally


def texts(given: object, words: Words) -> Tally:
    """Return the tokens of a bare prompt or embedding input: a text, texts, token numbers, or lists of these."""
    tally = Tally()
    if isinstance(given, str):
        tally.tokens = words(given)
    elif isinstance(given, list):
        for item in given:
            match item:
                case str():
                    tally.tokens += words(item)
                case int():
                    tally.tokens += 1
                case list():
                    tally.tokens += len(item)
                case _:
                    tally.miss()
    elif given is not None:
        tally.miss()
    return tally


def _declare(turns: Sequence[Turn], text: str) -> Sequence[Turn]:
    """Put declarations behind the leading system message, or make one of them."""
    if turns and isinstance(first := turns[0], Said) and first.role in {"system", "developer"}:
        joined = Said(
            role=first.role,
            text=f"{first.text}\n\n{text}",
            name=first.name,
            pictures=first.pictures,
            opaque=first.opaque,
        )
        return (joined, *turns[1:])
    return (Said(role="system", text=text), *turns)


def _add_turns(tally: Tally, turns: Iterable[Turn], model: Model, words: Words, chat_header: int | None) -> None:
    """Add the turns; *chat_header* is what an answer schema adds to earlier answers in chat, None in Responses."""
    frame = FRAMINGS[model.family]
    chat = chat_header is not None
    made: dict[str, Call] = {}
    together: set[str] = set()
    for turn in turns:
        match turn:
            case Said():
                _add_message(tally, turn, model, words)
                tally.tokens += frame.message
                if turn.role == "assistant":
                    tally.tokens += frame.assistant + (chat_header or 0)
            case Called(calls=calls):
                made.update((call.call_id, call) for call in calls)
                if len(calls) > 1 and chat and frame.parallel_json:
                    tally.tokens += PARALLEL + words(render_parallel(calls))
                    together.update(call.call_id for call in calls)
                    continue
                tally.tokens += frame.parallel_call * (len(calls) - 1) if chat else 0
                for call in calls:
                    tally.tokens += CALL + words(call.name) + words(compact_arguments(call.arguments))
            case Returned(call_id=call_id, name=name, text=text):
                tally.tokens += words(text)
                if call_id not in together:
                    call = made.get(call_id, Call(call_id, name, ""))
                    tally.tokens += MESSAGE + words(f".{call.name}") + _result(frame, chat=chat, by_id=call.by_id)
            case Unseen():
                tally.miss()


def _result(frame: Framing, *, chat: bool, by_id: bool) -> int:
    if chat:
        return frame.result
    return frame.responses_result_by_id if by_id else frame.responses_result


def _add_message(tally: Tally, said: Said, model: Model, words: Words) -> None:
    # A name follows its role after a colon, which may merge with it.
    tally.tokens += MESSAGE + words(said.text) + (words(f":{said.name}") if said.name else 0)
    for picture in said.pictures:
        cost, known = picture_tokens(picture, model.name)
        tally.add(cost, certain=known)
    if said.opaque:
        tally.miss()
