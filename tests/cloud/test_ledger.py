"""The ledger of stored batches against a plain set of numbers."""

from hypothesis import given
from hypothesis import strategies as st

from tocsin_cloud.loops.ledger import Ledger

NUMBERS = st.lists(st.integers(1, 40), max_size=60)


@given(NUMBERS, st.integers(1, 41))
def test_it_is_a_set_with_a_hole_finder(numbers: list[int], oldest: int) -> None:
    """A batch is new once, and the number to acknowledge is the last before the first hole."""
    ledger, model = Ledger(), set[int]()
    for number in numbers:
        assert ledger.add(number) is (number not in model)
        model.add(number)
    ledger.oldest(oldest)
    expected = oldest - 1
    while expected + 1 in model:
        expected += 1
    assert ledger.committed == expected
    assert ledger.newest == max(model, default=0)


@given(NUMBERS, st.integers(0, 40), st.data())
def test_a_new_spool_with_lower_numbers_begins_anew(numbers: list[int], newest: int, data: st.DataObject) -> None:
    """After a birth that knows fewer numbers than we have, none that can come is taken for a repeat; else all are."""
    oldest = data.draw(st.integers(1, newest + 1))
    ledger = Ledger()
    for number in numbers:
        ledger.add(number)
    anew = ledger.born(newest, oldest)
    assert anew is (max(numbers, default=0) > newest)
    if anew:
        assert ledger.committed == oldest - 1
        assert all(ledger.add(number) for number in range(oldest, newest + 2))
        assert ledger.committed == newest + 1
    else:
        assert not any(ledger.add(number) for number in numbers)


@given(NUMBERS, st.integers(1, 41))
def test_it_comes_back_from_json_as_it_was(numbers: list[int], oldest: int) -> None:
    """What is written down with a commit is the whole ledger."""
    ledger = Ledger()
    for number in numbers:
        ledger.add(number)
    ledger.oldest(oldest)
    assert Ledger.from_json(ledger.to_json()).to_json() == ledger.to_json()
