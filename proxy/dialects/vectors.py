"""Embeddings, input by input: requests and answers taken apart and put together again, octet for octet.

An answer is a frame around items of one pattern, in which only the vectors, their numbers and the sum of tokens differ.
What is not so regular is not taken apart.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import NoReturn

from proxy.model import Json

MAX_INPUTS = 4096
"""No provider takes more in one request; a list that is longer is not taken apart."""

_WHITE = re.compile(r"[ \t\n\r]*")
_BASE64 = re.compile(r'"[A-Za-z0-9+/_\\-]++={0,2}"')


def _not_a_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_not_a_number)

_ITEMS, _PROMPT, _TOTAL = "items", "prompt_tokens", "total_tokens"


Past = Callable[[str, int], int]
"""Where the value ends that begins at a place of a text."""


class Irregular(ValueError):
    """It is not of the one pattern."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer taken apart."""

    frame: tuple[str, ...]
    """What stands around the slots, one piece more than those."""
    slots: tuple[str, ...]
    """Where the items go, and the tokens."""
    pattern: tuple[str, str, str]
    """What stands around the two slots of an item."""
    index_first: bool
    """The number of an item stands before its vector."""
    between: str
    """What stands between items."""
    model: str
    vectors: tuple[str, ...]
    tokens: int | None
    """What all of them came to; None where it does not say."""

    def like(self, other: "Answer") -> bool:
        """Whether items of *other* could stand among its own."""
        mine = (self.pattern, self.index_first, self.between, self.model, self.tokens is None)
        return mine == (other.pattern, other.index_first, other.between, other.model, other.tokens is None)

    def of(self, vectors: Sequence[str], tokens: int | None) -> bytes:
        """The same answer with these *vectors* in this order, which came to *tokens*."""
        head, middle, tail = self.pattern
        if self.index_first:
            items = [f"{head}{at}{middle}{vector}{tail}" for at, vector in enumerate(vectors)]
        else:
            items = [f"{head}{vector}{middle}{at}{tail}" for at, vector in enumerate(vectors)]
        filled = [self.frame[0]]
        for slot, piece in zip(self.slots, self.frame[1:], strict=True):
            filled.append(self.between.join(items) if slot == _ITEMS else str(tokens))
            filled.append(piece)
        return "".join(filled).encode()


_Found = tuple[list[str], tuple[str, str, str], bool, str]
"""Of the items: their vectors, their pattern, whether the number goes first, and what stands between."""


def inputs(request: Json) -> tuple[object, ...]:
    """The inputs of *request*, each of which could be asked for alone; none where it cannot be taken apart."""
    given = request.get("input")
    match given:
        case str():
            return (given,)
        case list() if given and len(given) <= MAX_INPUTS:
            if all(type(each) is int for each in given):
                return (given,)
            if all(isinstance(each, str) for each in given) or all(map(_are_tokens, given)):
                return tuple(given)
        case _:
            pass
    return ()


def inputs_of(body: bytes) -> tuple[object, ...]:
    """The inputs of the request *body*."""
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        return ()
    return inputs(request) if isinstance(request, dict) else ()


