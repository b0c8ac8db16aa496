"""Everything that can be set, parsed once at the edge.

One precedence: flags over `NOISEVOTE_*` environment variables over defaults. A flag is the setting's
name with dashes, a variable its name in capitals after `NOISEVOTE_`; an empty variable counts as not
set. Unknown flags and unknown `NOISEVOTE_*` variables are refused by name.
"""

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BeforeValidator, DirectoryPath, Field, FilePath, ValidationError, model_validator
from pydantic_settings import BaseSettings, CliSettingsSource, NoDecode, SettingsConfigDict

from noisevote.model_store.manifest import PrecisionChoice
from noisevote.service.cpus import usable_cpus
from noisevote.service.memory import usable_memory

PREFIX: Final = "NOISEVOTE_"
LEAST_BATCH_BYTES: Final = 2**20
# Settings of the other rooms, which are none of ours and no mistake either.
FOREIGN: Final = frozenset(
    {"NOISEVOTE_DATA", "NOISEVOTE_URL", "NOISEVOTE_API_KEY", "NOISEVOTE_MODEL", "NOISEVOTE_TIMEOUT_S"}
)


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _parts(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _unless_off(value: object) -> object:
    return None if value == "off" else value


def _timings_file() -> Path | None:
    """In the user's folder for what can be made again, if there is one."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "noisevote" / "timings.json"
    except RuntimeError:  # a user without a home
        return None


# In the environment and on the command line: values with commas between them.
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_parts)]
# As HTTP has it in a browser's Origin header.
Origins = Annotated[
    tuple[Annotated[str, Field(pattern=r"^https?://[^/?#,\s]+$")], ...], NoDecode, BeforeValidator(_parts)
]


class SettingsError(Exception):
    """A setting is unknown or has a value that cannot be used; the message names each."""


class Settings(BaseSettings):
    """The service's settings. `read_settings` is the way to make them."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid", use_attribute_docstrings=True
    )

    host: str = "127.0.0.1"
    """address to listen on"""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    """port to listen on; 0: any free one"""
    grpc_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """port of the Open Inference Protocol by gRPC, on the same address; without it there is none. It needs the extra
    `grpc`"""
    model_store: DirectoryPath = Path(__file__).resolve().parent.parent / "model_store" / "models"
    """folder of published models"""
    models: Names = ()
    """models to serve, as `name` or `name:version` with commas between them; default: all of the store"""
    newest_versions: Annotated[int, Field(ge=1)] | None = None
    """of each model so many of its newest versions are served, and those that `models` names; default: all"""
    lazy: bool = False
    """load each variant when it is first asked for, instead of all before the server is ready"""
    model_bytes: Annotated[int, Field(ge=1)] | None = None
    """most bytes of model files in memory; beyond, what was used longest ago and has no votes queued is unloaded, and
    loaded again when it is asked for; implies `lazy`"""
    poll_models: Annotated[float, Field(gt=0, le=86400)] | None = None
    """look so many seconds apart for models of the store that are new, changed or gone; default: only on SIGHUP and on
    `POST /v1/admin/refresh`"""
    threads: Annotated[int, Field(ge=1, le=1024)] = Field(default_factory=usable_cpus)
    """batches computed at once, one thread each; default: the CPUs that the cgroup allows"""
    batch_rows: Annotated[int, Field(ge=1, le=65536)] = 32
    """most rows (votes of any inputs) in one batch; how many up to this are best is measured when a model is loaded"""
    batch_bytes: Annotated[int, Field(ge=LEAST_BATCH_BYTES)] | None = None
    """most memory that computing one batch may take, as measured when a model is tried; larger ones are not made, and a
    variant whose smallest takes more is refused; default: half of the memory that the cgroup or the machine has,
    divided by `threads`"""
    timings_file: Annotated[Path | None, BeforeValidator(_unless_off)] = Field(default_factory=_timings_file)
    """where it is kept what batches took, time and memory, and which files passed their trial, so that the next start
    on this processor need not find it out again; off: nowhere"""
    policies: FilePath | None = None
    """file (TOML or JSON) of what requests to some models may choose; models without a policy are free"""
    precision: PrecisionChoice = "float32"
    """what variant `auto` computes in where a request does not say: float32, int8, or whichever of the two is measured
    to be faster here"""
    max_votes: Annotated[int, Field(ge=1, le=2**31)] = 10_000
    """most votes a request may ask for, per input"""
    max_certify_votes: Annotated[int, Field(ge=1, le=10**6)] = 10**6
    """most votes that a request for certificates may ask for, n0 + n on each of its inputs"""
    max_inputs: Annotated[int, Field(ge=1)] = 1024
    """most inputs in a request"""
    max_shown_logits: Annotated[int, Field(ge=0)] = 2**18
    """most logits that an answer may show with `return` votes: inputs times votes times classes"""
    max_body_bytes: Annotated[int, Field(ge=1)] = 16 * 2**20
    """longest body that is read, unpacked where it is sent as gzip"""
    max_body_values: Annotated[int, Field(ge=1)] = 4 * 2**20
    """most numbers, texts, lists and objects in a body, told by its commas and brackets before it is parsed"""
    max_unread_bytes: Annotated[int, Field(ge=1)] = 64 * 2**20
    """most bytes of bodies that arrive or wait to be read, over all requests; beyond, the longest silent long one is
    given up, and where none is silent new ones are answered with 503"""
    max_connections: Annotated[int, Field(ge=1)] = 2000
    """most open connections, fewer where the process may open fewer files; at the limit the one that has waited longest
    without a complete request is closed for a new one"""
    max_connections_per_address: Annotated[int, Field(ge=0)] = 0
    """most open connections from one address; 0: no limit, since everybody behind a proxy has the same address"""
    max_header_bytes: Annotated[int, Field(ge=1024)] = 64 * 2**10
    """longest request line and header that are read; longer ones are answered with 431"""
    header_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 20.0
    """a connection is closed that has sent no whole header so long after it was opened, or after the header's first
    byte"""
    body_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 20.0
    """a connection is closed whose body stays silent for so long, or whose client does not take its answer"""
    min_body_rate: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 8192.0
    """bytes a second that a body must have brought on average, once `body_seconds` are over"""
    queue_rows: Annotated[int, Field(ge=1)] = 1_000_000
    """most votes that wait, over all requests; more are answered with 429"""
    queue_bytes: Annotated[int, Field(ge=1)] = 256 * 2**20
    """most bytes of decoded inputs and tallies that wait"""
    grace_seconds: Annotated[int, Field(ge=0)] = 30
    """within this time after Ctrl-C or SIGTERM the server ends: it finishes what it has accepted, refuses the rest with
    503, and in the last second answers what is still open with the votes so far; less than a second is a second"""
    load_seconds: Annotated[float, Field(gt=0, le=86400)] = 30
    """longest that loading a model's file and running it may take; then the file is refused and the others serve"""
    load_bytes: Annotated[int, Field(ge=2**20)] = 4 * 2**30
    """most memory that loading a model's file and running it may take; what needs more is refused"""
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)] = "info"
    """least severe messages that are logged, in capitals or not"""
    log_format: Annotated[Literal["text", "json"], BeforeValidator(_lower)] = "text"
    """form of a log line: for people, or one JSON object"""
    access_log: Annotated[Literal["auto", "on", "off"], BeforeValidator(_lower)] = "auto"
    """a log line for every request but those for health and metrics; auto: where keys are asked for. Requests for
    `admin` routes always have one"""
    keys_file: FilePath | None = None
    """file of hashed API keys, a line each, as `noisevote key` prints them; read again when it changes"""
    insecure: bool = False
    """serve without keys to whoever reaches the address"""
    require_configured_keys: bool = False
    """refuse to start without `keys_file` on an address other than loopback, instead of making a key for this run"""
    open_metrics: bool = False
    """`/metrics` needs no key"""
    triton_metrics: bool = False
    """`/metrics` shows what Triton has a name for under that name (`nv_inference_…`) too, for its dashboards"""
    traces: bool = False
    """send traces by OTLP, to where OpenTelemetry's own variables say; needs `noisevote[otel]`"""
    key_requests_per_minute: Annotated[int, Field(ge=1)] | None = None
    """most requests a minute of a key whose line does not say otherwise"""
    key_votes_per_minute: Annotated[int, Field(ge=1)] | None = None
    """most votes a minute of such a key"""
    key_queued_votes: Annotated[int, Field(ge=1)] | None = None
    """most votes of such a key that wait at a time; default: a quarter of `queue_rows`, at least `max_votes`"""
    key_priority: Annotated[int, Field(ge=1, le=8)] = 4
    """largest `priority` of such a key's requests"""
    allowed_origins: Origins = ()
    """web origins whose pages may ask this server, such as `https://lab.example`, with commas between them"""
    allowed_hosts: Names = ()
    """names under which the server may be asked (`Host`), beside localhost; default: any, but where no key is needed on
    loopback, localhost alone"""
    root_path: Annotated[str, Field(pattern=r"^(/[\w.~-]+)*$")] = ""
    """path under which a proxy publishes the server, such as `/noisevote`"""
    trusted_proxies: Names = ("127.0.0.1",)
    """addresses or networks of proxies whose X-Forwarded-For and X-Forwarded-Proto are believed"""
    playground: bool = True
    """serve the page at `/` on which people draw digits and watch votes; off: `/` leads to the documentation"""
    open: bool = False
    """open the server's page in this machine's browser once it serves"""

    @property
    def most_batch_bytes(self) -> int:
        """`batch_bytes`, or its default: each thread's share of half of the memory."""
        return self.batch_bytes or max(LEAST_BATCH_BYTES, usable_memory() // 2 // self.threads)

    @model_validator(mode="after")
    def _one_input_fits(self) -> Self:
        if self.queue_rows < self.max_votes:
            raise ValueError(f"queue_rows: {self.queue_rows} is less than max_votes ({self.max_votes})")
        if self.max_unread_bytes < self.max_body_bytes:
            raise ValueError(
                f"max_unread_bytes: {self.max_unread_bytes} is less than max_body_bytes ({self.max_body_bytes})"
            )
        return self

    @model_validator(mode="after")
    def _one_way_to_serve(self) -> Self:
        if self.insecure and self.require_configured_keys:
            raise ValueError("insecure and require_configured_keys exclude each other")
        return self


def read_settings(arguments: Sequence[str] = ()) -> Settings:
    """Settings from flags, the process's environment and defaults, in this order.

    Raises:
        SettingsError: an unknown variable, or a value that cannot be used.
        SystemExit: an unknown flag (status 2), or `--help` (status 0).
    """
    flags = _flags(arguments)
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields} | FOREIGN
    unknown = sorted(name for name in os.environ if name.upper().startswith(PREFIX) and name.upper() not in known)
    if unknown:
        raise SettingsError(f"environment: unknown setting {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    try:
        return Settings(**flags)
    except ValidationError as error:
        raise SettingsError("; ".join(_problems(error, flags))) from error


def _flags(arguments: Sequence[str]) -> dict[str, Any]:
    """The flags that were given, by the setting's name; not yet checked."""
    parser, flags = settings_parser()
    return flags(parsed_args=parser.parse_args(arguments))()


def settings_parser() -> tuple[argparse.ArgumentParser, CliSettingsSource[argparse.ArgumentParser]]:
    """A parser with a flag for each setting, and what picks the settings from what was parsed."""
    parser = argparse.ArgumentParser(
        prog="noisevote serve",
        description="Serve the published models over HTTP.",
        epilog="Each flag may also be set as an environment variable, e.g. NOISEVOTE_PORT. Flags win.",
        allow_abbrev=False,
    )
    flags = CliSettingsSource[argparse.ArgumentParser](
        Settings, root_parser=parser, cli_kebab_case=True, cli_implicit_flags=True
    )
    return parser, flags


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _problems(error: ValidationError, flags: Mapping[str, Any]) -> list[str]:
    """Each problem by the name under which the value was given."""
    variables = {name.upper() for name, value in os.environ.items() if value}
    problems = []
    for problem in error.errors(include_url=False, include_context=False):
        name = str(problem["loc"][0]) if problem["loc"] else ""
        if not name:
            problems.append(problem["msg"].removeprefix("Value error, "))
        elif name in flags:
            problems.append(f"{_flag(name)}: {problem['input']!r}: {problem['msg']}")
        elif (variable := f"{PREFIX}{name.upper()}") in variables:
            problems.append(f"{variable}: {problem['input']!r}: {problem['msg']}")
        else:
            problems.append(
                f"{name}: its default {str(problem['input'])!r}: {problem['msg']}; set {_flag(name)} or {variable}"
            )
    return problems
