"""docs/networks.md: networks of others, injected, trained, exported and served, each "no" with its reason.

`python -m benchmarks.networks --out docs/results/networks` measures them one after another and keeps each at once, so
that a stopped run goes on. Networks of timm and torchvision need those packages beside what training needs; see
docs/networks.md.
"""

import argparse
import json
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.foreign_networks import Case, cases
from noisevote.engine.feeds import Feeds
from noisevote.engine.session import load_session
from noisevote.engine.trial import Expectation
from noisevote.engine.trial_runs import check_runs
from noisevote.noise_op.contract import DOMAIN, OP_VERSION
from noisevote.noise_op.injection import NoisyModule, UninjectableError, inject_noise
from noisevote.noise_op.layer_noise import LayerNoise
from noisevote.noise_op.library import load_kernel
from noisevote.noise_op.torch_twin import Draws, drawing
from noisevote.training.publish.export import as_arguments, published_graph

SIGMA: Final = 0.1
EXACT: Final = 1e-5  # of the largest logit
STEPS: Final = 5
RECORD: Final = Path("docs/results/networks.json")
PAGE: Final = Path("docs/networks.md")
BEGIN, END = "<!-- table -->", "<!-- /table -->"


@dataclass
class Row:
    """What was found of one network; "yes", or "no: " and the reason."""

    name: str
    products: int = 0
    sites: int = 0
    digital: int = 0
    exact: str = "no: not reached"
    snr: str = "no: not reached"
    trains: str = "no: not reached"
    exports: str = "no: not reached"
    serves: str = "no: not reached"
    seconds: float = 0.0

    @property
    def works(self) -> bool:
        """Whether every answer is yes."""
        return not any(answer.startswith("no") for answer in self.answers())

    def answers(self) -> list[str]:
        """Of the columns."""
        return [self.exact, self.snr, self.trains, self.exports, self.serves]


def main() -> None:
    """Measure what the record does not hold yet, and write record and page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.networks", description=__doc__)
    parser.add_argument("--record", type=Path, default=RECORD)
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--match", default="*", help="measure networks whose name matches this pattern")
    parser.add_argument("--only", nargs="*", default=[], help="measure these again, whatever the record holds")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows: dict[str, Row] = {}
    if options.record.exists():
        rows = {row["name"]: Row(**row) for row in json.loads(options.record.read_text())["networks"]}
    known = [case for case in cases() if fnmatchcase(case.name, options.match)]
    for case in known:
        if case.name not in rows or case.name in options.only:
            rows[case.name] = measured(case)
            print(rows[case.name], flush=True)
            write_record(options.record, rows)
    if options.match == "*":
        write_page(options.page, [rows[case.name] for case in known])


def write_record(record: Path, rows: dict[str, Row]) -> None:
    """Keep what is measured, in the order of the page."""
    found = [asdict(rows[case.name]) for case in cases() if case.name in rows]
    record.write_text(json.dumps({"networks": found}, indent=1, ensure_ascii=False) + "\n")


def write_page(page: Path, rows: list[Row]) -> None:
    """Put the table into its place in the page."""
    before, rest = page.read_text().split(BEGIN)
    _, after = rest.split(END)
    page.write_text(f"{before}{BEGIN}\n{table(rows)}\n{END}{after}")


def table(rows: list[Row]) -> str:
    """The Markdown table, and its sum."""
    header = "| network | products | sites | digital | exact at sigma 0 | SNR | trains | exports | serves |"
    lines = [header, "|---|---|---|---|---|---|---|---|---|"]
    lines += [
        f"| {row.name} | {row.products} | {row.sites} | {row.digital} | {' | '.join(row.answers())} |" for row in rows
    ]
    return "\n".join([*lines, "", f"{sum(row.works for row in rows)} of {len(rows)} networks work in every column."])


def measured(case: Case) -> Row:
    """Take one network through all of it; the first "no" of a column leaves those behind it unreached."""
    row, started = Row(case.name), time.perf_counter()
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the networks' own packages warn of
        try:
            module = case.make().eval()
            _spread_statistics(module)
            example = case.example(4)
            row.products = products_that_run(module, example)
            noisy = inject_noise(module, "multiplicative", SIGMA, example=example)
        except UninjectableError as error:
            row.exact = f"no: {error}".replace("|", "/").splitlines()[0]
            return row
        row.sites, row.digital = len(noisy.sites()), len(noisy.digital)
        row.exact = answered(lambda: exact(noisy, module, example))
        row.snr = answered(lambda: snr(noisy, example))
        row.exports, row.serves = exported(noisy, case, module)
        row.trains = answered(lambda: trains(noisy, case))
    row.seconds = round(time.perf_counter() - started, 1)
    return row


def answered(question: Callable[[], str]) -> str:
    """The answer, or the reason that there is none."""
    try:
        return question()
    except Exception as error:  # whatever the network makes of it
        return f"no: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}".replace("|", "/")[:200]


def products_that_run(module: nn.Module, example: tuple[Tensor, ...]) -> int:
    """Matrix products in one pass of the module itself, counted at ATen's dispatcher without any of our tracing."""
    counter, fused = Products(), torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # it and oneDNN's recurrences are many products in one operator
    try:
        with torch.backends.mkldnn.flags(enabled=False), torch.no_grad(), counter:
            module(*example)
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
    return counter.count


