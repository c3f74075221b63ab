"""The policy: which scope each request needs, and which processes exist for whom."""

from typing import ClassVar, NamedTuple

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.core import commands
from pmdaemon.core.access import (
    NEEDS,
    SCOPES,
    Caller,
    Scope,
    check,
    covers,
    limited,
    require,
    require_processes,
    widest,
)
from pmdaemon.core.selection import Selection
from pmdaemon.errors import PermissionDenied


class Unheard(msgspec.Struct, frozen=True):
    """A request that somebody adds without thinking of who may."""

    type: ClassVar[str] = "unheard"


class Named(NamedTuple):
    """A process, as far as selecting goes."""

    name: str
    app: str = ""
    namespace: str = "default"
    id: int = 0


def caller(scope: Scope, *processes: str | int) -> Caller:
    return Caller(
        name="ci",
        kind="token",
        scope=scope,
        processes=Selection(processes) if processes else Selection(None),
    )


POLICY: list[tuple[Scope, object]] = [
    ("read", commands.Subscribe(events=["log_message"])),
    ("read", commands.Unsubscribe()),
    ("read", commands.GetInfo(process="web")),
    ("read", commands.GetSystem()),
    ("read", commands.Ping()),
    ("read", commands.GetLogs(process="web")),
    ("read", commands.GetEvents()),
    ("read", commands.GetCrash(process="web")),
    ("read", commands.GetHistory(process="web", metric="cpu")),
    ("read", commands.GetConfig(process="web")),
    ("read", commands.GetConfig(process="web", secrets=False)),
    ("start", commands.GetConfig(process="web", secrets=True)),
    ("operate", commands.Start(process="web")),
    ("operate", commands.Start(process="web", replace=False)),
    ("start", commands.Start(process="web", config={"script": "a"})),
    ("start", commands.Start(process="web", config={})),
    ("start", commands.Start(process="web", replace=True)),
    ("operate", commands.Stop(process="web")),
    ("operate", commands.Restart(process="web")),
    ("operate", commands.Reload(process="web")),
    ("start", commands.Reload(process="web", config={"script": "a"})),
    ("start", commands.Delete(process="web")),
    ("start", commands.Delete(process="web", purge=True)),
    ("start", commands.Scale(process="web", instances=2)),
    ("operate", commands.Signal(process="web", signal="SIGHUP")),
    ("operate", commands.Reset(process="web")),
    ("start", commands.Flush(process="web")),
    ("start", Unheard()),
]
"""The scope that each needs."""


class CheckTests(SynchronousTestCase):
    """The table, row by row."""

    def test_each_scope_on_each_request(self) -> None:
        for needed, request in POLICY:
            for scope in SCOPES:
                with self.subTest(f"{scope} for {request}"):
                    if covers(scope, needed):
                        check(caller(scope), request)  # type: ignore[arg-type]
                    else:
                        refused = self.assertRaises(PermissionDenied, check, caller(scope), request)
                        self.assertEqual(refused.details, {"needed": needed, "scope": scope})

    def test_every_request_and_action_was_thought_of(self) -> None:
        self.assertEqual({*commands.REQUESTS, *commands.ACTIONS} - set(NEEDS), set())

    def test_the_fields_that_make_it_start_exist(self) -> None:
        for word, kind in {**commands.REQUESTS, **commands.ACTIONS}.items():
            for field in NEEDS[word].start_if:
                self.assertIn(field, kind.__struct_fields__, word)

    def test_the_words(self) -> None:
        refused = self.assertRaises(PermissionDenied, check, caller("read"), commands.Stop(process="web"))
        self.assertEqual(
            (refused.code, refused.message, refused.hint),
            (
                "PERMISSION_DENIED",
                "cannot stop 'web': scope operate is needed, yours is read",
                "use a token with it: pmdaemon token create --scope operate",
            ),
        )

    def test_the_words_where_a_field_makes_the_difference(self) -> None:
        for request, message in (
            (commands.Start(process="web", config={}), "cannot start 'web' with config: scope start is needed"),
            (
                commands.GetConfig(process="web", secrets=True),
                "cannot answer get_config with secrets: scope start is needed",
            ),
        ):
            refused = self.assertRaises(PermissionDenied, check, caller("operate"), request)
            self.assertEqual(refused.message, message + ", yours is operate")

    def test_what_a_command_turns_out_to_need(self) -> None:
        require(caller("start"), "start", "reload 'web'")
        refused = self.assertRaises(PermissionDenied, require, caller("operate"), "start", "reload 'web'")
        self.assertTrue(refused.message.startswith("cannot reload 'web': "))


class ScopeTests(SynchronousTestCase):
    """Scopes and their order."""

    def test_each_includes_those_before(self) -> None:
        self.assertEqual([covers("operate", scope) for scope in SCOPES], [True, True, False])

    def test_widest(self) -> None:
        for words, scope in (
            (["start", "read"], "start"),
            (["read", "admin", "operate"], "operate"),
            (iter(["operate", "read"]), "operate"),
            (["READ", "admin"], None),
            ([], None),
            ("start", None),
        ):
            self.assertEqual(widest(words), scope, words)

    def test_limited(self) -> None:
        less = limited(caller("start", "web-*"), "read", "start the daemon without --read-only")
        self.assertEqual((less.scope, less.name, less.processes), ("read", "ci", Selection(["web-*"])))
        refused = self.assertRaises(PermissionDenied, check, less, commands.Stop(process="web-1"))
        self.assertEqual(refused.hint, "start the daemon without --read-only")

    def test_limited_to_no_less(self) -> None:
        self.assertEqual(limited(caller("read"), "operate", "never told"), caller("read"))


class ProcessTests(SynchronousTestCase):
    """What exists for a caller with some of the processes."""

    def test_yours(self) -> None:
        mine = caller("start", "web-*", "ns:ci")
        require_processes(mine, [Named("web-0"), Named("x", namespace="ci")], "start 'web'")
        refused = self.assertRaises(
            PermissionDenied, require_processes, mine, [Named("web-0"), Named("db")], "start 'db'"
        )
        self.assertEqual(
            (refused.message, refused.hint),
            ("cannot start 'db': 'db' is none of your processes", "yours are: ns:ci, web-*"),
        )
        self.assertEqual(refused.details, {"process": "db", "processes": ["ns:ci", "web-*"]})

    def test_everything_where_nothing_was_said(self) -> None:
        require_processes(caller("start"), [Named("db")], "start 'db'")

    def test_nothing(self) -> None:
        nobody = Caller(name="x", kind="token", scope="read", processes=Selection([]))
        refused = self.assertRaises(PermissionDenied, require_processes, nobody, [Named("db")], "read 'db'")
        self.assertEqual(refused.hint, "there are none for you")

    def test_a_selection_within_another(self) -> None:
        mine = Selection(["web-*"])
        for selectors, expected in ((None, ["web-0"]), (["web-0", "db"], ["web-0"]), (["all"], ["web-0"]), ([], [])):
            chosen = Selection(selectors, within=mine)
            self.assertEqual([who.name for who in (Named("web-0"), Named("db")) if who in chosen], expected)

    def test_selections_are_equal_only_within_the_same(self) -> None:
        one, same, other = (Selection(["web-0"], within=Selection([glob])) for glob in ("web-*", "web-*", "w*"))
        self.assertEqual((one, hash(one)), (same, hash(same)))
        self.assertNotEqual(one, other)
        self.assertNotEqual(one, Selection(["web-0"]))
        self.assertEqual(one.listed(), ["web-0"])
