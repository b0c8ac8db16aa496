"""A network with its noise sites: called, trained, looked at, and made ready to be published."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from noisevote.noise_op import tracing
from noisevote.noise_op.answers import Cut, cut_probabilities
from noisevote.noise_op.contract import NoiseKind, sigma_row
from noisevote.noise_op.errors import UninjectableError
from noisevote.noise_op.example_rows import in_order, some_rows, with_other_second_row
from noisevote.noise_op.folding import fold_norms
from noisevote.noise_op.layer_noise import LayerNoise
from noisevote.noise_op.placing import Placed, fan_out_inputs
from noisevote.noise_op.torch_twin import Draws, GaussianNoise, current_draws, drawing
from noisevote.noise_op.watching import TOLERANCE, Watched, differs, layout_of, recording

VOTES: Final = 2**32  # vote numbers of one seed


class NoisyModule(nn.Module):
    """A module with noise after each of its products. Made by `inject_noise`.

    Called plainly, every row of every call is a presentation with noise of its own: the draws are those
    of (seed, vote), the vote number counting on from call to call, in training and in evaluation alike. Called inside
    `noise_op.torch_twin.drawing`, its draws are the given ones, and votes fan out; so it is exported.

    The first call, unless an example was given before, runs the network operator by operator, see `look`.

    Attributes:
        graph: the module with its sites, as it computes in the present mode.
        kind, sigma: the noise; sigma may be set between calls, for instance to let it grow.
        digital: the names of the products without noise.
        cut: what `published` cut off behind the logits.
        presentations: int64 [], rows drawn for so far; part of the state, so that a checkpoint goes on where it was.
    """

    presentations: Tensor

    def __init__(self, traced: tracing.Traced, placed: Mapping[bool, Placed], source: nn.Module) -> None:
        super().__init__()
        self.graph = traced.module
        self.kind: NoiseKind = "multiplicative"
        self.sigma = 0.0
        self.seed = 0
        self.digital = tuple(placed[False].digital)
        self.cut: Cut | None = None
        self._placed = dict(placed)
        self._graphs = {False: traced.evaluation, True: traced.training}
        self._why = traced.why
        self._looked_at: set[bool] = set()
        self._source: tuple[nn.Module, ...] = (source,)  # in a tuple, so that its weights count once
        self.register_buffer("presentations", torch.zeros((), dtype=torch.int64))

    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        """What the module answers, under noise. Dimension 0 of every input are the rows.

        Raises:
            UninjectableError: the first call shows a product that has no site, or what else `look` refuses.
        """
        if torch.compiler.is_compiling() or current_draws() is not None:
            return self.graph(*inputs, **keywords)
        if self.training not in self._looked_at:
            self._look(inputs, keywords)
        rows = next(x for x in (*inputs, *keywords.values()) if isinstance(x, Tensor))
        with drawing(self._fresh(rows)):
            return self.graph(*inputs, **keywords)

    def train(self, mode: bool = True) -> "NoisyModule":
        """Change the mode, and the graph to that of the mode.

        Raises:
            UninjectableError: the module cannot be traced in training mode.
        """
        graph = self._graphs[mode]
        if graph is None:
            raise UninjectableError(self._why)
        if self.graph.graph is not graph:
            self.graph.graph = graph
        return super().train(mode)

    def look(self, *example: Any, **keywords: Any) -> None:
        """Run an example operator by operator, and find out in which dimension of each signal the rows are.

        Args:
            example: the inputs of some rows, at best real ones; three rows are made of however many there are.
            keywords: as `forward` takes them.

        Raises:
            UninjectableError: a product runs that has no site and is not named digital; at sigma 0 the answer is not
                that of the module; in evaluation mode it draws at random, or its rows depend on one another.
        """
        mode = self.training
        with self._same_random_numbers():
            try:
                self.eval()
                self._look(example, keywords)
            finally:
                self.train(mode)

    def _look(self, inputs: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
        """`look` in the present mode, and in evaluation mode, on which the other depends."""
        if self.training and False not in self._looked_at:
            self.look(*inputs, **keywords)
        with torch.no_grad(), self._same_random_numbers():
            if self.training:
                self._watch(tracing.copied(self), inputs, keywords)  # of a copy: it changes statistics
            else:
                self._look_at_rows(inputs, keywords)
        self._looked_at.add(self.training)

    def _look_at_rows(self, inputs: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
        three, two = (some_rows(inputs, keywords, chosen) for chosen in ((0, 1, 2), (0, 1)))
        other = with_other_second_row(three)
        found, answer = self._watch(self, *three)
        few, _ = self._watch(self, *two)
        changed, other_answer = self._watch(self, *other)
        for site in self.sites():
            if site.site in found and isinstance(site, LayerNoise):
                signals = (found_in[site.site] for found_in in (few, found, changed))
                layout = layout_of(f"{site.name}", *signals)
                for same in self._every_site():
                    if same.site == site.site:
                        same.rows = layout
        self._fan_out_where_rows_are_first()
        for one, with_other in zip(tree_leaves(answer), tree_leaves(other_answer), strict=True):
            if isinstance(one, Tensor):
                self._refuse_mixed(one, with_other)
        self._refuse_another_answer(answer, three)

    def _fan_out_where_rows_are_first(self) -> None:
        for site in self._every_site():
            if site.fan_out and (site.rows.dim or site.rows.parts > 1):
                site.fan_out = False
                mode = self.training
                for training, graph in self._graphs.items():
                    if graph is not None and (not training or graph is not self._graphs[False]):
                        self.graph.graph = graph
                        fan_out_inputs(self.graph)
                        self.graph.recompile()
                self.train(mode)

    def _watch(self, noisy: "NoisyModule", inputs: tuple[Any, ...], keywords: Mapping[str, Any]) -> Any:
        """The signals at the sites and the answer of one call without noise."""
        watched = Watched(noisy.graph, self._placed[self.training].products, list(noisy.parameters()))
        with recording(noisy) as signals:
            answer = watched.run(*in_order(noisy.graph, inputs, keywords))
        return signals, answer

    def _refuse_mixed(self, answer: Tensor, other: Tensor) -> None:
        if answer.dim() == 0 or len(answer) != 3:
            raise UninjectableError(f"module: three rows give an answer of shape {list(answer.shape)}; "
                                    "dimension 0 must be the rows")  # fmt: skip
        layout = layout_of("module", answer[:2], answer, other)
        if layout.dim or layout.parts > 1:
            raise UninjectableError("module: its rows depend on one another")

    def _refuse_another_answer(self, answer: Any, call: tuple[tuple[Any, ...], Mapping[str, Any]]) -> None:
        if not self._source:
            return
        source = self._source[0]
        source.load_state_dict(self.own_state(), strict=False)
        tracing.set_mode(source, False)
        own = source(*call[0], **call[1])
        if differs(source(*call[0], **call[1]), own) > 0:
            raise UninjectableError("module: it answers differently each time in evaluation mode: it draws at random")
        away = differs(answer, own)
        if not away <= TOLERANCE:
            raise UninjectableError(f"module: at sigma 0 the answer is {away:.2g} of the largest value away from the "
                                    "module's own")  # fmt: skip

    @contextmanager
    def _same_random_numbers(self) -> Iterator[None]:
        """What runs inside takes no random numbers from those of the caller."""
        with torch.random.fork_rng(devices=[]):
            yield

    def folded(self) -> "NoisyModule":
        """Copy in evaluation mode, batch norms multiplied into products: exact, as noise comes after."""
        folded: NoisyModule = tracing.copied(self).eval()
        folded._graphs[True] = None
        folded._why = "module: its batch norms are folded, so it is not trained any more"
        folded._source = ()
        fold_norms(folded.graph)
        return folded

    def published(self) -> "NoisyModule":
        """`folded`, answering logits: a softmax or sigmoid at the end is cut off, and `cut` says so.

        Raises:
            UninjectableError: `look` was not called, and neither was the module.
        """
        if False not in self._looked_at:
            raise UninjectableError("module: it was not looked at; call it, or `look`, with an example first")
        published = self.folded()
        published.cut = cut_probabilities(published.graph)
        return published

    def sites(self) -> list[GaussianNoise]:
        """Every site, in the order of their numbers."""
        by_number = {site.site: site for site in reversed(self._every_site())}
        return [by_number[number] for number in sorted(by_number)]

    def _every_site(self) -> list[LayerNoise]:
        return [module for module in self.modules() if isinstance(module, LayerNoise)]

    def own_state(self) -> dict[str, Tensor]:
        """The weights and buffers by the names that the module gave them, for its own `load_state_dict`."""
        # torch keeps the versions of layers in an attribute of the dictionary: some layers load nothing without.
        own_state: dict[str, Tensor] = self._source[0].state_dict() if self._source else {}
        state = self.state_dict()
        own_state.update({own: state[name] for own, name in self._names().items()})
        return own_state

    def _names(self) -> dict[str, str]:
        """What the module calls its weights, to what they are called here."""
        return {own: name for name in self.state_dict() if (own := _own_name(name)) is not None}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load a state of this module, or one of the module that noise was put into."""
        names = self._names()
        if any(name.startswith("graph.") for name in state_dict) or not any(name in names for name in state_dict):
            return super().load_state_dict(state_dict, strict, assign)
        unused = set(self._source[0].state_dict()) - set(names) if self._source else set()
        kept = {name: value for name, value in self.state_dict().items() if _own_name(name) is None}
        given = {names.get(own, own): value for own, value in state_dict.items() if own not in unused}
        return super().load_state_dict({**kept, **given}, strict, assign)

    def _fresh(self, rows: Tensor) -> Draws:
        """Draws for presentations that were not drawn for before, on the device of the rows."""
        count, device = len(rows), rows.device
        numbers = int(self.presentations) + torch.arange(count, device=device)
        self.presentations += count
        sigma = torch.tensor([sigma_row(self.kind, self.sigma)], device=device).expand(count, 2).contiguous()
        return Draws(sigma=sigma, seed=self.seed + numbers // VOTES, vote=numbers % VOTES)


def _own_name(name: str) -> str | None:
    """What the module calls what the noisy one calls `name`; None for what it has not."""
    if not name.startswith("graph."):
        return None
    return name.removeprefix("graph.").replace(".products.", ".")
