"""What others than the own user are held to."""

import resource

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.errors import RateLimited
from pmdaemon.web import limits
from pmdaemon.web.limits import (
    TOO_MANY_CONNECTIONS,
    TOO_MANY_FAILURES,
    Connections,
    FailedLogins,
    MessageRate,
    Place,
    raise_descriptor_limit,
    source,
)
from pmdaemon.web.peer import Peer

OWN, OTHER = 1000, 1001


class SourceTests(SynchronousTestCase):
    """Who counts as one."""

    def test_a_user_wherever_from(self) -> None:
        self.assertEqual([source(Peer(address, OTHER)) for address in ("", "127.0.0.1", "::1")], [OTHER] * 3)

    def test_an_address(self) -> None:
        for address, expected in (
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
            ("2001:db8:1:2::5", "2001:db8:1:2::/64"),
            ("2001:db8:1:3::5", "2001:db8:1:3::/64"),
            ("fe80::1%eth0", "fe80::/64"),
            ("", ""),
        ):
            self.assertEqual(source(Peer(address, None)), expected)


class ConnectionsTests(SynchronousTestCase):
    """How many connections."""

    def setUp(self) -> None:
        self.connections = Connections(OWN, 1000)

    def enter(self, peer: Peer, *, let_in: bool = True) -> Place | None:
        place = self.connections.enter(peer)
        if not isinstance(place, Place):
            self.assertEqual(place, TOO_MANY_CONNECTIONS)
            return None
        if let_in:
            place.let_in()
        return place

    def fill(self, peer: Peer, *, let_in: bool = True) -> list[Place]:
        places = []
        while place := self.enter(peer, let_in=let_in):
            places.append(place)
        return places

    def test_the_own_user_has_the_descriptors(self) -> None:
        """A thousand dashboards are welcome [F3]; they need not show anything."""
        self.assertEqual(len(self.fill(Peer("127.0.0.1", OWN), let_in=False)), 1000)
        self.assertIsNone(self.enter(Peer("", OWN)))

    def test_others(self) -> None:
        for peer in (Peer("127.0.0.1", OTHER), Peer("192.0.2.1", None), Peer("2001:db8::1", None)):
            self.assertEqual(len(self.fill(peer)), 64, peer)
        self.assertIsNone(self.enter(Peer("", OTHER)), "the same user, by another way")
        self.assertIsNone(self.enter(Peer("2001:db8::2", None)), "the same network")
        self.assertIsNotNone(self.enter(Peer("192.0.2.2", None)))

    def test_those_not_let_in(self) -> None:
        places = self.fill(Peer("192.0.2.1", None), let_in=False)
        self.assertEqual(len(places), 16)
        self.assertIsNotNone(self.enter(Peer("192.0.2.2", None), let_in=False), "others are not kept out by them")
        places[0].let_in()
        places[0].let_in()
        self.assertIsNotNone(self.enter(Peer("192.0.2.1", None), let_in=False))
        self.assertIsNone(self.enter(Peer("192.0.2.1", None)))

    def test_all_others_together(self) -> None:
        """The own user is not kept out by any number of them, nor they by the own user."""
        self.fill(Peer("", OWN))
        held = sum(len(self.fill(Peer(f"192.0.2.{number}", None))) for number in range(10))
        self.assertEqual(held, 256)
        self.connections = Connections(OWN, 1000)
        for number in range(10):
            self.fill(Peer(f"192.0.2.{number}", None))
        self.assertIsNotNone(self.enter(Peer("", OWN)))

    def test_who_leaves_makes_room(self) -> None:
        for peer, let_in, count in (
            (Peer("", OWN), False, 1000),
            (Peer("", OTHER), True, 64),
            (Peer("192.0.2.1", None), False, 16),
        ):
            for _ in range(3):
                places = self.fill(peer, let_in=let_in)
                self.assertEqual(len(places), count)
                for place in places:
                    place.leave()
                    place.leave()
        self.assertEqual((len(self.connections._held), len(self.connections._unknown)), (0, 0), "nothing is kept")

    def test_who_leaves_twice_makes_room_for_one(self) -> None:
        places = self.fill(Peer("", OTHER))
        places[0].leave()
        places[0].leave()
        self.assertEqual(len(self.fill(Peer("", OTHER))), 1)


