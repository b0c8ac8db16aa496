"""MNIST (LeCun, Cortes, Burges 1998) from its IDX files."""

import struct
from typing import Final

import numpy as np
from numpy.typing import NDArray

from noisevote.evaluation.examples import Examples
from noisevote.training.data.data_set import DataSet
from noisevote.training.data.files import DataError, DataSource, gunzipped

# MD5 of the *uncompressed* IDX files: the gzipped ones differ between mirrors, their content does not.
MD5: Final[dict[str, str]] = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
MIRRORS: Final[tuple[str, ...]] = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)


def load(source: DataSource) -> DataSet:
    """60,000 + 10,000 digits of 28×28, inputs uint8 [n, 1, 28, 28]; see `registry.load` for errors."""
    arrays = {file: read_idx(source.read("mnist", f"{file}.gz", gunzipped(md5), MIRRORS)) for file, md5 in MD5.items()}
    train, train_labels, test, test_labels = arrays.values()  # in the order of MD5
    return DataSet(
        name="mnist",
        train=Examples(train[:, np.newaxis], train_labels),
        test=Examples(test[:, np.newaxis], test_labels),
        classes=tuple("0123456789"),
        hashes={file: f"md5:{md5}" for file, md5 in MD5.items()},
    )


def read_idx(content: bytes) -> NDArray[np.uint8]:
    """An IDX file of unsigned bytes as an array: magic 0 0 8 rank, big-endian uint32 dimensions, then the bytes.

    Raises:
        DataError: another element type, or a length that the header does not announce.
    """
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise DataError(f"IDX header {content[:4].hex()}: not a file of unsigned bytes")
    rank = content[3]
    shape = struct.unpack_from(f">{rank}I", content, 4)
    start = 4 + 4 * rank
    if len(content) - start != int(np.prod(shape, dtype=np.int64)):
        raise DataError(f"IDX shape {shape}: {len(content) - start} bytes follow the header")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()  # writable, as torch wants it
