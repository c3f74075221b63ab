"""What waits for a slow client, and in which order it is told [F1]."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.web.backlog import ENTRY, LINE, Backlog, Frame, Kind


def gap(process: str, dropped: int, seq: int) -> bytes:
    return f"gap {process} {dropped} {seq}".encode()


class BacklogTests(SynchronousTestCase):
    """Metrics, log lines and the rest."""

    def setUp(self) -> None:
        self.backlog = Backlog(gap)

    def add(self, *frames: tuple[Kind, str, bytes, int]) -> None:
        for frame in frames:
            self.backlog.add(Frame(*frame))

    def test_what_is_kept_stays_in_order(self) -> None:
        self.add(*[(Kind.KEPT, "", b"%d" % number, number) for number in range(100)])
        self.assertEqual(self.backlog.take(), [b"%d" % number for number in range(100)])

    def test_metrics_keep_only_the_newest_of_a_key(self) -> None:
        self.add((Kind.METRICS, "a", b"a1", 1), (Kind.METRICS, "b", b"b1", 2), (Kind.METRICS, "a", b"a2", 3))
        self.assertEqual(self.backlog.take(), [b"b1", b"a2"])

    def test_log_lines_stay_in_their_places(self) -> None:
        self.add((Kind.LOG, "a", b"1", 1), (Kind.LOG, "b", b"2", 2), (Kind.KEPT, "", b"3", 3), (Kind.LOG, "a", b"4", 4))
        self.assertEqual(self.backlog.take(), [b"1", b"2", b"3", b"4"])

    def test_lines_in_a_row_cost_little_more_than_themselves(self) -> None:
        self.add(*[(Kind.LOG, "a", b"x" * 100, number) for number in range(1000)])
        self.assertEqual(self.backlog.size, 1000 * (100 + LINE) + ENTRY)

    def test_lines_that_are_shed_are_counted_per_process(self) -> None:
        self.add(*[(Kind.LOG, "web" if number % 3 else "db", b"x" * 10_000, number) for number in range(9)])
        self.assertTrue(self.backlog.shed())
        self.add((Kind.LOG, "web", b"another", 9), (Kind.LOG, "new", b"line", 10))
        self.assertEqual(self.backlog.take(), [b"gap db 3 0", b"gap web 7 1", b"line"])

    def test_nothing_to_shed(self) -> None:
        self.add((Kind.KEPT, "", b"x", 1), (Kind.METRICS, "m", b"y", 2))
        self.assertFalse(self.backlog.shed())
        self.assertEqual(self.backlog.take(), [b"x", b"y"])

    def test_a_gap_stands_before_anything_newer_and_after_anything_older(self) -> None:
        self.add(
            (Kind.KEPT, "", b"subscribed", 1),
            (Kind.LOG, "web", b"line", 2),
            (Kind.KEPT, "", b"stopped", 3),
            (Kind.LOG, "web", b"line", 4),
            (Kind.METRICS, "m", b"metrics", 5),
        )
        self.backlog.shed()
        self.assertEqual(self.backlog.take(), [b"subscribed", b"gap web 2 2", b"stopped", b"metrics"])

    def test_keys_of_one_kind_are_not_those_of_another(self) -> None:
        self.add((Kind.LOG, "a", b"", 1), (Kind.METRICS, "a", b"m", 2), (Kind.KEPT, "a", b"k", 3))
        self.backlog.shed()
        self.assertEqual(self.backlog.take(), [b"gap a 1 1", b"m", b"k"])

    def test_starts_anew_once_taken(self) -> None:
        self.add((Kind.LOG, "web", b"line", 1), (Kind.KEPT, "", b"x", 2))
        self.backlog.shed()
        self.backlog.take()
        self.assertEqual((self.backlog.take(), self.backlog.size), ([], 0))
        self.add((Kind.LOG, "web", b"line", 3))
        self.assertEqual(self.backlog.take(), [b"line"])

    FRAMES = st.lists(
        st.tuples(st.sampled_from([*Kind, None]), st.sampled_from("abc"), st.binary(max_size=9)), max_size=60
    )

    @given(FRAMES)
    def test_size_and_order(self, frames: list[tuple[Kind | None, str, bytes]]) -> None:
        """None stands for having to shed."""

        def numbered(process: str, dropped: int, seq: int) -> bytes:
            dropped_of[process] = dropped
            return b"%03d" % seq

        dropped_of: dict[str, int] = {}
        backlog = Backlog(numbered)
        for seq, (kind, key, data) in enumerate(frames):
            if kind is None:
                backlog.shed()
            else:
                backlog.add(Frame(kind, key, b"%03d" % seq + data, seq))
        size = backlog.size
        told = backlog.take()
        order = [entry[:3] for entry in told]
        self.assertEqual(order, sorted(order))
        self.assertGreaterEqual(size, sum(map(len, told)) - 3 * len(dropped_of))
        lines = [number for number, (kind, *_) in enumerate(frames) if kind is Kind.LOG]
        self.assertEqual(
            len(lines),
            sum(dropped_of.values()) + len({b"%03d" % each for each in lines} & set(order)) - len(dropped_of),
        )
        self.assertEqual(backlog.size, 0)
