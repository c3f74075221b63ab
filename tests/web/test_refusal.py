"""How the operator hears of refusals."""

from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.web.refusal import Refusal, RefusalLog


class RefusalLogTests(SynchronousTestCase):
    """The operator is told, and not flooded."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.told: list[dict[str, object]] = []
        self.log = RefusalLog(self.clock, Logger(observer=self.told.append))

    def refuse(self, subject: str) -> None:
        self.log.record(Refusal(403, "ORIGIN_NOT_ALLOWED", f"cannot let {subject} in", f"allow {subject}"))

    def test_tells_what_to_do(self) -> None:
        self.refuse("X")
        self.assertEqual((self.told[0]["message"], self.told[0]["hint"]), ("cannot let X in", "allow X"))

    def test_once_a_minute_per_cause(self) -> None:
        for _ in range(61):
            self.refuse("X")
            self.refuse("Y")
            self.clock.advance(1)
        self.assertEqual(len(self.told), 4)

    def test_bounded(self) -> None:
        for number in range(1000):
            self.refuse(str(number))
        self.assertEqual(len(self.told), RefusalLog.CAUSES)
        self.clock.advance(60)
        self.refuse("late")
        self.assertEqual(len(self.told), RefusalLog.CAUSES + 1)

    def test_control_characters_are_escaped(self) -> None:
        self.refuse("\x1b]0;x\x07\r\nforged \u202e")
        self.assertEqual(self.told[0]["message"], "cannot let \\x1b]0;x\\x07\\r\\nforged \\u202e in")
        self.assertNotIn("\n", str(self.told[0]["hint"]))

    def test_a_clock_set_back(self) -> None:
        self.clock.advance(10_000)
        self.refuse("X")
        self.clock.rightNow = 0.0
        self.refuse("X")
        self.assertEqual(len(self.told), 2)
