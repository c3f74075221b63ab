"""What waits for a slow client, and in which order it is told [F1]."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.web.backlog import ENTRY, Backlog, Frame, Kind


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

    def test_log_lines_are_counted_per_process(self) -> None:
        self.add(*[(Kind.LOG, "web" if number % 3 else "db", b"x" * 10_000, number) for number in range(9)])
        self.assertEqual(self.backlog.take(), [b"gap db 3 0", b"gap web 6 1"])

    def test_a_gap_stands_before_anything_newer_and_after_anything_older(self) -> None:
        self.add(
            (Kind.KEPT, "", b"subscribed", 1),
            (Kind.LOG, "web", b"line", 2),
            (Kind.KEPT, "", b"stopped", 3),
            (Kind.LOG, "web", b"line", 4),
            (Kind.METRICS, "m", b"metrics", 5),
        )
        self.assertEqual(self.backlog.take(), [b"subscribed", b"gap web 2 2", b"stopped", b"metrics"])

    def test_keys_of_one_kind_are_not_those_of_another(self) -> None:
        self.add((Kind.LOG, "a", b"", 1), (Kind.METRICS, "a", b"m", 2), (Kind.KEPT, "a", b"k", 3))
        self.assertEqual(self.backlog.take(), [b"gap a 1 1", b"m", b"k"])

    def test_starts_anew_once_taken(self) -> None:
        self.add((Kind.LOG, "web", b"line", 1), (Kind.KEPT, "", b"x", 2))
        self.backlog.take()
        self.assertEqual((self.backlog.take(), self.backlog.size), ([], 0))
        self.add((Kind.LOG, "web", b"line", 3))
        self.assertEqual(self.backlog.take(), [b"gap web 1 3"])

    FRAMES = st.lists(st.tuples(st.sampled_from(Kind), st.sampled_from("abc"), st.binary(max_size=9)), max_size=60)

    @given(FRAMES)
    def test_size_and_order(self, frames: list[tuple[Kind, str, bytes]]) -> None:
        def numbered(process: str, dropped: int, seq: int) -> bytes:
            dropped_of[process] = dropped
            return b"%03d" % seq

        dropped_of: dict[str, int] = {}
        backlog = Backlog(numbered)
        for seq, (kind, key, data) in enumerate(frames):
            backlog.add(Frame(kind, key, b"%03d" % seq + data, seq))
        size = backlog.size
        told = backlog.take()
        order = [entry[:3] for entry in told]
        self.assertEqual(order, sorted(order))
        gaps = 3 * len(dropped_of)
        self.assertEqual(size, sum(map(len, told)) - gaps + ENTRY * len(told))
        for process in "abc":
            logs = [key for kind, key, _ in frames if kind is Kind.LOG and key == process]
            self.assertEqual(dropped_of.get(process, 0), len(logs))
        self.assertEqual(backlog.size, 0)
