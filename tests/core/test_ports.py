"""Ports: what is asked for, who gets which, and what is said where none is left."""

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.core.ports import PortPool, PortRequest
from pmdaemon.errors import InvalidConfiguration, PortInUse


class PortRequestTests(SynchronousTestCase):
    def test_the_forms_a_port_is_written_in(self) -> None:
        """[P6]"""
        for value, kind, low, high in (
            (3000, "fixed", 3000, 3000),
            ("3000", "fixed", 3000, 3000),
            ("3000-3003", "range", 3000, 3003),
            ("3000-3000", "range", 3000, 3000),
            ("auto:4000-4100", "auto", 4000, 4100),
            (1, "fixed", 1, 1),
            (65535, "fixed", 65535, 65535),
        ):
            self.assertEqual(PortRequest.parse(value), PortRequest(kind, low, high))

    def test_other_forms_are_refused_with_those_that_work(self) -> None:
        for value in (
            "",
            "auto",
            "auto:4000",
            "x",
            "3000-",
            "-3000",
            " 3000",
            "3000 - 3003",
            "3000\n",
            "\u0663",
            -1,
            10**400,
        ):
            error = self.assertRaises(ValueError, PortRequest.parse, value)
            self.assertIn('3000, "3000-3003" or "auto:4000-4100"', str(error))

    def test_ports_outside_the_range_of_ports_are_refused(self) -> None:
        for value in (0, 65536, "0", "99999", "4000-3999", "65535-65536", "auto:0-5"):
            error = self.assertRaises(ValueError, PortRequest.parse, value)
            self.assertIn("1 and 65535", str(error))

    def test_a_larger_request_is_written_as_one_writes_it(self) -> None:
        self.assertEqual(PortRequest.parse(3000).for_instances(4), "3000-3003")
        self.assertEqual(PortRequest.parse("auto:4000-4001").for_instances(4), "auto:4000-4003")
        self.assertEqual(PortRequest.parse(65535).for_instances(4), "65532-65535")

    @settings(max_examples=200, deadline=None)
    @given(st.one_of(st.text(), st.integers(), st.from_regex(r"\A(auto:)?[0-9]{1,6}(-[0-9]{1,6})?\Z")))
    def test_a_request_is_in_bounds_or_refused(self, value: int | str) -> None:
        try:
            request = PortRequest.parse(value)
        except ValueError:
            return
        self.assertTrue(1 <= request.low <= request.high <= 65535)
        self.assertEqual(
            request,
            PortRequest.parse(request.for_instances(len(request.ports))) if request.kind != "fixed" else request,
        )


class PortPoolTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.busy: set[int] = set()
        self.pool = PortPool(lambda port: port not in self.busy)

    def assign(self, owner: str, port: int | str, instance: int = 0, preferred: int | None = None) -> int:
        return self.pool.assign(owner, PortRequest.parse(port), instance, preferred)

    def test_a_fixed_port(self) -> None:
        self.assertEqual(self.assign("web-api", 3000), 3000)
        self.assertEqual(self.pool.owner_of(3000), "web-api")

    def test_a_range_has_a_port_for_each_instance(self) -> None:
        given = [self.assign(f"web-{instance}", "3000-3003", instance) for instance in range(4)]
        self.assertEqual(given, [3000, 3001, 3002, 3003])

    def test_auto_takes_the_lowest_that_is_free_and_unowned(self) -> None:
        self.busy.add(4001)
        self.assertEqual(self.assign("a", "auto:4000-4100"), 4000)
        self.assertEqual(self.assign("b", "auto:4000-4100"), 4002)

    def test_auto_prefers_the_port_it_had(self) -> None:
        self.assertEqual(self.assign("a", "auto:4000-4100", preferred=4050), 4050)

    def test_auto_does_without_a_preferred_port_that_it_cannot_have(self) -> None:
        self.busy.add(4050)
        self.assign("other", 4051)
        for preferred in (4050, 4051, 5000):
            self.assertEqual(self.assign("a", "auto:4000-4100", preferred=preferred), 4000)

    def test_preferred_means_nothing_to_a_fixed_port(self) -> None:
        self.assertEqual(self.assign("a", 3000, preferred=4000), 3000)

    def test_an_owner_may_ask_again(self) -> None:
        self.assign("a", 3000)
        self.assertEqual(self.assign("a", 3000), 3000)

    def test_a_port_of_ours_is_taken_by_name(self) -> None:
        self.assign("proxy", 3000)
        error = self.assertRaises(PortInUse, self.assign, "web-api", 3000)
        self.assertEqual(error.message, "cannot start 'web-api': port 3000 is taken by 'proxy'")
        self.assertEqual(error.hint, "stop 'proxy' first, or give 'web-api' another port")
        self.assertEqual(error.details, {"port": 3000, "owner": "proxy"})

    def test_a_port_of_a_stranger_is_taken_by_another_program(self) -> None:
        self.busy.add(3000)
        error = self.assertRaises(PortInUse, self.assign, "web-api", 3000)
        self.assertEqual(error.message, "cannot start 'web-api': port 3000 is taken by another program")
        self.assertIn("lsof -i :3000", error.hint or "")
        self.assertEqual(error.details, {"port": 3000, "owner": None})
        self.assertIsNone(self.pool.owner_of(3000))

    def test_a_port_of_ones_own_that_a_stranger_took_meanwhile(self) -> None:
        self.assign("web-api", 3000)
        self.busy.add(3000)
        error = self.assertRaises(PortInUse, self.assign, "web-api", 3000)
        self.assertIn("another program", error.message)

    def test_a_full_auto_range_says_so(self) -> None:
        self.busy |= {4000, 4001}
        error = self.assertRaises(PortInUse, self.assign, "web", "auto:4000-4001")
        self.assertEqual(error.message, "cannot start 'web': no port of 4000-4001 is free")
        self.assertIn("wider", error.hint or "")

    def test_an_instance_past_the_range_says_how_wide_it_must_be(self) -> None:
        for port, instance, words, wide in (
            (3000, 1, "port 3000 is for 1 instance only", '"3000-3001"'),
            ("3000-3003", 4, "ports 3000-3003 are for 4 instances only", '"3000-3004"'),
        ):
            error = self.assertRaises(InvalidConfiguration, self.assign, "web-4", port, instance)
            self.assertEqual(error.message, f"cannot start 'web-4': {words}")
            self.assertIn(wide, error.hint or "")

    def test_what_is_released_is_free_again(self) -> None:
        self.assign("a", 3000)
        self.assign("a", 3001)
        self.assign("b", 3002)
        self.pool.release("a")
        self.assertEqual([self.pool.owner_of(port) for port in (3000, 3001, 3002)], [None, None, "b"])

    def test_one_port_of_several_is_released(self) -> None:
        self.assign("a", 3000)
        self.assign("a", 3001)
        self.pool.release("a", 3000)
        self.pool.release("b", 3001)
        self.assertEqual([self.pool.owner_of(port) for port in (3000, 3001)], [None, "a"])

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from([1, 2, "1-3", "auto:1-3"]), st.booleans())))
    def test_no_port_has_two_owners(self, orders: list[tuple[str, int | str, bool]]) -> None:
        pool = PortPool(lambda port: True)
        held: dict[int, str] = {}
        for owner, port, release in orders:
            if release:
                pool.release(owner)
                held = {each: holder for each, holder in held.items() if holder != owner}
                continue
            try:
                got = pool.assign(owner, PortRequest.parse(port), 0)
            except PortInUse:
                continue
            self.assertIn(held.get(got, owner), (owner,))
            held[got] = owner
        self.assertEqual(held, {port: pool.owner_of(port) for port in held})
