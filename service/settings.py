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

from pydantic import DirectoryPath, Field, FilePath, ValidationError, model_validator
from pydantic_settings import BaseSettings, CliSettingsSource, SettingsConfigDict

from noisevote.service.cpus import usable_cpus

PREFIX: Final = "NOISEVOTE_"
# Settings of the other rooms, which are none of ours and no mistake either.
FOREIGN: Final = frozenset({"NOISEVOTE_DATA"})


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
    model_store: DirectoryPath = Path(__file__).resolve().parent.parent / "model_store" / "models"
    """folder of published models"""
    threads: Annotated[int, Field(ge=1, le=1024)] = Field(default_factory=usable_cpus)
    """batches computed at once, one thread each; default: the CPUs that the cgroup allows"""
    batch_rows: Annotated[int, Field(ge=1, le=65536)] = 32
    """most rows (votes of any inputs) in one batch; how many up to this are best is measured when a model is loaded"""
    policies: FilePath | None = None
    """file (TOML or JSON) of what requests to some models may choose; models without a policy are free"""
    max_votes: Annotated[int, Field(ge=1, le=2**31)] = 10_000
    """most votes a request may ask for, per input"""
    max_certify_votes: Annotated[int, Field(ge=1, le=10**6)] = 10**6
    """most votes that a request for certificates may ask for, n0 + n on each of its inputs"""
    max_inputs: Annotated[int, Field(ge=1)] = 1024
    """most inputs in a request"""
    max_body_bytes: Annotated[int, Field(ge=1)] = 16 * 2**20
    """longest body that is read"""
    queue_rows: Annotated[int, Field(ge=1)] = 1_000_000
    """most votes that wait, over all requests; more are answered with 429"""
    queue_bytes: Annotated[int, Field(ge=1)] = 256 * 2**20
    """most bytes of decoded inputs and tallies that wait"""
    grace_seconds: Annotated[int, Field(ge=0)] = 30
    """within this time after Ctrl-C or SIGTERM the server ends: it finishes what it has accepted, refuses the rest with
    503, and in the last second answers what is still open with the votes so far"""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """least severe messages that are logged"""

    @model_validator(mode="after")
    def _one_input_fits(self) -> Self:
        if self.queue_rows < self.max_votes:
            raise ValueError(f"queue_rows: {self.queue_rows} is less than max_votes ({self.max_votes})")
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
    parser = argparse.ArgumentParser(
        prog="noisevote serve",
        description="Serve the published models over HTTP.",
        epilog="Each flag may also be set as an environment variable, e.g. NOISEVOTE_PORT. Flags win.",
        allow_abbrev=False,
    )
    flags = CliSettingsSource[argparse.ArgumentParser](Settings, root_parser=parser, cli_kebab_case=True)
    return flags(parsed_args=parser.parse_args(arguments))()


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
