"""What a user declares: an app, its health check and when it counts as ready.

The values are kept as they were written; the properties give them in the units the daemon works in. Whether a file
exists is known at spawn, not here.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from pmdaemon.core import paths, pm2, redact
from pmdaemon.core.fields import FieldError, checked, convert, located, shown
from pmdaemon.core.names import (
    NAME_HINT,
    NAME_PATTERN,
    RESERVED_PATTERN,
    check_name,
    name_problem,
    named_after,
    pattern_problem,
)
from pmdaemon.core.ports import PORT_PATTERN, PortRequest
from pmdaemon.core.units import MILLISECOND, SECOND, Duration, Size, seconds, size
from pmdaemon.core.upkeep import Upkeep
from pmdaemon.core.values import (
    MAX_TEXT,
    MAX_WORDS,
    EnvValue,
    Text,
    about,
    check_durations,
    check_env,
    check_texts,
    check_url,
    env_text,
    signal_number,
    words,
)
from pmdaemon.errors import InvalidConfiguration

__all__ = ["AppSpec", "CheckTiming", "HealthCheck", "LogLine", "Timing", "check_name", "parse_app"]

MAX_ENV_ENTRIES = 1000
MAX_INSTANCES = 1000

Words = Annotated[list[Annotated[str, Meta(max_length=MAX_TEXT)]], Meta(max_length=MAX_WORDS)]
Port = Annotated[int, Meta(ge=1, le=65535)]


class CheckTiming(msgspec.Struct, frozen=True, kw_only=True):
    """The times of a health check, in seconds."""

    interval: float
    timeout: float
    start_period: float


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """The times of an app, in seconds."""

    min_uptime: float
    restart_window: float
    restart_delay: float
    exp_backoff_restart_delay: float
    kill_timeout: float
    listen_timeout: float


class HealthCheck(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How a running process is asked whether it is well."""

    check_type: Annotated[Literal["http", "script", "tcp"], about("What is done to ask.")]
    url: Annotated[
        Text | None, about("http: what is fetched; a status of 200 to 299 is healthy, no redirect is followed.")
    ] = None
    script: Annotated[Text | None, about("script: what is run in the app's directory; exit 0 is healthy.")] = None
    host: Annotated[Text, about("tcp: the host to connect to.")] = "localhost"
    port: Annotated[Port | None, about("tcp: the port to connect to.")] = None
    interval: Annotated[Duration, about("Time from one check to the next; a bare number is in seconds.")] = 30
    timeout: Annotated[Duration, about("How long an answer may take; a bare number is in seconds.")] = 5
    retries: Annotated[int, Meta(ge=1, le=1000), about("Failures in a row that make it unhealthy.")] = 3
    start_period: Annotated[
        Duration, about("Time after a start in which failures do not count; a bare number is in seconds.")
    ] = 0
    enabled: Annotated[bool, about("false: the check is kept but not done.")] = True
    restart: Annotated[bool, about("Whether an unhealthy process is restarted.")] = True

    def __post_init__(self) -> None:
        check_texts(self)
        needed = CHECK_KEYS[self.check_type][0]
        if getattr(self, needed) is None:
            raise FieldError(needed, f"is missing, a check of type {self.check_type} needs it", f"add {needed!r}")
        for key in ("url", "script", "port"):
            if key not in CHECK_KEYS[self.check_type] and getattr(self, key) is not None:
                raise FieldError(key, f"has no meaning in a check of type {self.check_type}", f"leave out {key!r}")
        if self.url is not None:
            check_url("url", self.url)
        check_durations(self, SECOND, ("interval", "timeout", "start_period"), positive=("interval", "timeout"))

    @property
    def timing(self) -> CheckTiming:
        """Its times in seconds."""
        return CheckTiming(
            interval=seconds(self.interval, SECOND),
            timeout=seconds(self.timeout, SECOND),
            start_period=seconds(self.start_period, SECOND),
        )


