"""The memory of all clients together [F1]."""

from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.web.pool import Pool


class Member:
    """Takes what it is told to."""

    def __init__(self, size: int, lines: int = 0) -> None:
        self.size = size
        self.lines = lines
        self.gone = False

    def shed(self) -> bool:
        shed, self.lines = self.lines, 0
        self.size -= shed
        return shed > 0

    def overflow(self) -> None:
        self.gone = True


class PoolTests(SynchronousTestCase):
    """The largest goes first."""

    def setUp(self) -> None:
        self.pool = Pool(limit=100)
        self.members = [Member(size) for size in (20, 50, 30)]
        for member in self.members:
            self.pool.charge(member)

    def gone(self) -> list[bool]:
        return [member.gone for member in self.members]

    def test_up_to_the_limit(self) -> None:
        self.assertEqual((self.pool.total, self.gone()), (100, [False] * 3))

    def test_the_largest_goes_and_no_other(self) -> None:
        self.members[0].size = 21
        self.pool.charge(self.members[0])
        self.assertEqual((self.pool.total, self.gone()), (51, [False, True, False]))

    def test_as_many_as_needed(self) -> None:
        self.members[0].size = 101
        self.members[1].size = 102
        self.pool.charge(self.members[1])
        self.assertEqual((self.pool.total, self.gone()), (30, [True, True, False]))

    def test_what_was_freed_meanwhile_costs_nobody(self) -> None:
        self.members[1].size = 0
        self.members[0].size = 60
        self.pool.charge(self.members[0])
        self.assertEqual((self.pool.total, self.gone()), (90, [False] * 3))

    def test_what_may_be_lost_is_lost_first(self) -> None:
        self.members[1].lines = 10
        self.members[0].lines = 5
        self.members[0].size = 21
        self.pool.charge(self.members[0])
        self.assertEqual((self.pool.total, self.gone()), (91, [False] * 3))
        self.assertEqual(self.members[0].lines, 5, "of the largest, and no more than is needed")

    def test_release(self) -> None:
        self.pool.release(self.members[1])
        self.pool.release(self.members[1])
        self.assertEqual(self.pool.total, 50)