class MessageRateTests(SynchronousTestCase):
    """How many messages a second."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.rate = MessageRate(self.clock)

    def taken(self) -> int:
        """How many are taken now."""
        for number in range(1000):
            try:
                self.rate.spend()
            except RateLimited:
                return number
        raise AssertionError("there is no limit")

    def test_so_many_at_once_then_so_many_a_second(self) -> None:
        self.assertEqual(self.taken(), 40)
        self.clock.advance(1)
        self.assertEqual(self.taken(), 20)
        self.clock.advance(3600)
        self.assertEqual(self.taken(), 40)

    def test_when_to_come_again(self) -> None:
        self.taken()
        refused = self.assertRaises(RateLimited, self.rate.spend)
        self.assertEqual((refused.code, refused.details), ("RATE_LIMITED", {"retry_ms": 50}))
        self.clock.advance(0.03)
        self.assertEqual(self.assertRaises(RateLimited, self.rate.spend).details, {"retry_ms": 20})
        self.clock.advance(0.0201)
        self.rate.spend()

    def test_three_in_a_row_beyond_are_the_end(self) -> None:
        self.taken()
        self.assertRaises(RateLimited, self.rate.spend)
        self.assertFalse(self.rate.exhausted)
        self.assertRaises(RateLimited, self.rate.spend)
        self.assertTrue(self.rate.exhausted)

    def test_who_waits_is_forgiven(self) -> None:
        self.taken()
        for _ in range(5):
            self.assertRaises(RateLimited, self.rate.spend)
            self.clock.advance(0.051)
            self.rate.spend()
        self.assertFalse(self.rate.exhausted)

    def test_a_clock_that_is_set_back(self) -> None:
        self.taken()
        self.clock.rightNow -= 3600
        self.assertEqual(self.taken(), 0)
        self.clock.advance(1)
        self.assertEqual(self.taken(), 20)


class FailedLoginsTests(SynchronousTestCase):
    """How many wrong tokens."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.logins = FailedLogins(self.clock)

    def fail_often(self, who: int | str, count: int) -> None:
        for _ in range(count):
            self.logins.failed(who)

    def test_ten_in_a_minute(self) -> None:
        self.fail_often("192.0.2.1", 9)
        self.assertIsNone(self.logins.refusal("192.0.2.1"))
        self.clock.advance(59.9)
        self.fail_often("192.0.2.1", 1)
        self.assertEqual(self.logins.refusal("192.0.2.1"), TOO_MANY_FAILURES)
        self.assertIsNone(self.logins.refusal("192.0.2.2"))
        self.clock.advance(0.1)
        self.assertIsNone(self.logins.refusal("192.0.2.1"))

    def test_an_hour_of_guessing(self) -> None:
        tried = 0
        for _ in range(36_000):
            if self.logins.refusal(OTHER) is None:
                self.logins.failed(OTHER)
                tried += 1
            self.clock.advance(0.1)
        self.assertEqual(tried, 600)

    def test_it_does_not_grow(self) -> None:
        self.fail_often("first", 10)
        for number in range(limits.MAX_SOURCES * 2):
            self.fail_often(number, 30)
        self.assertEqual(len(self.logins._failures), limits.MAX_SOURCES)
        self.assertEqual(max(map(len, self.logins._failures.values())), 10)
        self.assertEqual(self.logins.refusal(limits.MAX_SOURCES * 2 - 1), TOO_MANY_FAILURES, "the latest are kept")

    def test_a_clock_that_is_set_back(self) -> None:
        self.clock.advance(3600)
        self.fail_often(OTHER, 10)
        self.clock.rightNow = 0.0
        self.assertIsNone(self.logins.refusal(OTHER))


class DescriptorTests(SynchronousTestCase):
    """The descriptors of this process."""

    def setUp(self) -> None:
        self.before = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, self.before)

    def test_raised(self) -> None:
        soft = min(512, self.before[1])
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, self.before[1]))
        had, has = raise_descriptor_limit()
        self.assertEqual(had, soft)
        self.assertEqual(resource.getrlimit(resource.RLIMIT_NOFILE), (has, self.before[1]))
        self.assertGreaterEqual(has, soft)
        if self.before[1] != resource.RLIM_INFINITY:
            self.assertEqual(has, self.before[1])

    def test_no_hard_limit(self) -> None:
        asked: list[tuple[int, int]] = []
        self.patch(resource, "getrlimit", lambda _: (1024, resource.RLIM_INFINITY))
        self.patch(resource, "setrlimit", lambda _, limit: asked.append(limit))
        self.assertEqual(raise_descriptor_limit(), (1024, 2**20))
        self.assertEqual(asked, [(2**20, resource.RLIM_INFINITY)])

    def test_a_limit_that_was_not_told(self) -> None:
        def refuse(*_: object) -> None:
            raise ValueError("not allowed to raise maximum limit")

        self.patch(resource, "getrlimit", lambda _: (256, resource.RLIM_INFINITY))
        self.patch(resource, "setrlimit", refuse)
        self.assertEqual(raise_descriptor_limit(), (256, 256))
