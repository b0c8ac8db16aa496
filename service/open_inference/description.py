"""Describes the server and its models as the protocol has it: metadata, configuration and statistics."""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from noisevote.model_store.manifest import Manifest
from noisevote.service.models.registry import ServedVersion
from noisevote.service.open_inference import inputs
from noisevote.service.open_inference.options import TENSORS, datatype
from noisevote.service.open_inference.outputs import DATATYPES, PER_CLASS
from noisevote.service.statistics import Sum, VersionStatistics

SERVER: Final = "noisevote"
EXTENSIONS: Final = (
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "parameters",
    "statistics",
)
PLATFORM: Final = "noisevote_onnx"
BACKEND: Final = "noisevote"
ANY: Final = -1
# As the configuration writes datatypes.
TYPE_NAMES: Final[Mapping[str, str]] = {"BYTES": "TYPE_STRING"}


def server_metadata(version: str) -> dict[str, Any]:
    """The server, and which extensions of the protocol it has."""
    return {"name": SERVER, "version": version, "extensions": list(EXTENSIONS)}


def model_metadata(served: ServedVersion, versions: list[str]) -> dict[str, Any]:
    """A model by its tensors. Every input but the first is optional."""
    manifest = served.manifest
    return {
        "name": manifest.name,
        "versions": versions,
        "platform": PLATFORM,
        "inputs": [
            {"name": name, "datatype": kind, "shape": [ANY, *shape]} for name, kind, shape in _inputs_of(manifest)
        ],
        "outputs": [
            {"name": name, "datatype": kind, "shape": [ANY, *shape]} for name, kind, shape in _outputs_of(manifest)
        ],
    }


def model_config(served: ServedVersion, most_inputs: int, workers: int) -> dict[str, Any]:
    """A model in the form of Triton's configuration, of which clients read batch size, tensors and scheduling."""
    manifest = served.manifest
    return {
        "name": manifest.name,
        "platform": PLATFORM,
        "backend": BACKEND,
        "version_policy": {"specific": {"versions": [int(manifest.version)]}},
        "max_batch_size": most_inputs,
        "input": [
            {
                "name": name,
                "data_type": _type_name(kind),
                "format": "FORMAT_NONE",
                "dims": list(shape),
                "is_shape_tensor": False,
                "allow_ragged_batch": False,
                "optional": name != inputs.INPUT,
            }
            for name, kind, shape in _inputs_of(manifest)
        ],
        "output": [
            {
                "name": name,
                "data_type": _type_name(kind),
                "dims": list(shape),
                "label_filename": "",
                "is_shape_tensor": False,
            }
            for name, kind, shape in _outputs_of(manifest)
        ],
        "dynamic_batching": {"preferred_batch_size": [], "max_queue_delay_microseconds": 0, "preserve_ordering": False},
        "instance_group": [{"name": manifest.name, "kind": "KIND_CPU", "count": workers, "gpus": [], "profile": []}],
        "default_model_filename": served.variants[0].file,
        "parameters": {name: {"string_value": value} for name, value in _parameters_of(served).items()},
        "model_transaction_policy": {"decoupled": False},
    }


def model_statistics(manifest: Manifest, sums: VersionStatistics) -> dict[str, Any]:
    """What became of a version's requests since the start. An execution is a batch, whose size counts votes."""
    counted = {size: _duration(each) for size, each in sorted(sums.batches.items())}
    return {
        "name": manifest.name,
        "version": manifest.version,
        "last_inference": sums.last_ms,
        "inference_count": sums.inputs,
        "execution_count": sum(each.count for each in sums.batches.values()),
        "inference_stats": {
            "success": _duration(sums.success),
            "fail": _duration(sums.failed),
            "queue": _duration(sums.queue),
            "compute_input": _duration(sums.read),
            "compute_infer": _duration(sums.compute),
            "compute_output": _duration(sums.respond),
            "cache_hit": _duration(Sum()),
            "cache_miss": _duration(Sum()),
        },
        "response_stats": {},
        "batch_stats": [
            {
                "batch_size": size,
                "compute_input": {"count": taken["count"], "ns": 0},
                "compute_infer": taken,
                "compute_output": {"count": taken["count"], "ns": 0},
            }
            for size, taken in counted.items()
        ],
        "memory_usage": [],
    }


def _inputs_of(manifest: Manifest) -> list[tuple[str, str, tuple[int, ...]]]:
    """Name, datatype and shape of an input's part of each tensor."""
    return [
        (inputs.INPUT, inputs.DATATYPE, manifest.input.shape),
        *((option, datatype(option), (1,)) for option in TENSORS),
    ]


def _outputs_of(manifest: Manifest) -> list[tuple[str, str, tuple[int, ...]]]:
    classes = (len(manifest.classes),)
    return [(name, kind, classes if name in PER_CLASS else ()) for name, kind in DATATYPES.items()]


def _parameters_of(served: ServedVersion) -> dict[str, str]:
    low, high = served.manifest.input.value_range
    return {
        "classes": orjson.dumps(served.manifest.classes).decode(),
        "value_range": f"[{low}, {high}]",
        "variants": orjson.dumps([variant.name for variant in served.variants]).decode(),
    }


def _type_name(kind: str) -> str:
    return TYPE_NAMES.get(kind, f"TYPE_{kind}")


def _duration(taken: Sum) -> dict[str, int]:
    return {"count": taken.count, "ns": round(1e9 * taken.seconds)}
