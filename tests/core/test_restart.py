"""What follows an end: who is started again, after what delay, and who is given up."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.core.lifecycle import Input
from pmdaemon.core.restart import BACKOFF_CAP, STABLE_AFTER, UNSTARTED_DELAY, End, RestartPolicy, Verdict
from pmdaemon.core.spec import AppSpec

CRASH = End(exit_code=1, uptime=5.0)


def spec(**fields: Any) -> AppSpec:
    return AppSpec(name="web", script="web", **fields)


class VerdictTests(SynchronousTestCase):
    """[P9]: the status that an unasked-for end leads to."""

    def judged(self, end: End, **fields: Any) -> tuple[Input, str]:
        verdict = RestartPolicy().judge(end, spec(**fields), 0.0, 0.5)
        return verdict.input, verdict.reason

    def test_restarted(self) -> None:
        for end, reason in (
            (CRASH, "crash"),
            (End(exit_code=None, exit_signal="SIGKILL", uptime=5.0), "crash"),
            (End(exit_code=None, uptime=5.0), "crash"),
            (End(exit_code=0, uptime=5.0), "exit"),
            (End(exit_code=0, uptime=5.0, failed="unhealthy"), "unhealthy"),
            (End(exit_code=None, exit_signal="SIGTERM", uptime=5.0, failed="memory_limit"), "memory_limit"),
        ):
            self.assertEqual(self.judged(end), (Input.RETRY, reason), end)

    def test_one_shots(self) -> None:
        """Without autorestart an exit 0 is an end, anything else a failure."""
        for end, expected in (
            (End(exit_code=0, uptime=0.01), (Input.DONE, "exit")),
            (CRASH, (Input.GIVE_UP, "crash")),
            (End(exit_code=None, exit_signal="SIGSEGV"), (Input.GIVE_UP, "crash")),
            (End(exit_code=0, failed="unhealthy"), (Input.GIVE_UP, "unhealthy")),
            (End(exit_code=0, ready=False, failed="not_ready"), (Input.GIVE_UP, "not_ready")),
        ):
            self.assertEqual(self.judged(end, autorestart=False), expected, end)

    def test_stop_exit_codes(self) -> None:
        """These codes are an end, for whoever; a signal or an end that the daemon made is none of them."""
        for autorestart in (True, False):
            fields = {"stop_exit_codes": [0, 3], "autorestart": autorestart}
            for code in (0, 3):
                self.assertEqual(self.judged(End(exit_code=code), **fields)[0], Input.DONE)
            for end in (CRASH, End(exit_code=None, exit_signal="SIGINT"), End(exit_code=3, failed="unhealthy")):
                self.assertNotEqual(self.judged(end, **fields)[0], Input.DONE, end)


class GivingUpTests(SynchronousTestCase):
    """[P14]: failures in a window that slides over the time in which it ran."""

    def setUp(self) -> None:
        self.policy = RestartPolicy()
        self.now = 1000.0

    def judge(self, end: End = CRASH, *, after: float = 0.0, random: float = 0.5, **fields: Any) -> Verdict:
        """Judge an end *after* seconds since the last judgement."""
        self.now += after
        return self.policy.judge(end, spec(**fields), self.now, random)

    def test_max_restarts(self) -> None:
        inputs = [self.judge(after=1.0, max_restarts=3).input for _ in range(4)]
        self.assertEqual(inputs, [Input.RETRY] * 3 + [Input.GIVE_UP])

    def test_no_restart_at_all(self) -> None:
        self.assertEqual(self.judge(max_restarts=0).input, Input.GIVE_UP)

    def test_the_window_slides(self) -> None:
        """An end for each window's third is never too many; one more within it is."""
        fields = {"max_restarts": 3, "restart_window": "30s"}
        for _ in range(20):
            self.assertEqual(self.judge(after=10.0, **fields).input, Input.RETRY)
        self.assertEqual(self.judge(after=1.0, **fields).input, Input.GIVE_UP)

    def test_waiting_does_not_age_the_window(self) -> None:
        """A delay that is longer than the window does not hide that it never works."""
        inputs = []
        for _ in range(4):
            verdict = self.judge(max_restarts=3, restart_window="10s", restart_delay="20s", after=2.0)
            self.assertEqual(verdict.delay, 20.0 if verdict.input is Input.RETRY else 0.0)
            inputs.append(verdict.input)
            self.now += verdict.delay
        self.assertEqual(inputs, [Input.RETRY] * 3 + [Input.GIVE_UP])

    def test_every_kind_of_failure_counts(self) -> None:
        ends = [
            CRASH,
            End(exit_code=0, ready=False, failed="not_ready"),
            End(exit_code=0, uptime=9.0, failed="unhealthy"),
            End(exit_code=0, uptime=9.0, failed="memory_limit"),
            End(exit_code=0, uptime=0.5),  # sooner than min_uptime: a failed start
            End(exit_code=0, uptime=9.0, ready=False),
        ]
        inputs = [self.judge(end, max_restarts=5).input for end in ends]
        self.assertEqual(inputs, [Input.RETRY] * 5 + [Input.GIVE_UP])

    def test_a_good_exit_does_not_count(self) -> None:
        for _ in range(50):
            self.assertEqual(self.judge(End(exit_code=0, uptime=1.0), max_restarts=0).input, Input.RETRY)

    def test_min_uptime(self) -> None:
        quick = End(exit_code=0, uptime=1.5)
        self.assertEqual(self.judge(quick, max_restarts=0).input, Input.RETRY)
        self.assertEqual(self.judge(quick, max_restarts=0, min_uptime="2s").input, Input.GIVE_UP)

    def test_reset(self) -> None:
        """A command of the user begins a new count."""
        for _ in range(2):
            inputs = [self.judge(max_restarts=1).input for _ in range(2)]
            self.assertEqual(inputs, [Input.RETRY, Input.GIVE_UP])
            self.policy.reset()
            self.assertEqual(self.policy.attempt, 0)

    def test_a_clock_set_back(self) -> None:
        """Failures that seem to lie ahead are not kept for ever."""
        for _ in range(3):
            self.judge(max_restarts=3)
        self.now -= 3600.0
        inputs = [self.judge(max_restarts=3, after=30.0).input for _ in range(10)]
        self.assertEqual(inputs, [Input.RETRY] * 10)