CHECK_KEYS = {"http": ("url",), "script": ("script",), "tcp": ("port", "host")}
"""Type of a check -> the keys that are its own, the one it cannot do without first."""


class LogLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Ready when the process has written a line that contains a text."""

    log_line: Annotated[Text, about("The text to wait for; upper and lower case differ.")]

    def __post_init__(self) -> None:
        check_texts(self)
        if "\n" in self.log_line or "\r" in self.log_line:
            raise FieldError("log_line", "must be within one line", "choose a text without a line break")


class AppSpec(Upkeep, msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One app: what to run, how many times, and what to do when it ends.

    After `parse_app` its paths are absolute. Two specs are the same declaration if they are equal.
    """

    name: Annotated[
        str, about("Unique name of the app.", pattern=NAME_PATTERN, **{"not": {"pattern": RESERVED_PATTERN}})
    ]
    script: Annotated[
        Text,
        about("The program: a path, a name to find in cwd or on PATH, or a command line; no shell reads it."),
    ]
    interpreter: Annotated[Text | None, about("What runs the script: by its suffix if absent, 'none' for none.")] = None
    interpreter_args: Annotated[
        Words | str, about("Arguments of the interpreter; a string is split like a shell splits it.")
    ] = []
    args: Annotated[Words | str, about("Arguments of the script; a string is split like a shell splits it.")] = []
    cwd: Annotated[Text, about("Directory to run in, relative to this file's.")] = "."
    env: Annotated[
        dict[str, EnvValue],
        Meta(max_length=MAX_ENV_ENTRIES),
        about("Environment variables, on top of the daemon's own.", propertyNames={"pattern": "^[^=\\u0000]+$"}),
    ] = {}
    env_file: Annotated[
        Text | Annotated[list[Text], Meta(max_length=100)] | None,
        about("Files of NAME=VALUE lines, read at each start and never stored."),
    ] = None
    instances: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_INSTANCES)] | Literal["max"],
        about("How many processes run it; max is one for each core."),
    ] = 1
    port: Annotated[
        Port | Annotated[str, about("A port or a range.", pattern=PORT_PATTERN)] | None,
        about("The PORT it is given: one, a range with one for each instance, or auto: any free one of a range."),
    ] = None
    namespace: Annotated[str, about("A group that commands can name as ns:NAMESPACE.", pattern=NAME_PATTERN)] = (
        "default"
    )
    autorestart: Annotated[bool, about("Whether it is started again when it ends unasked.")] = True
    max_restarts: Annotated[
        int, Meta(ge=0, le=1_000_000), about("Unasked ends within restart_window, after which it is given up.")
    ] = 16
    restart_window: Annotated[Duration, about("The sliding window of max_restarts; a bare number is in ms.")] = 60000
    min_uptime: Annotated[Duration, about("An end sooner than this is a failed start; a bare number is in ms.")] = 1000
    restart_delay: Annotated[Duration, about("Wait before each restart; a bare number is in ms.")] = 0
    exp_backoff_restart_delay: Annotated[
        Duration, about("First wait before a restart, doubled each time up to 15 s; a bare number is in ms; 0 is off.")
    ] = 0
    stop_exit_codes: Annotated[
        list[Annotated[int, Meta(ge=0, le=255)]], Meta(max_length=256), about("Exit codes that are not restarted.")
    ] = []
    stop_signal: Annotated[str, about("Signal that asks it to end, with or without SIG.", pattern="^[A-Za-z0-9]+$")] = (
        "SIGTERM"
    )
    kill_timeout: Annotated[
        Duration, about("Time from the stop signal to SIGKILL for the whole process tree; a bare number is in ms.")
    ] = 1600
    max_memory_restart: Annotated[
        Size | None, about("Resident memory of the process tree at which it is restarted; a bare number is in bytes.")
    ] = None
    out_file: Annotated[Text | None, about("Where standard output goes; a relative path stays below its base.")] = None
    error_file: Annotated[Text | None, about("Where standard error goes; a relative path stays below its base.")] = None
    log_file: Annotated[Text | None, about("A third file that takes a copy of both streams.")] = None
    pid_file: Annotated[Text | None, about("Where the pid is written; a relative path stays below its base.")] = None
    health_check: Annotated[HealthCheck | None, about("How a running process is asked whether it is well.")] = None
    readiness: Annotated[
        Literal["exec", "health", "port", "notify"] | LogLine | None,
        about("When it counts as online; health if a check is enabled, else exec."),
    ] = None
    listen_timeout: Annotated[
        Duration, about("Readiness later than this is a failed start; a bare number is in ms.")
    ] = 30000
    autostart: Annotated[bool, about("Whether it is started when the daemon starts.")] = True

    def __post_init__(self) -> None:
        check_texts(self)
        _check_names(self)
        check_env(self.env)
        check_durations(self, MILLISECOND, Timing.__struct_fields__, positive=("restart_window", "listen_timeout"))
        for key in ("args", "interpreter_args"):
            checked(key, words, getattr(self, key))
        checked("stop_signal", signal_number, self.stop_signal)
        if self.max_memory_restart is not None and checked("max_memory_restart", size, self.max_memory_restart) < 1:
            raise FieldError("max_memory_restart", "must be more than 0", "leave it out for no limit")
        self.check_upkeep()
        _check_port(self)
        _check_readiness(self)

    @property
    def argv_tail(self) -> list[str]:
        """The arguments of the script, one by one."""
        return words(self.args)

    @property
    def interpreter_argv_tail(self) -> list[str]:
        """The arguments of the interpreter, one by one."""
        return words(self.interpreter_args)

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables as a child gets them."""
        return {name: env_text(value) for name, value in self.env.items()}

    @property
    def env_files(self) -> list[str]:
        """The paths of its environment files, in order."""
        return [self.env_file] if isinstance(self.env_file, str) else list(self.env_file or [])

    @property
    def timing(self) -> Timing:
        """Its times in seconds."""
        return Timing(**{key: seconds(getattr(self, key), MILLISECOND) for key in Timing.__struct_fields__})

    @property
    def memory_limit(self) -> int | None:
        """The resident memory of the process tree at which it is restarted, in bytes."""
        return None if self.max_memory_restart is None else size(self.max_memory_restart)

    @property
    def check(self) -> HealthCheck | None:
        """The health check, if it is to be done."""
        return self.health_check if self.health_check is not None and self.health_check.enabled else None

    @property
    def ready_when(self) -> Literal["exec", "health", "port", "notify"] | LogLine:
        """When a process counts as online."""
        return self.readiness or ("health" if self.check else "exec")

    @property
    def port_request(self) -> PortRequest | None:
        """The ports it asks for."""
        return None if self.port is None else PortRequest.parse(self.port)

    @property
    def stop_signal_number(self) -> int:
        """The signal that asks it to end."""
        return signal_number(self.stop_signal)

    def instance_count(self, cores: int) -> int:
        """Return how many processes run it on a machine with this many cores."""
        return max(1, min(cores, MAX_INSTANCES)) if self.instances == "max" else self.instances

    def process_names(self, cores: int) -> list[str]:
        """Return the names of its processes: its own for one, else ``NAME-0`` and so on."""
        count = self.instance_count(cores)
        return [self.name] if count == 1 else [f"{self.name}-{instance}" for instance in range(count)]

    def public(self) -> dict[str, Any]:
        """Return it as JSON values that anyone may see: what differs from the defaults, and the keys one looks for.

        ``env`` is a sorted list of names; what looks like a secret in an argument or URL is ``***``.
        """
        config: dict[str, Any] = msgspec.to_builtins(self)
        config |= {key: getattr(self, key) for key in _ALWAYS_SHOWN}
        config["env"] = sorted(self.env)
        config["script"] = redact.command(self.script)
        for key in ("args", "interpreter_args"):
            if key in config:
                line = config[key]
                config[key] = redact.command(line) if isinstance(line, str) else redact.arguments(line)
        check = config.get("health_check", {})
        for key, masked in (("url", redact.url), ("script", redact.command)):
            if key in check:
                check[key] = masked(check[key])
        return config

    def __repr__(self) -> str:
        """Show what is public, so that no log or traceback holds a secret."""
        return f"AppSpec({self.public()})"


_ALWAYS_SHOWN = ("script", "args", "cwd", "instances", "namespace", "autorestart")


def parse_app(value: object, *, where: str, base: str, name: str | None = None, require_name: bool = True) -> AppSpec:
    """Return the app that decoded JSON, YAML or TOML declares.

    ``where`` stands before the paths in errors (``config``, ``ecosystem.yaml: apps[2]``), ``base`` is the directory
    that relative paths start from, ``name`` wins over the one in ``value``. Without ``require_name`` an app that has
    no name is named after its script. Raises InvalidConfiguration whatever is wrong with ``value``.
    """
    try:
        if isinstance(value, dict):
            value = pm2.canonical(value)
            if name is None and not require_name and value.get("name") is None and isinstance(value.get("script"), str):
                name = named_after(value["script"])
            if name is not None:
                value["name"] = name
        return _resolved(convert(value, AppSpec, where=where, error=InvalidConfiguration), base)
    except FieldError as wrong:
        raise located(wrong, where, InvalidConfiguration) from None


def _check_names(app: AppSpec) -> None:
    problem = name_problem(app.name)
    if problem is None and app.instances != 1:
        last = app.process_names(MAX_INSTANCES)[-1]
        problem = pattern_problem(last) and f"is too long with the number of an instance, as in {last!r}"
    if problem is not None:
        raise FieldError("name", f"cannot be {shown(app.name)}: it {problem}", NAME_HINT)
    problem = pattern_problem(app.namespace)
    if problem is not None:
        raise FieldError("namespace", f"cannot be {shown(app.namespace)}: it {problem}", NAME_HINT)


def _check_port(app: AppSpec) -> None:
    if app.port is None:
        return
    request = checked("port", PortRequest.parse, app.port)
    if app.instances != "max" and app.instances > len(request.ports):
        problem = f"must hold {app.instances} ports, one for each instance, and holds {len(request.ports)}"
        raise FieldError("port", problem, f'give a range such as "{request.for_instances(app.instances)}"')


def _check_readiness(app: AppSpec) -> None:
    if app.readiness == "health" and app.check is None:
        raise FieldError("readiness", "is 'health', but no health check is enabled", "add a health_check")
    if app.readiness == "port" and app.port is None:
        raise FieldError("readiness", "is 'port', but the app has no port", "add a port")


def _resolved(app: AppSpec, base: str) -> AppSpec:
    """Return ``app`` with absolute paths."""
    changed: dict[str, Any] = {"cwd": checked("cwd", paths.absolute, app.cwd, base)}
    for key in ("script", "interpreter"):
        if getattr(app, key) is not None:
            changed[key] = checked(key, paths.program, getattr(app, key), base)
    for key in ("out_file", "error_file", "log_file", "pid_file"):
        if getattr(app, key) is not None:
            changed[key] = checked(key, paths.inside, getattr(app, key), base)
    if isinstance(app.env_file, str):
        changed["env_file"] = checked("env_file", paths.absolute, app.env_file, base)
    elif app.env_file is not None:
        changed["env_file"] = [
            checked(f"env_file[{index}]", paths.absolute, path, base) for index, path in enumerate(app.env_file)
        ]
    check = app.health_check
    if check is not None and check.script is not None:
        script = checked("health_check.script", paths.program, check.script, base)
        changed["health_check"] = msgspec.structs.replace(check, script=script)
    return msgspec.structs.replace(app, **changed)
