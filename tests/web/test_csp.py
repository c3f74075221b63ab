"""The policy of an example page."""

import base64
import hashlib

from twisted.trial.unittest import SynchronousTestCase

from pmdaemon.web.csp import policy

SOCKETS = ["ws://localhost:9615", "ws://127.0.0.1:9615"]


def hashed(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def sources(page: str) -> dict[str, str]:
    """Directive to what it allows."""
    return dict(part.split(" ", 1) for part in policy(page, SOCKETS).split("; "))


class PolicyTests(SynchronousTestCase):
    """What a page may do is what was shipped in it."""

    def test_talks_to_this_daemon_only(self) -> None:
        self.assertEqual(sources("")["connect-src"], "'self' ws://localhost:9615 ws://127.0.0.1:9615")

    def test_nothing_else(self) -> None:
        got = sources("")
        for directive in ("default-src", "base-uri", "form-action", "frame-ancestors"):
            self.assertEqual(got[directive], "'none'")
        self.assertEqual((got["script-src"], got["style-src"]), ("'self'", "'self'"))

    def test_inline_scripts_and_styles_by_hash(self) -> None:
        script, style = "\n  if (1 < 2 && '&amp;') { `<b>${x}</b>` }\n", "a { color: red }"
        got = sources(f"<html><style>{style}</style><p>text</p><script type=module>{script}</script><script>1</script>")
        self.assertEqual(got["script-src"], f"'self' {hashed(script)} {hashed('1')}")
        self.assertEqual(got["style-src"], f"'self' {hashed(style)}")

    def test_a_linked_script_needs_no_hash(self) -> None:
        self.assertEqual(sources("<script src=client.js></script>")["script-src"], "'self'")

    def test_line_ends_as_a_browser_reads_them(self) -> None:
        self.assertEqual(
            sources("<script>a\r\nb\rc</script>")["script-src"], f"'self' {hashed('a' + chr(10) + 'b' + chr(10) + 'c')}"
        )

    def test_broken_markup(self) -> None:
        for page in ("<script>never ended", "</script>", "<script", "<style><script>x</script>", "<![", "<!DOCTYPE"):
            self.assertIn("script-src 'self'", policy(page, SOCKETS))