class DelayTests(SynchronousTestCase):
    def delays(self, ends: list[End], random: float = 0.5, **fields: Any) -> list[float]:
        policy = RestartPolicy()
        return [policy.judge(end, spec(max_restarts=1000, **fields), 0.0, random).delay for end in ends]

    def test_restart_delay(self) -> None:
        self.assertEqual(self.delays([CRASH, End(exit_code=0, uptime=9.0)], restart_delay="250ms"), [0.25, 0.25])
        self.assertEqual(self.delays([CRASH]), [0.0])

    def test_backoff_doubles_up_to_its_cap(self) -> None:
        delays = self.delays([CRASH] * 80, exp_backoff_restart_delay=100)
        self.assertEqual(delays[:8], [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8])
        self.assertEqual(set(delays[8:]), {BACKOFF_CAP})

    def test_jitter(self) -> None:
        """A quarter up or down, so that many do not come back in step; the cap holds all the same."""
        self.assertEqual(self.delays([CRASH] * 2, 0.0, exp_backoff_restart_delay=1000), [0.75, 1.5])
        self.assertEqual(self.delays([CRASH] * 2, 1.0, exp_backoff_restart_delay=1000), [1.25, 2.5])
        self.assertEqual(max(self.delays([CRASH] * 9, 1.0, exp_backoff_restart_delay=1000)), BACKOFF_CAP)

    def test_a_stable_minute_starts_it_anew(self) -> None:
        stable, nearly = (End(exit_code=1, uptime=STABLE_AFTER - less) for less in (0.0, 0.1))
        self.assertEqual(
            self.delays([CRASH, CRASH, nearly, stable, CRASH], exp_backoff_restart_delay=100),
            [0.1, 0.2, 0.4, 0.1, 0.2],
        )

    def test_the_longer_of_both(self) -> None:
        delays = self.delays([CRASH] * 4, exp_backoff_restart_delay=100, restart_delay=300)
        self.assertEqual(delays, [0.3, 0.3, 0.4, 0.8])

    def test_what_could_not_even_be_started(self) -> None:
        """Never at once: it would be tried as fast as the machine can."""
        unstarted = End(exit_code=None, ready=False, started=False, failed="port_in_use")
        self.assertEqual(self.delays([unstarted]), [UNSTARTED_DELAY])
        self.assertEqual(self.delays([unstarted], restart_delay="7s"), [7.0])
