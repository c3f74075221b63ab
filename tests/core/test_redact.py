"""What looks like a secret on a command line or in a URL is masked."""

from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.core.redact import arguments, command, url


class RedactTests(SynchronousTestCase):
    def test_after_an_equals_sign(self) -> None:
        self.assertEqual(
            arguments(["--password=x", "DB_PASS=x", "-Dauth.key=x=y", "--port=80"]),
            ["--password=***", "DB_PASS=***", "-Dauth.key=***", "--port=80"],
        )

    def test_after_an_option(self) -> None:
        self.assertEqual(arguments(["--token", "x", "y"]), ["--token", "***", "y"])
        self.assertEqual(arguments(["--token", "-x"]), ["--token", "***"])
        self.assertEqual(arguments(["--no-auth", "--port", "80"]), ["--no-auth", "--port", "80"])
        self.assertEqual(arguments(["token", "x"]), ["token", "x"], "a word that is no option")

    def test_in_a_header(self) -> None:
        self.assertEqual(arguments(["-H", "Authorization: Bearer x"]), ["-H", "Authorization: ***"])

    def test_in_a_url(self) -> None:
        self.assertEqual(url("postgres://me:x@db:5432/shop"), "postgres://***@db:5432/shop")
        self.assertEqual(url("http://a/?api_key=x&page=2"), "http://a/?api_key=***&page=2")
        self.assertEqual(arguments(["--db", "redis://:x@h"]), ["--db", "redis://***@h"])
        self.assertEqual(arguments(["http://auth.example.com/a@b"]), ["http://auth.example.com/a@b"])
        self.assertEqual(arguments(["--key=http://a/b"]), ["--key=***"])
        self.assertEqual(arguments(["--db=redis://:x@h"]), ["--db=redis://***@h"])
        self.assertEqual(arguments(["//npm.example.com/:_authToken=x"]), ["//npm.example.com/:_authToken=***"])

    def test_a_command_line_without_secrets_is_shown_as_written(self) -> None:
        for text in ("node  server.js", "it's", "a 'b c'"):
            self.assertEqual(command(text), text)

    def test_a_command_line_with_secrets(self) -> None:
        self.assertEqual(command("a 'b c' --key 'x y'"), "a 'b c' --key ***")
        self.assertEqual(command("it's --key x"), "'it'\"'\"'s' --key ***")
