"""Which variants share a network: those differ in weights alone, so one tells what votes of all of them take."""

from collections.abc import Iterable

from noisevote.model_store.manifest import Manifest, Variant

# A model and a version of it.
VersionName = tuple[str, str]
# What decides how long a vote of a variant takes.
Network = tuple[object, ...]


def network_of(manifest: Manifest, variant: Variant) -> Network:
    """What decides what a vote of the variant takes, by whatever name other versions of the model call it."""
    return manifest.name, manifest.input.shape, len(manifest.classes), *shape_of(variant)


def shape_of(variant: Variant) -> Network:
    """What decides how long a vote of the variant takes."""
    size = (variant.parameters, variant.multiply_accumulates, variant.samples, variant.layers)
    return variant.network, variant.precision, *size


def one_of_each_network_first(files: Iterable[tuple[Manifest, Variant]]) -> list[tuple[Manifest, Variant]]:
    """The same files in another order: a network is timed once, and that goes on while others are tried."""
    seen: set[Network] = set()
    first: list[tuple[Manifest, Variant]] = []
    others: list[tuple[Manifest, Variant]] = []
    for manifest, variant in files:
        network = network_of(manifest, variant)
        (others if network in seen else first).append((manifest, variant))
        seen.add(network)
    return first + others
