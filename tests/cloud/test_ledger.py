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


@given(NUMBERS, st.integers(0, 40))
def test_a_gateway_that_lost_its_newest_batches_is_believed_about_new_ones(numbers: list[int], newest: int) -> None:
    """After a birth that knows fewer numbers than we have, those above are new again and are not acknowledged."""
    ledger = Ledger()
    for number in numbers:
        ledger.add(number)
    ledger.born(newest)
    assert ledger.committed <= newest
    assert ledger.add(newest + 1)


@given(NUMBERS, st.integers(1, 41))
def test_it_comes_back_from_json_as_it_was(numbers: list[int], oldest: int) -> None:
    """What is written down with a commit is the whole ledger."""
    ledger = Ledger()
    for number in numbers:
        ledger.add(number)
    ledger.oldest(oldest)
    assert Ledger.from_json(ledger.to_json()).to_json() == ledger.to_json()
