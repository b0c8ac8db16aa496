"""docs/networks.md: networks of others, injected, trained, exported and served, each "no" with its reason.

`python -m benchmarks.networks` measures them one after another and keeps each at once, so
that a stopped run goes on. Networks of timm and torchvision need those packages beside what training needs; see
docs/networks.md.
"""

import argparse
import math
import time
import warnings
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.foreign_files import FILES, ForeignFile, measured_file
from benchmarks.foreign_networks import Case, cases
from benchmarks.network_rows import Row, answered, read_record, refusal, write_page, write_record
from noisevote.engine.feeds import Feeds
from noisevote.engine.session import load_session
from noisevote.engine.trial import Expectation
from noisevote.engine.trial_runs import check_runs
from noisevote.noise_op.contract import DOMAIN, OP_VERSION
from noisevote.noise_op.injection import NoisyModule, inject_noise
from noisevote.noise_op.layer_noise import LayerNoise
from noisevote.noise_op.library import load_kernel
from noisevote.noise_op.torch_twin import Draws, drawing
from noisevote.training.publish.export import as_arguments, published_graph

SIGMA: Final = 0.1
EXACT: Final = 1e-5  # of the largest logit
STEPS: Final = 5
ROWS: Final = 4
STANDARD_ERRORS: Final = 4.0
# Of the largest signal at a site. A masked softmax leaves 1e-44 of a value, whose square, the variance of its noise,
# float32 cannot hold.
TOLD: Final = 1e-12
RECORD: Final = Path("docs/results/networks.json")
PAGE: Final = Path("docs/networks.md")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what the record does not hold yet, and write record and page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.networks", description=__doc__)
    parser.add_argument("--record", type=Path, default=RECORD)
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--match", nargs="*", default=["*"], help="measure networks whose name matches one of these; "
                        "none: measure nothing, and make the page of the record")  # fmt: skip
    parser.add_argument("--only", nargs="*", default=[], help="measure these again, whatever the record holds")
    parser.add_argument("--join", nargs="*", type=Path, default=[], help="records of other runs, whose rows are taken")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    everything: list[Case | ForeignFile] = [*cases(), *FILES]
    known = {case.name: case for case in everything}
    rows = read_record(options.record)
    for other in options.join:
        rows |= read_record(other)
    for name, case in known.items():
        wanted = any(fnmatchcase(name, pattern) for pattern in options.match)
        if wanted and case.installed and (name not in rows or name in options.only):
            rows[name] = measured_file(case) if isinstance(case, ForeignFile) else measured(case)
            print(rows[name], flush=True)
            write_record(options.record, rows, known)
    write_record(options.record, rows, known)
    if options.record == RECORD:
        write_page(options.page, [rows[name] for name in known if name in rows])


def measured(case: Case) -> Row:
    """Take one network through all of it; the first "no" of a column leaves those behind it unreached."""
    row, started = Row(case.name), time.perf_counter()
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the networks' own packages warn of
        try:
            module = case.make().eval()
            _as_if_trained(module)
            example = case.example(ROWS)
            row.products = products_that_run(module, example)
            noisy = inject_noise(module, "multiplicative", SIGMA, example=example)
        except Exception as error:  # a refusal, or whatever the network makes of it
            row.exact = refusal(error)
            return row
        row.sites, row.digital = len(noisy.sites()), len(noisy.digital)
        row.exact = answered(lambda: exact(noisy, module, example))
        row.snr = answered(lambda: snr(noisy, example))
        row.exports, row.serves = exported(noisy, case, module)
        row.trains = answered(lambda: trains(noisy, case))
    row.seconds = round(time.perf_counter() - started, 1)
    return row


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
    """By how many standard errors the noise of the worst site is away from sigma of its signal.

    A site beyond the limit has one more chance, with other draws, as in the gate of publishing: by chance alone that
    happens at one site in 16,000.
    """
    signals = [(site, signal) for site, signal in signals_at_sites(noisy, example) if signal.any()]
    silent = len(noisy.sites()) - len({site.site for site, _ in signals})
    if silent:
        return f"no: {silent} sites have no signal"
    worst = 0.0
    for site, signal in signals:
        away = departure(site, signal, 0)
        worst = max(worst, departure(site, signal, 1) if away > STANDARD_ERRORS else away)
    return f"{worst:.1f} s.e." if worst <= STANDARD_ERRORS else f"no: {worst:.1f} standard errors away"


def signals_at_sites(noisy: NoisyModule, example: tuple[Tensor, ...]) -> list[tuple[LayerNoise, Tensor]]:
    """What each site takes in a noisy run; a site of a recurrence takes something in each step."""
    drawn = list[tuple[LayerNoise, Tensor]]()
    hooks = [
        site.register_forward_hook(lambda site, given, _: drawn.append((site, given[0].detach())))
        for site in noisy.sites()
    ]
    with torch.no_grad(), drawing(draws_of(len(example[0]), 0)):
        noisy(*example)
    for hook in hooks:
        hook.remove()
    return drawn


def draws_of(rows: int, seed: int) -> Draws:
    """Of multiplicative noise."""
    number = torch.arange(rows)
    return Draws(torch.tensor([[SIGMA, 0.0]]).repeat(rows, 1), number + 1000 * seed, number)


def departure(site: LayerNoise, signal: Tensor, seed: int) -> float:
    """How far the noise's variance is from sigma's square, in standard errors of so many draws."""
    before, site.activation, fan_out, site.fan_out = site.activation, "none", site.fan_out, False
    with torch.no_grad(), drawing(draws_of(ROWS, seed)):
        noise = site(signal) - signal
    site.activation, site.fan_out = before, fan_out
    told = signal.abs() > TOLD * signal.abs().max()
    relative = noise[told].double() / signal[told].double() / SIGMA
    return abs(float(relative.square().mean()) - 1) / math.sqrt(2 / relative.numel())


def trains(noisy: NoisyModule, case: Case) -> str:
    """Whether some steps on one batch lower the loss under noise, with a gradient for every weight that is used."""
    noisy.train()
    example = case.example(ROWS)
    labels = torch.arange(ROWS) % case.classes
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
        return refusal(error), "no: not exported"
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


def _as_if_trained(module: nn.Module) -> None:
    """Let norms have statistics that change something, and no weight be (nearly) 0, as the last of a branch begins.

    Else what is before such a weight would be right whatever it was.
    """
    for part in module.modules():
        variance = getattr(part, "running_var", None)
        if isinstance(variance, Tensor):
            variance.uniform_(0.5, 1.5)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if name.endswith("bias") or weight.abs().max() > 1e-4:
                continue
            if weight.ndim > 1:
                weight.normal_(0, 0.02)
            else:
                weight.uniform_(0.1, 0.3)


if __name__ == "__main__":
    main()
