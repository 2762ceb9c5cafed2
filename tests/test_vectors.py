"""The vector index: exact neighbours within a scope, within a budget, whatever is added and dropped."""

import asyncio
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.model import Key
from proxy.ports import Vectors
from proxy.vectors import block
from proxy.vectors.block import BlockIndex

DIMENSION = 8


def unit(seed: int, dimension: int = DIMENSION) -> Vectors:
    """A vector of length 1, the same for the same *seed*."""
    row = np.random.default_rng(seed).normal(size=dimension).astype(np.float32)
    return row / np.linalg.norm(row)


def nearest(index: BlockIndex, scope: str, vector: Vectors, k: int) -> list[tuple[Key, float]]:
    """What the index finds."""
    return asyncio.run(index.nearest(scope, vector, k))


operations = st.lists(
    st.tuples(st.sampled_from(["add", "drop"]), st.sampled_from("ab"), st.integers(0, 12), st.integers(0, 999)),
    max_size=120,
)


@settings(max_examples=80, deadline=None)
@given(operations, st.sampled_from([4, 8, block.WIDE_ROWS]))
def test_any_order_of_adding_and_dropping_finds_what_a_plain_table_finds(
    done: list[tuple[str, str, int, int]], wide_rows: int
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(block, "WIDE_ROWS", wide_rows)
        _compare(done)


def _compare(done: list[tuple[str, str, int, int]]) -> None:
    index = BlockIndex(dimension=DIMENSION, max_bytes=1 << 20)
    table: dict[tuple[str, str], Vectors] = {}
    for what, scope, name, seed in done:
        if what == "add":
            assert index.add(scope, Key(f"k{name}"), unit(seed))
            table[scope, f"k{name}"] = unit(seed)
        else:
            assert index.drop(scope, Key(f"k{name}")) == (table.pop((scope, f"k{name}"), None) is not None)
    for scope in "ab":
        asked = unit(4711)
        wanted = sorted(((float(row @ asked), name) for (where, name), row in table.items() if where == scope))[::-1]
        found = nearest(index, scope, asked, 3)
        assert [round(cosine, 5) for _, cosine in found] == [round(cosine, 5) for cosine, _ in wanted[:3]]
    assert len(index) == len(table)
    for where, key in table:
        index.drop(where, Key(key))
    assert index.bytes_used == 0


def test_a_neighbour_in_another_scope_is_never_found() -> None:
    index = BlockIndex(dimension=DIMENSION, max_bytes=1 << 20)
    index.add("theirs", Key("k"), unit(1))
    assert nearest(index, "ours", unit(1), 3) == []


def test_the_budget_holds_and_the_scope_that_was_used_longest_ago_gives_way() -> None:
    index = BlockIndex(dimension=DIMENSION, max_bytes=8000)
    index.add("first", Key("k"), unit(0))
    for number in itertools.count(1):
        index.add(f"scope {number}", Key("k"), unit(number))
        assert index.bytes_used <= 8000
        nearest(index, "first", unit(0), 1)
        if index.displaced > 3:
            break
    assert nearest(index, "first", unit(0), 1)
    assert not nearest(index, "scope 1", unit(1), 1)


def test_one_scope_over_the_budget_lets_go_of_vectors_and_goes_on() -> None:
    index = BlockIndex(dimension=DIMENSION, max_bytes=8000)
    for number in range(200):
        assert index.add("only", Key(f"k{number}"), unit(number))
        assert index.bytes_used <= 8000
    assert index.displaced > 0
    assert nearest(index, "only", unit(199), 1)[0][0] == "k199"


def test_a_vector_of_another_length_or_with_no_number_in_it_is_refused() -> None:
    index = BlockIndex(dimension=DIMENSION, max_bytes=1 << 20)
    assert not index.add("scope", Key("k"), unit(1, 9))
    assert not index.add("scope", Key("k"), np.full(DIMENSION, np.nan, dtype=np.float32))
    assert nearest(index, "scope", unit(1, 9), 1) == []


def test_a_large_scope_is_searched_off_the_loop_and_finds_the_same() -> None:
    index = BlockIndex(dimension=DIMENSION, max_bytes=1 << 26)
    for number in range(block.THREAD_ROWS + 50):
        index.add("large", Key(f"k{number}"), unit(number))
    assert nearest(index, "large", unit(8000), 1)[0][0] == "k8000"


async def _dropped_meanwhile(index: BlockIndex, wanted: Key) -> list[tuple[Key, float]]:
    search = asyncio.ensure_future(index.nearest("large", unit(77), 1))
    await asyncio.sleep(0)
    index.drop("large", wanted)
    return await search


def test_a_vector_that_is_dropped_during_a_search_does_not_come_back_under_its_key() -> None:
    index = BlockIndex(dimension=DIMENSION, max_bytes=1 << 26)
    for number in range(block.THREAD_ROWS + 50):
        index.add("large", Key(f"k{number}"), unit(number))
    assert all(key != "k77" for key, _ in asyncio.run(_dropped_meanwhile(index, Key("k77"))))


def test_in_a_very_large_scope_a_near_neighbour_is_found_by_signs_as_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block, "SIGNED_ROWS", 3000)
    monkeypatch.setattr(block, "THREAD_ROWS", 1000)
    monkeypatch.setattr(block, "RESCORED", 64)
    dice = np.random.default_rng(5)
    # What is alike in all questions is alike in their vectors: they do not lie evenly around the origin.
    rows = dice.normal(size=(6000, 384)).astype(np.float32) + dice.normal(size=384).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    index = BlockIndex(dimension=384, max_bytes=1 << 26)
    for number, row in enumerate(rows):
        index.add("large", Key(f"k{number}"), row)
    for number in range(0, 6000, 30):
        index.drop("large", Key(f"k{number}"))
    missed = 0
    for number in range(1, 6000, 97):
        if number % 30 == 0:
            continue
        asked = rows[number] + 0.6 * unit(number, 384)
        asked /= np.linalg.norm(asked)
        found = nearest(index, "large", asked, 3)
        exact = sorted((float(row @ asked) for at, row in enumerate(rows) if at % 30), reverse=True)
        missed += abs(found[0][1] - exact[0]) > 1e-5
    assert missed == 0
    assert index.bytes_used <= index.max_bytes
