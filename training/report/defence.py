"""The page of the defence, docs/results/defence.md, and its figures, made from the records alone."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from noisevote.training.report import defence_certified, defence_figures, defence_floor, defence_tables
from noisevote.training.report.defence_records import Defence, read

THREATS: Final = """
The attacker may change every pixel by up to eps, 0.3 of MNIST's and 8/255 of CIFAR-10's range, to have an image
decided wrongly. What he knows is said in each row, from little to all:

- **transfer**: neither weights nor answers; he has the data and trains networks of his own, of another architecture
  (Table 11) or of the same;
- **full access**: architecture, weights, noise kind and sigma, and as much computing as the row says, but not the seed:
  the noise that he sees is never the noise that judges him. His gradients are means over many draws (EOT);
- **full access and the seed**: every vote is known beforehand, as when a client may choose `seed`. Then there is no
  randomness left.

Not counted is what asking costs: who may ask the same input often enough averages the noise away.
""".strip()


def report(records: Path, out: Path) -> list[Path]:
    """Write OUT/defence.md and its figures from the records in docs/results/defence; returns what was written."""
    defence = read(records)
    pictures = defence_figures.draw(defence, out)
    page = out / "defence.md"
    page.write_text("\n".join(_page(defence, pictures)) + "\n")
    return [page, *pictures]


def _page(defence: Defence, pictures: Sequence[Path]) -> Iterable[str]:
    yield from ("# Noise as a defence", "")
    yield "Made by `python -m training report` from the records in `defence/`; accuracies are in %."
    yield "[The guide](../defence.md) says what follows for those who serve."
    yield from ("", "## Threat model", "", THREATS, "", "## Networks", "")
    yield (
        "PGD starts at random, with steps of eps/8 (PGD-20, all test images) and eps/30 (PGD-100, the first 1,000), "
        "noiseless, each at the eps of its own row. The epoch was chosen by PGD on held-out training images."
    )
    yield from ("", *defence_tables.networks(defence.runs.values()))
    yield from _transfer(defence)
    yield from _full_access(defence)
    yield from _answers(defence)
    yield from ("", "## Certified accuracy, MNIST", "")
    yield (
        "`mnist-smoothed` by the fixed rule, every 20th test image from the first on, as many of the 500 as the row "
        "says: 100 votes pick the class, 100,000 others bound it at alpha 0.001 (Cohen et al. 2019). About so many of "
        "the images as *card* says the torch twin cast them on a graphics card, each image under a seed of its own; "
        "about the others the published file on ONNX Runtime, as `…/certify` does. In brackets the 95 % interval over "
        "images. *Reached*: public code's figure lies inside or below the interval of one sigma."
    )
    yield from ("", *defence_certified.fixed_table(defence_certified.fixed_rules(defence)))
    if defence.certified:
        yield from ("", *_anytime(defence))
    yield from ("", "## Figures", "")
    yield from (f"![{picture.stem}]({picture.name})" for picture in pictures)


def _anytime(defence: Defence) -> Iterable[str]:
    record = next(iter(defence.certified.values()))
    yield from ("### By the anytime rule, at fixed radii", "")
    yield (
        f"The published files on ONNX Runtime, as `…/certify` with `radius` asks them: {record.n0} votes pick the "
        f"class, at most n = {record.n:,} others certify the radius at alpha {record.alpha:g}, give it up, or refute "
        f"it. Votes an image are the mean over all images: those that pick and those about undecided ones are "
        f"counted. Every 20th test image comes first, then every 5th, then all. *beyond n*: not even {record.n:,} "
        f"votes of one accord would certify it."
    )
    yield from ("", *defence_certified.anytime_table(sorted(defence.certified.values(), key=lambda one: one.sigma)))


def _full_access(defence: Defence) -> Iterable[str]:
    yield from ("", "## Full access, and the closest substitute", "")
    yield (
        "The worst example is chosen by some votes, and judged by 100 others of another seed: else unlucky noise would "
        "count as an attack. Only where the seed is known, the known votes judge. Images are every 50th, "
        "200th or (CIFAR-10) 250th test image, as many as the row says."
    )
    yield from ("", *defence_tables.attacks(defence.attacks))
    yield from ("", "Does noise help there? On the same images, decided by all fresh votes:", "")
    yield from defence_tables.beside_noiseless(defence.attacks)
    yield from _floor(defence)
    yield from ("", "### Worst case over all attacks", "")
    yield (
        "Of each image the example is taken, among those of all attacks named, that the fewest of its choosing votes "
        "(without noise: its decision) stand; fresh votes judge it. The last column is what the choosing votes say "
        "themselves, which counts unlucky noise as an attack."
    )
    yield from ("", *defence_tables.worst(defence.attacks))
    if points := defence_tables.over_eps(defence.attacks):
        yield from ("", "## Accuracy against eps", "", "PGD of 20 steps, `mnist-cnn-robust` without noise:", "")
        yield from ("| eps | accuracy | 95 % interval | images |", "|---|---|---|---|")
        for eps, found, images in points:
            low, high = f"{100 * found.low:.1f}", f"{100 * found.high:.1f}"
            yield f"| {eps:g} | {100 * found.estimate:.1f} | {low} … {high} | {images} |"


def _floor(defence: Defence) -> Iterable[str]:
    records = defence.attacks
    yield from ("", "### More draws, and more steps", "")
    yield "EOT-PGD on `robust-mul-0.3` at sigma 0.3, a random start each, on the same images:"
    yield from ("", *defence_floor.draws(records))
    yield from ("", "### The seed known", "")
    yield (
        "Whoever knows the seed attacks the very votes that judge him, on a deterministic network. Beside it the same "
        "attack by someone who does not, judged by as many fresh votes:"
    )
    yield from ("", *defence_floor.seeds(records))
    if defence_floor.autoattacks(records):
        yield from ("", "### AutoAttack", "")
        yield (
            "The authors' own (pyautoattack), 100 steps each: *standard version* is APGD, targeted APGD, targeted FAB "
            "and Square with 5,000 queries, one after the other on the images that stand; *rand* is APGD with 20 votes "
            "a gradient, its example of the highest loss judged by 100 fresh votes. In brackets the 95 % interval."
        )
        yield from ("", *defence_floor.autoattack(records))
    yield from ("", "### What each part is worth", "")
    yield (
        "PGD of 20 steps from one random start, by 20 draws a gradient where noise is served: the same weights with "
        "noise and without, and training with and without adversarial examples. In brackets the 95 % interval."
    )
    yield from ("", *defence_floor.ablation(records))


def _answers(defence: Defence) -> Iterable[str]:
    if defence.library:
        yield from ("", "## Beside a library", "", *defence_tables.library(defence.library))
    if defence.square:
        yield from ("", "## Square attack through the HTTP API", "")
        yield (
            "Only answers are seen: mean probabilities of so many votes a query, seeds drawn by the server. Accuracy "
            "is that of 20 further votes on the images as the attack has them after so many queries about each."
        )
        yield from ("", *defence_tables.square(defence.square))


def _transfer(defence: Defence) -> Iterable[str]:
    titles = {"mnist": "Table 11: transfer, MNIST", "cifar10": "Table 11: transfer, CIFAR-10"}
    for data_set, title in titles.items():
        records = defence.transfer.get(data_set)
        if not records:
            continue
        made, source = records[0].set, defence.sources[data_set]
        steps = made["steps"]
        yield from ("", f"## {title}", "")
        yield (
            f"Crafted on `{source['run']}`: eps {steps['eps']:.3g}, steps of {steps['step']:.3g}, "
            f"{steps['iterations']} iterations, {made['restarts']} restarts, {made['images']:,} test images; "
            f"they leave that network {100 * (1 - source['wrong']):.2f} % right. "
            f"Asked through ONNX Runtime with the noise operator, under {records[0].noise} noise."
        )
        if data_set == "cifar10":
            yield "Asked is `cifar10-cnn-robust`, which is not the paper's DenseNet-100; A is a DenseNet-40 as there."
        yield (
            "The ± is Student's 95 % interval over the runs' independent noise. A gain is the difference to sigma 0 on "
            "the same images, in brackets its 95 % interval over images, paired. The sentences below judge all places "
            "of a network at once: their intervals are wider (Bonferroni), as the best of many is picked."
        )
        yield from ("", *defence_tables.transfer(records, data_set), "", *defence_tables.verdicts(records))
