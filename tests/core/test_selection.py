"""Which processes a selector means [P3], [S5]."""

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct
from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.core.selection import Selection, close_matches, is_pattern, matches, means_exactly


class Who(Struct, frozen=True):
    id: int = 7
    name: str = "web-2"
    app: str = "web"
    namespace: str = "blue"


class MatchTests(SynchronousTestCase):
    def test_what_means_it(self) -> None:
        for selector in (7, "7", "web-2", "web", "all", "ns:blue", "web-*", "*", "w?b-2", "web-[0-9]", "ns:b*", "ns:*"):
            self.assertTrue(matches(selector, Who()), selector)

    def test_what_does_not(self) -> None:
        for selector in (
            *(2, -7, "07", "+7", "7.0", "\u0667", "web-", "Web-2", "WEB", "blue", "ns:", "ns:green", "ns:Blue", "ns"),
            *("", "web-?-", "*x", "[", "ns:[", "ALL", "al*x", 2**70),
        ):
            self.assertFalse(matches(selector, Who()), selector)

    def test_a_pattern_is_of_the_name_alone(self) -> None:
        self.assertFalse(matches("we[b]", Who()))
        self.assertFalse(matches("b*", Who()))
        self.assertTrue(matches("web-*", Who(name="web-3", app="other")))

    def test_an_instance_of_one(self) -> None:
        self.assertTrue(matches("api", Who(name="api", app="api")))

    def test_long_patterns_take_no_time(self) -> None:
        self.assertFalse(matches("*a" * 120 + "b", Who(name="a" * 64)))


class SelectionTests(SynchronousTestCase):
    def test_none_is_everybody_and_empty_nobody(self) -> None:
        """[S5]"""
        self.assertIn(Who(), Selection(None))
        self.assertNotIn(Who(), Selection([]))

    def test_it_is_a_value(self) -> None:
        self.assertEqual(Selection(["a", 1]), Selection([1, "a", "a"]))
        self.assertEqual(hash(Selection(["a", 1])), hash(Selection([1, "a"])))
        self.assertNotEqual(Selection(None), Selection([]))
        self.assertNotEqual(Selection(["1"]), Selection([1]))
        self.assertNotEqual(Selection(["a"]), ["a"])

    def test_listed(self) -> None:
        self.assertEqual(Selection(["b", 10, "a", 9]).listed(), [10, 9, "a", "b"])
        self.assertIsNone(Selection(None).listed())

    @settings(max_examples=200)
    @given(
        st.lists(
            st.one_of(
                st.integers(0, 3),
                st.text("0123ab*?[]-!:", max_size=4),
                st.sampled_from(["all", "ns:a", "ns:*", "a-1", "a", "ns:[a]"]),
            ),
            max_size=3,
        ),
        st.builds(
            Who,
            st.integers(0, 3),
            st.sampled_from(["a", "b", "a-1", "b-0"]),
            st.sampled_from(["a", "b"]),
            st.sampled_from(["a", "b"]),
        ),
    )
    def test_it_has_what_one_of_its_selectors_means(self, selectors: list[str | int], who: Who) -> None:
        self.assertEqual(who in Selection(selectors), any(matches(each, who) for each in selectors))
        exact = [each for each in selectors if each in means_exactly(who)]
        patterns = [each for each in selectors if is_pattern(each) and matches(each, who)]
        self.assertEqual(bool(exact or patterns), who in Selection(selectors))


class CloseMatchTests(SynchronousTestCase):
    def test_the_nearest_first_and_three_at_most(self) -> None:
        names = ["web-api", "web-app", "web-apis", "web-ape", "worker"]
        self.assertEqual(close_matches("web-api", names)[0], "web-api")
        self.assertEqual(len(close_matches("web-api", names)), 3)
        self.assertEqual(close_matches(17, names), [])
