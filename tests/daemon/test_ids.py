"""The sequence of ids [E3] and the cursors among them [S7]."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.daemon.ids import Sequence, aside, id_of, seq_of
from pmdaemon.errors import InvalidMessage

NUMBERS = st.integers(0, 2**62)


class SequenceTests(SynchronousTestCase):
    def test_each_number_once(self) -> None:
        sequence = Sequence(1)
        taken = [sequence.take() for _ in range(3)]
        first = sequence.take(10)
        self.assertEqual(sequence.last, first + 9)
        self.assertEqual([*taken, first, sequence.take()], [(1 << 40) + step for step in (1, 2, 3, 4, 14)])

    def test_they_sort_as_strings_over_restarts(self) -> None:
        """[E3]"""
        ids = []
        for epoch in (1, 2, 9, 10, 15, 16, 255, 256, 65_535, 65_536, 2**22):
            sequence = Sequence(epoch)
            ids += [id_of(sequence.take(count)) for count in (1, 9, 90, 10**9)]
        self.assertEqual(ids, sorted(ids))
        self.assertEqual({len(each) for each in ids}, {16})


class IdTests(SynchronousTestCase):
    @given(NUMBERS, NUMBERS)
    def test_strings_sort_as_numbers(self, one: int, other: int) -> None:
        self.assertEqual(one < other, id_of(one) < id_of(other))

    @given(NUMBERS, NUMBERS)
    def test_what_is_told_aside_lies_behind_its_cursor(self, cursor: int, own: int) -> None:
        beside = aside(cursor, id_of(own))
        self.assertTrue(id_of(cursor) < beside < id_of(cursor + 1))
        self.assertEqual(seq_of(beside, cursor), cursor)

    @given(NUMBERS)
    def test_back(self, number: int) -> None:
        self.assertEqual(seq_of(id_of(number), number), number)

    def test_what_is_no_id_of_ours(self) -> None:
        """Nor one that was not given out yet: whoever has it would wait for the wrong thing."""
        last = 0xFF
        for wrong in (
            *("", "ff", "yesterday", "00000000000000FF", "0x000000000000ff", " 00000000000000ff", "0" * 17, "0" * 15),
            *("00000000000000ff.", "00000000000000ff.12", "00000000000000ff." + "0" * 17, "-00000000000000f"),
            *("0000000000000100", "f" * 16, "\u0660" * 16, "00000000000000ff\n"),
        ):
            error = self.assertRaises(InvalidMessage, seq_of, wrong, last)
            self.assertEqual(error.details, {"path": "data.since"})
