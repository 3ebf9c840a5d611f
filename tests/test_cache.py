"""The cache forgets what was used longest ago, and never holds more than its budget."""

from __future__ import annotations

from dataclasses import dataclass

from zsas.cache import ByteBudgetCache


@dataclass
class Block:
    nbytes: int


def test_the_least_recently_used_value_goes_first() -> None:
    cache: ByteBudgetCache[Block] = ByteBudgetCache(10)
    for key in "abc":
        cache.put(key, Block(3))
    assert cache.get("a") is not None  # so that b is the oldest
    cache.put("d", Block(3))
    assert [cache.get(key) is not None for key in "abcd"] == [True, False, True, True]
    assert cache.nbytes == 9


def test_a_value_that_is_replaced_gives_its_bytes_back() -> None:
    cache: ByteBudgetCache[Block] = ByteBudgetCache(10)
    cache.put("a", Block(8))
    cache.put("a", Block(2))
    cache.put("b", Block(8))
    assert cache.nbytes == 10
    assert cache.get("a") == Block(2)


def test_what_is_larger_than_the_budget_is_not_kept_and_drops_nothing() -> None:
    cache: ByteBudgetCache[Block] = ByteBudgetCache(10)
    cache.put("a", Block(5))
    cache.put("b", Block(11))
    assert cache.get("b") is None
    assert cache.nbytes == 5
    assert cache.get_or_make("b", lambda: Block(11)) == Block(11)


def test_small_values_that_nobody_comes_back_to_do_not_fill_the_budget() -> None:
    cache: ByteBudgetCache[Block] = ByteBudgetCache(1000, max_values=2)
    for key in "abc":
        cache.put(key, Block(3))
    assert [cache.get(key) is not None for key in "abc"] == [False, True, True]
    assert cache.nbytes == 6


def test_all_of_one_image_can_be_let_go() -> None:
    cache: ByteBudgetCache[Block] = ByteBudgetCache(100)
    for key in (("a", "model"), ("sam", "a"), ("map", "b"), "a"):
        cache.put(key, Block(3))
    cache.drop("a")
    assert cache.get(("map", "b")) is not None
    assert cache.get("a") is not None  # no tuple
    assert cache.nbytes == 6
