"""What a host's acknowledgement means for the batches that are on their way."""

from tocsin_edge.loops.outstanding import Outstanding, Word


def sent(floor: int, *, old: range, live: range) -> Outstanding:
    """Make a connection on which these batches were sent."""
    outstanding = Outstanding(floor)
    for number in live:
        outstanding.sent(number, historical=False)
    for number in old:
        outstanding.sent(number, historical=True)
    return outstanding


def test_an_acknowledgement_is_cumulative_by_number() -> None:
    """History that is acknowledged leaves live batches, which overtook it, waiting."""
    outstanding = sent(4, old=range(5, 10), live=range(10, 13))
    assert outstanding.hear(7, newest=12) is Word.COMMITS
    assert (outstanding.floor, len(outstanding), outstanding.old) == (7, 5, 2)
    assert 7 not in outstanding
    assert 8 in outstanding
    assert outstanding.hear(12, newest=12) is Word.COMMITS
    assert len(outstanding) == 0


def test_the_same_word_again_is_nothing_new() -> None:
    """A host may say its number once a second."""
    outstanding = sent(4, old=range(5, 6), live=range(0))
    assert [outstanding.hear(5, newest=5) for _ in range(3)] == [Word.COMMITS, Word.KNOWN, Word.KNOWN]


def test_a_host_that_went_back_is_heeded_once() -> None:
    """The lower number asks for what came after it; when the host cannot go on, asking again changes nothing."""
    outstanding = sent(100, old=range(0), live=range(101, 104))
    assert outstanding.hear(40, newest=103) is Word.WENT_BACK
    assert outstanding.hear(40, newest=103) is Word.KNOWN
    assert outstanding.hear(60, newest=103) is Word.COMMITS
    assert outstanding.hear(40, newest=103) is Word.KNOWN
    assert outstanding.hear(30, newest=103) is Word.WENT_BACK
    assert outstanding.hear(60, newest=103) is Word.COMMITS
    outstanding.reborn()
    assert outstanding.hear(30, newest=103) is Word.WENT_BACK


def test_a_number_never_given_out_commits_nothing() -> None:
    """A host that mixes gateways up cannot make readings vanish."""
    outstanding = sent(4, old=range(0), live=range(5, 8))
    assert outstanding.hear(2**63, newest=7) is Word.IMPOSSIBLE
    assert (outstanding.floor, len(outstanding)) == (4, 3)


def test_settling_without_a_host_leaves_the_floor() -> None:
    """The broker's word is for the batches that were sent, and for no others."""
    outstanding = sent(4, old=range(5, 7), live=range(7, 9))
    outstanding.settle(outstanding.all())
    assert (outstanding.floor, len(outstanding)) == (4, 0)
