"""How many tokens an answer had, from its text: for streams that ended without usage."""

from collections.abc import Iterable, Mapping

from proxy.tokens.calls import render_parallel
from proxy.tokens.families import Family, Model
from proxy.tokens.framing import CALL
from proxy.tokens.prompt import Endpoint, Tally, Words
from proxy.tokens.turns import Called, Said, Turn, Unseen, chat_turns, objects, responses_turns, text_of

PARALLEL = 10
"""Several calls of a classic model are one JSON text to a wrapper function with a longer name."""

REASONING = 3
"""What a model of the reasoning family bills at least beyond its text: channel, its mark, separator."""

RESPONSES = 1
"""The end mark is billed in Responses. (In chat, one answer in five of the classics has it, for no visible reason.)"""


def conversation(answer: Mapping[str, object], endpoint: Endpoint, model: Model, words: Words) -> Tally:
    """Return the completion tokens of a whole chat or Responses answer."""
    tally = Tally()
    reasoning = model.family is Family.REASONING
    # Reasoning is billed and never sent.
    tally.lower_bound = model.family in {Family.EARLY_REASONING, Family.REASONING}
    if endpoint is Endpoint.CHAT:
        for choice in objects(answer.get("choices")):
            # A call that the request demanded by name ends with "stop"; its header was given, not generated.
            demanded = choice.get("finish_reason") == "stop"
            turns = tuple(chat_turns({"messages": [choice.get("message")]}))
            _add(tally, turns, words, separate=reasoning, demanded=demanded)
            tally.tokens += REASONING if reasoning and turns else 0
    else:
        turns = tuple(turn for turn in responses_turns({"input": answer.get("output")}))
        _add(tally, turns, words, separate=True, demanded=False)
        tally.tokens += (RESPONSES + (REASONING if reasoning else 0)) if turns else 0
    return tally


def completions(answer: Mapping[str, object], words: Words) -> Tally:
    """Return the completion tokens of a whole legacy completion."""
    tally = Tally()
    tally.tokens = sum(words(text_of(choice.get("text"))) for choice in objects(answer.get("choices")))
    return tally


def _add(tally: Tally, turns: Iterable[Turn], words: Words, *, separate: bool, demanded: bool) -> None:
    for turn in turns:
        match turn:
            case Said():
                tally.tokens += words(turn.text)
                if turn.opaque:
                    tally.miss()
            case Called(calls=calls) if len(calls) > 1 and not separate:
                tally.tokens += PARALLEL + words(render_parallel(calls))
            case Called(calls=calls):
                for call in calls:
                    tally.tokens += words(call.arguments) + (0 if demanded else CALL + words(call.name))
            case Unseen():
                tally.miss()
            case _:
                continue
