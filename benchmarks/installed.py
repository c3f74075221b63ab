"""Installs the peers, each in an environment of its own that is kept for the next run, outside of the checkout."""

import json
import os
import subprocess
import sys
from pathlib import Path
from shutil import rmtree, which

__all__ = ["Unavailable", "npm_package", "pypi_package"]

_PATIENCE = 240
"""Seconds for an installation."""


class Unavailable(Exception):
    """A peer cannot be measured here; the text says why."""


def pypi_package(name: str) -> tuple[Path, str]:
    """Return the directory of the programs that a package brings, and its version. Raises Unavailable."""
    place = _cache() / name
    programs = place / "bin"
    if not (place / "installed").exists():
        _fresh(place)
        _run([sys.executable, "-m", "venv", str(place)])
        _run([str(programs / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check", "install", name])
        (place / "installed").touch()
    ask = f"from importlib.metadata import version; print(version({name!r}))"
    return programs, _run([str(programs / "python"), "-c", ask]).strip()


def npm_package(name: str) -> tuple[Path, str]:
    """Return likewise those of a package of Node.js."""
    if which("npm") is None:
        raise Unavailable(f"{name} cannot be installed: there is no npm")
    place = _cache() / name
    if not (place / "installed").exists():
        _fresh(place)
        _run(["npm", "install", "--prefix", str(place), "--no-audit", "--no-fund", "--loglevel=error", name])
        (place / "installed").touch()
    package = json.loads((place / "node_modules" / name / "package.json").read_text())
    return place / "node_modules" / ".bin", str(package["version"])


def _cache() -> Path:
    given = os.environ.get("XDG_CACHE_HOME")
    return Path(given or Path.home() / ".cache") / "pmdaemon-bench"


def _fresh(place: Path) -> None:
    rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)


def _run(argv: list[str]) -> str:
    """Run a program to its end and return what it says. Raises Unavailable where it fails."""
    try:
        return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=_PATIENCE).stdout
    except subprocess.CalledProcessError as failed:
        reason = failed.stderr.strip().rpartition("\n")[2]
    except (OSError, subprocess.TimeoutExpired) as failed:
        reason = str(failed)
    raise Unavailable(f"{' '.join(argv[:4])} ... failed: {reason}")
