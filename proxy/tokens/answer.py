"""How many tokens an answer had, from its text: for streams that ended without usage."""

from collections.abc import Iterable, Mapping

from proxy.tokens.calls import render_parallel
from proxy.tokens.families import Family, Model
from proxy.tokens.prompt import Endpoint, Tally, Words
from proxy.tokens.turns import Called, Said, Turn, Unseen, chat_turns, objects, responses_turns, text_of

CALL = 7


def conversation(answer: Mapping[str, object], endpoint: Endpoint, model: Model, words: Words) -> Tally:
    """Return the completion tokens of a whole chat or Responses answer."""
    tally = Tally()
    if model.family is not Family.CLASSIC:
        # Reasoning is billed and never sent.
        tally.lower_bound = True
    if endpoint is Endpoint.CHAT:
        for choice in objects(answer.get("choices")):
            _add(tally, chat_turns({"messages": [choice.get("message")]}), model, words)
    else:
        _add(tally, responses_turns({"input": answer.get("output")}), model, words)
    return tally


def completions(answer: Mapping[str, object], words: Words) -> Tally:
    """Return the completion tokens of a whole legacy completion."""
    tally = Tally()
    tally.tokens = sum(words(text_of(choice.get("text"))) for choice in objects(answer.get("choices")))
    return tally


def _add(tally: Tally, turns: Iterable[Turn], model: Model, words: Words) -> None:
    for turn in turns:
        match turn:
            case Said():
                tally.tokens += words(turn.text)
                if turn.opaque:
                    tally.miss()
            case Called(calls=calls) if len(calls) > 1:
                tally.tokens += words(render_parallel(calls))
            case Called(calls=calls):
                tally.tokens += sum(CALL + words(call.name) + words(call.arguments) for call in calls)
            case Unseen():
                tally.miss()
            case _:
                pass
