"""`noisevote loadtest`: its flags, and what it does with them."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import ValidationError
from pydantic_settings import CliSettingsSource, SettingsError

from noisevote.loadtest import figure, record, table
from noisevote.loadtest.errors import LoadTestError, OutError, UnansweredError, problems
from noisevote.loadtest.flags import add_model
from noisevote.loadtest.generator_process import Generator
from noisevote.loadtest.load_profile import LoadProfile
from noisevote.loadtest.measurement import Measurement, measure
from noisevote.loadtest.overhead import read_overhead
from noisevote.loadtest.phase import Phase
from noisevote.loadtest.record import LoadTest
from noisevote.loadtest.target import SentInput, Target, choose_input

TITLE = "A load test"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a load test; returns the exit status."""
    parser, flags = command_parser()
    options = parser.parse_args(arguments)
    try:
        profile = LoadProfile.model_validate(flags(parsed_args=options)())
        for path in _write(_run(options, profile), options.out):
            print(path)
    except (LoadTestError, SettingsError, ValidationError) as error:
        print(f"noisevote loadtest: {problems(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def command_parser() -> tuple[argparse.ArgumentParser, CliSettingsSource[argparse.ArgumentParser]]:
    """The parser of all flags, and what picks those of the profile from what was parsed."""
    parser = argparse.ArgumentParser(
        prog="noisevote loadtest",
        description="Ask a running server for votes in many ways; writes OUT.json, OUT.md and OUT.png. "
        "Lists have commas between.",
        allow_abbrev=False,
    )
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="the server (default: http://127.0.0.1:8000)")
    add_model(parser)
    beside = "what python -m benchmarks.http_overhead wrote: votes per second without HTTP, to show beside"
    parser.add_argument("--in-process", type=Path, metavar="FILE", help=beside)
    parser.add_argument("--out", type=Path, default=Path("noisevote-loadtest"), help="(default: noisevote-loadtest)")
    flags = CliSettingsSource[argparse.ArgumentParser](
        LoadProfile,  # type: ignore[arg-type]  # declared for settings; a plain model, as for CliApp.run, does as well
        root_parser=parser,
        cli_kebab_case=True,
        cli_hide_none_type=True,
    )
    return parser, flags


def _run(options: argparse.Namespace, profile: LoadProfile) -> LoadTest:
    """Refuse what would fail at the end before anything is measured."""
    overhead = read_overhead(options.in_process) if options.in_process else None
    try:
        options.out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutError(options.out, error.strerror or str(error)) from error
    target = Target(options.url, options.model)
    described = target.describe()
    sent = choose_input(described.name, described.manifest.input, options.input)
    measurements = []
    for found in _measure(target, sent, profile):
        measurements.append(found)
        print(table.progress(found), flush=True)
    return LoadTest(
        url=target.url,
        model=described.name,
        version=described.version,
        input=sent.origin,
        client=record.this_machine(),
        profile=profile,
        measurements=tuple(measurements),
        overhead=overhead,
    )


def _measure(target: Target, sent: SentInput, profile: LoadProfile) -> Iterator[Measurement]:
    with Generator(target.url) as generator:

        def run(phase: Phase) -> Measurement:
            return measure(phase, generator.run(target.order(phase, sent)))

        first = run(profile.warm_up())
        if not first.answered:
            raise UnansweredError(target.url, first.outcomes)
        yield first
        for votes in profile.votes:
            yield (closed := run(profile.closed(votes)))
            yield run(profile.stopping(votes))
            if (offered := profile.offered(votes, closed)) is not None:
                yield run(offered)
        for phase in profile.others():
            yield run(phase)


def _write(done: LoadTest, out: Path) -> Iterator[Path]:
    paths = [out.with_name(f"{out.name}.{kind}") for kind in ("json", "md", "png")]
    data, document, picture = paths
    try:
        record.write(done, data)
        document.write_text("\n".join([f"# {TITLE}", "", *table.lines(done), "", f"![Figures]({picture.name})", ""]))
        figure.draw(done, picture)
    except OSError as error:
        raise OutError(out, error.strerror or str(error)) from error
    yield from paths