class Products(torch.utils._python_dispatch.TorchDispatchMode):  # type: ignore[no-untyped-call]  # untyped in torch
    """Counts the operators that torch's own counter of operations knows as products."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        from torch.utils.flop_counter import flop_registry  # noqa: PLC0415  # large

        name = func._schema.name.removeprefix("aten::")
        self.count += 1 if func._overloadpacket in flop_registry or "attention" in name else 0
        return func(*args, **(kwargs or {}))


def exact(noisy: NoisyModule, module: nn.Module, example: tuple[Tensor, ...]) -> str:
    """The distance of the answers at sigma 0, of the largest logit."""
    noisy.sigma = 0.0
    with torch.no_grad():
        found, own = noisy(*example), module(*example)
    noisy.sigma = SIGMA
    away = float((found - own).abs().max() / own.abs().max())
    return f"{away:.0e}" if away <= EXACT else f"no: {away:.1e} away"


def snr(noisy: NoisyModule, example: tuple[Tensor, ...]) -> str:
    """Whether noise is σ of the signal at each site, within 4 standard errors of what so many draws show."""
    worst, drawn = 0.0, list[tuple[LayerNoise, Tensor]]()
    hooks = [
        site.register_forward_hook(lambda site, given, _: drawn.append((site, given[0].detach())))
        for site in noisy.sites()
    ]
    rows = len(example[0])
    number = torch.arange(rows)
    draws = Draws(torch.tensor([[SIGMA, 0.0]]).repeat(rows, 1), number, number)
    with torch.no_grad(), drawing(draws):
        noisy(*example)
        for hook in hooks:
            hook.remove()
        for site, signal in drawn:
            before, site.activation, fan_out, site.fan_out = site.activation, "none", site.fan_out, False
            # A masked softmax leaves 1e-44 of a value, whose square, the noise's variance, float32 cannot hold.
            told = signal.abs() > 1e-12 * signal.abs().max()
            relative = (site(signal) - signal)[told].double() / signal[told].double() / SIGMA
            site.activation, site.fan_out = before, fan_out
            spread = math.sqrt(2 / max(relative.numel(), 1))  # of the variance of so many normals
            worst = max(worst, abs(float(relative.square().mean()) - 1) / spread)
    reached = len({site.site for site, _ in drawn})
    if reached < len(noisy.sites()):
        return f"no: {len(noisy.sites()) - reached} sites are not reached"
    return f"{worst:.1f} s.e." if worst <= 4.5 else f"no: {worst:.1f} standard errors away"


def trains(noisy: NoisyModule, case: Case) -> str:
    """Whether some steps on one batch lower the loss under noise, with a gradient for every weight that is used."""
    noisy.train()
    example = case.example(4)
    labels = torch.arange(4) % case.classes
    optimizer = torch.optim.AdamW(noisy.parameters(), case.learning_rate)
    losses = []
    for _ in range(STEPS):
        logits = noisy(*example)
        logits = logits if isinstance(logits, Tensor) else logits[0]
        loss = cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # untyped in torch
        optimizer.step()
        losses.append(loss.item())
    return (
        f"{losses[0]:.2f} → {losses[-1]:.2f}"
        if losses[-1] < losses[0]
        else f"no: loss {losses[0]:.2f} → {losses[-1]:.2f}"
    )


def exported(noisy: NoisyModule, case: Case, module: nn.Module) -> tuple[str, str]:
    """Export, and run in the service's session: against the module at sigma 0, against torch's draws under noise."""
    try:
        model = published_graph(noisy.published(), case.input_shape, {"network": case.name}, case.arguments)
        content = model.SerializeToString()
    except Exception as error:  # whatever torch's exporter raises
        first = str(error).strip().splitlines()
        return f"no: {type(error).__name__}: {first[0] if first else ''}".replace("|", "/")[:200], "no: not exported"
    return f"{len(content) / 1e6:.0f} MB", answered(lambda: serves(content, noisy, case, module))


def serves(content: bytes, noisy: NoisyModule, case: Case, module: nn.Module) -> str:
    """The largest distance of the served logits, of the largest logit."""
    low, high = case.value_range
    session = load_session(content, load_kernel(), torch.get_num_threads())
    check_runs(session, Expectation(case.input_shape, low, high, case.classes, DOMAIN, OP_VERSION))
    inputs, row = case.inputs(3), np.array([2, 0, 1, 0, 2])
    sigma = np.array([[0, 0], [0, 0], [SIGMA, 0], [0, SIGMA], [SIGMA, 0]], np.float32)
    seed, vote = np.arange(5, dtype=np.int64) + 9, np.arange(5, dtype=np.int64)
    found = session.run(Feeds(inputs.numpy(), sigma, seed, vote, row))
    arguments = as_arguments(inputs, case.arguments)
    with torch.no_grad():
        given = [torch.from_numpy(x) for x in (sigma, seed, vote, row)]
        with drawing(Draws(given[0], given[1], given[2], given[3])):
            expected = noisy.eval()(*arguments)
        own = module(*arguments)[row[:2]]
    scale = float(expected.abs().max())
    noisy_away = float((torch.from_numpy(found) - expected).abs().max()) / scale
    own_away = float((torch.from_numpy(found[:2]) - own).abs().max()) / scale
    if own_away > 10 * EXACT or noisy_away > 1e-3:
        return f"no: {own_away:.0e} away at sigma 0, {noisy_away:.0e} under noise"
    return "yes"


def _spread_statistics(module: nn.Module) -> None:
    """Let norms have statistics as trained ones have, not those that change nothing."""
    for part in module.modules():
        variance = getattr(part, "running_var", None)
        if isinstance(variance, Tensor):
            variance.uniform_(0.5, 1.5)


if __name__ == "__main__":
    main()
