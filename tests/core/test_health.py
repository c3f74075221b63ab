"""From probe results to a health status [P8], [P12]."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.core.health import HealthTracker


def record(tracker: HealthTracker, results: str) -> list[str]:
    """The changes that successes (+), failures (-) and failures that do not count (.) make."""
    changes = [tracker.record(result == "+", counts=result != ".") for result in results]
    return [change for change in changes if change]


class Tracking(SynchronousTestCase):
    def test_nothing_is_known_at_first(self) -> None:
        tracker = HealthTracker(3)
        assert (tracker.status, tracker.failures) == ("unknown", 0)

    def test_one_success_is_healthy_and_told_once(self) -> None:
        assert record(HealthTracker(3), "+++") == ["healthy"]

    def test_failures_in_a_row_are_unhealthy_and_told_once(self) -> None:
        tracker = HealthTracker(3)
        assert record(tracker, "+--") == ["healthy"]
        assert record(tracker, "---") == ["unhealthy"]
        assert tracker.failures == 5

    def test_a_success_between_starts_the_count_again(self) -> None:
        assert record(HealthTracker(3), "+--+--+--") == ["healthy"]

    def test_recovery(self) -> None:
        assert record(HealthTracker(1), "+-+-") == ["healthy", "unhealthy", "healthy", "unhealthy"]

    def test_what_does_not_count_changes_nothing(self) -> None:
        tracker = HealthTracker(2)
        assert record(tracker, "....") == []
        assert record(tracker, "+-..") == ["healthy"]
        assert tracker.failures == 1

    def test_reset_forgets(self) -> None:
        tracker = HealthTracker(1)
        record(tracker, "+-")
        tracker.reset()
        assert (tracker.status, tracker.failures) == ("unknown", 0)

    @given(st.integers(1, 4), st.text("+-."))
    def test_any_results(self, retries: int, results: str) -> None:
        tracker = HealthTracker(retries)
        changes = record(tracker, results)
        assert all(one != other for one, other in pairwise(changes))
        assert tracker.status == (changes[-1] if changes else "unknown")
        tail = results.rpartition("+")[2].count("-")
        assert tracker.failures == tail
        assert (tracker.status == "unhealthy") == (tail >= retries)