def _are_tokens(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(type(each) is int for each in value)


def only(body: bytes, wanted: Sequence[int]) -> bytes:
    """The request *body* with none but the *wanted* of its inputs, everything else as it stands."""
    text = body.decode()
    for name, start, end in _members(text, _after(text, 0, "{")):
        if name == "input":
            items = [text[first:last] for first, last in _items(text, start)]
            return (text[:start] + "[" + ",".join(items[at] for at in wanted) + "]" + text[end:]).encode()
    raise Irregular("there are no inputs")


def apart(body: bytes, *, known: bool = False) -> Answer:
    """The answer in *body*, taken apart; *known*: it was before, so its vectors are vectors.

    Raises:
        Irregular: it is not of the one pattern, or its items are not in their order.
    """
    try:
        return _apart(body.decode(), known=known)
    except (ValueError, LookupError, RecursionError) as error:
        raise Irregular(str(error)) from error


def _apart(text: str, *, known: bool) -> Answer:
    places: list[tuple[int, int, str]] = []
    found: list[_Found] = []
    names = set()
    model = ""
    tokens: int | None = None

    def past_data(text: str, start: int) -> int:
        first, last, end, items = _data(text, start, known=known)
        places.append((first, last, _ITEMS))
        found.append(items)
        return end

    inside = end = _after(text, 0, "{")
    for name, start, end in _members(text, inside, past={"data": past_data}):
        if name in names or name == "error":
            raise Irregular(f"{name} stands there twice, or at all")
        names.add(name)
        if name == "usage":
            slots, tokens = _usage(text, start)
            places += slots
        elif name == "model":
            value = json.loads(text[start:end])
            model = value if isinstance(value, str) else ""
    if _skip(text, _after(text, end, "}")) != len(text) or not found:
        raise Irregular("there are no items, or there is more after them")
    vectors, pattern, index_first, between = found[0]
    places.sort()
    edges = [0, *(edge for first, last, _ in places for edge in (first, last)), len(text)]
    frame = tuple(text[edges[at] : edges[at + 1]] for at in range(0, len(edges), 2))
    slots_there = tuple(kind for _, _, kind in places)
    return Answer(frame, slots_there, pattern, index_first, between, model, tuple(vectors), tokens)


def _data(text: str, start: int, *, known: bool) -> tuple[int, int, int, _Found]:
    """Where the items begin and end, where their list ends, and what they are."""
    begin = _skip(text, _after(text, start, "["))
    margin = text[_after(text, start, "[") : begin]
    vectors: list[str] = []
    pattern: tuple[str, str, str] | None = None
    index_first = True
    between = ""
    past = {"embedding": partial(_past_vector, known=known)}
    at = begin
    while True:
        opened = at
        places: dict[str, tuple[int, int]] = {}
        gap = ""
        at = _after(text, at, "{")
        for name, first, last in _members(text, at, past=past):
            if name in ("index", "embedding"):
                if name in places:
                    raise Irregular(f"{name} stands there twice")
                places[name] = (first, last)
            at = last
            if not gap:
                comma = _skip(text, last)
                gap = text[comma + 1 : _skip(text, comma + 1)]
        at = _after(text, at, "}")
        (i0, i1), (v0, v1) = places["index"], places["embedding"]
        if text[i0:i1] != str(len(vectors)):
            raise Irregular("the items are not in their order")
        ahead = i0 < v0
        (a0, a1), (b0, b1) = sorted(((i0, i1), (v0, v1)))
        around = (text[opened:a0], text[a1:b0], text[b1:at])
        if pattern is None:
            # One item alone does not show what stands between two: the same as before the first, or as within it.
            pattern, index_first, between = around, ahead, "," + (margin or gap)
        elif (around, ahead) != (pattern, index_first):
            raise Irregular("an item is unlike the others")
        vectors.append(text[v0:v1])
        after = _skip(text, at)
        if text[after] == "]":
            return begin, at, after + 1, (vectors, pattern, index_first, between)
        following = _skip(text, _after(text, after, ","))
        if text[at:following] != between:
            raise Irregular("what stands between the items is not what one would expect")
        at = following


def _usage(text: str, start: int) -> tuple[list[tuple[int, int, str]], int | None]:
    """The slots of the tokens, and how many there are."""
    if text[start] != "{":
        if text.startswith("null", start):
            return [], None
        raise Irregular("the usage is not an object")
    slots: list[tuple[int, int, str]] = []
    counts: dict[str, int] = {}
    for name, first, last in _members(text, start + 1):
        value = json.loads(text[first:last])
        if name in (_PROMPT, _TOTAL):
            if type(value) is not int or value < 0 or name in counts:
                raise Irregular("the tokens are not a number")
            counts[name] = value
            slots.append((first, last, name))
        elif not _nothing(value):
            # Whatever it counts, nobody knows which item had how much of it.
            raise Irregular(f"the usage tells {name}, too")
    if len(set(counts.values())) > 1:
        raise Irregular("the sum is not what the inputs came to")
    return slots, next(iter(counts.values()), None)


def _nothing(value: object) -> bool:
    if isinstance(value, dict):
        return all(map(_nothing, value.values()))
    return value is None or value in (0, "")


def shares(total: int, weights: Sequence[int]) -> list[int]:
    """*total* divided as *weights* are, in whole numbers that add up to it."""
    whole = sum(weights)
    if whole == 0:
        weights, whole = [1] * len(weights), len(weights)
    floors = [total * weight // whole for weight in weights]
    left = total - sum(floors)
    # What is left goes to the largest remainders, of equals to the first.
    ranked = sorted(range(len(weights)), key=lambda at: (-(total * weights[at] % whole), at))
    for at in ranked[:left]:
        floors[at] += 1
    return floors


def _members(text: str, at: int, *, past: Mapping[str, Past] = MappingProxyType({})) -> Iterator[tuple[str, int, int]]:
    """The members of the object whose inside begins at *at*: name, and where the value begins and ends.

    *past*: for members whose values are not to be read, what finds where such a value ends.
    """
    at = _skip(text, at)
    while text[at] != "}":
        name, at = _DECODER.raw_decode(text, at)
        if not isinstance(name, str):
            raise Irregular("a name is not a text")
        start = _skip(text, _after(text, at, ":"))
        at = past[name](text, start) if name in past else _DECODER.raw_decode(text, start)[1]
        yield name, start, at
        at = _skip(text, at)
        if text[at] == ",":
            at = _skip(text, at + 1)
            if text[at] == "}":
                raise Irregular("a comma and nothing after it")
        elif text[at] != "}":
            raise Irregular("a member does not end")


def _past_vector(text: str, start: int, *, known: bool) -> int:
    if text[start] == "[":
        end = text.index("]", start) + 1
        # Reading them is what takes the time: what was read once is not read again.
        if not known and not _are_numbers(_DECODER.decode(text[start:end])):
            raise Irregular("the vector is not made of numbers")
        return end
    found = _BASE64.match(text, start)
    if found is None:
        raise Irregular("the vector is neither numbers nor base64")
    return found.end()


def _are_numbers(value: object) -> bool:
    return isinstance(value, list) and bool(value) and set(map(type, value)) <= {int, float}


def _items(text: str, start: int) -> Iterator[tuple[int, int]]:
    """Where each value of the array that begins at *start* begins and ends."""
    at = _skip(text, _after(text, start, "["))
    while text[at] != "]":
        _, end = _DECODER.raw_decode(text, at)
        yield at, end
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    found = _WHITE.match(text, at)
    return found.end() if found is not None else at


def _after(text: str, at: int, sign: str) -> int:
    at = _skip(text, at)
    if text[at] != sign:
        raise Irregular(f"{sign} is missing")
    return at + 1
