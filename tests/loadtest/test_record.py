import json
from pathlib import Path

import pytest

from noisevote.loadtest.errors import RecordError
from noisevote.loadtest.overhead import read_overhead
from noisevote.loadtest.record import read, write
from tests.support.load_samples import OVERHEAD, load_test


@pytest.mark.parametrize("overhead", [None, OVERHEAD], ids=["alone", "with the overhead"])
def test_a_record_is_read_as_it_was_written(tmp_path: Path, overhead: object) -> None:
    """So that tables and figures can be made again."""
    done = load_test(OVERHEAD if overhead else None)
    write(done, tmp_path / "record.json")
    assert read(tmp_path / "record.json") == done


def test_other_files_are_no_records(tmp_path: Path) -> None:
    """The message names the file and the key."""
    write(load_test(), tmp_path / "record.json")
    whole = json.loads((tmp_path / "record.json").read_text())
    (tmp_path / "record.json").write_text(json.dumps(whole | {"speed": 1}))
    with pytest.raises(RecordError, match=r"record .*record\.json: no record of a load test: speed: 1: "):
        read(tmp_path / "record.json")
    with pytest.raises(RecordError, match=r"record .*absent\.json: No such file"):
        read(tmp_path / "absent.json")


def test_the_overhead_is_read_from_what_its_benchmark_writes(tmp_path: Path) -> None:
    """Beside the machine; anything else is refused by name."""
    path = tmp_path / "overhead.json"
    path.write_text(json.dumps({"machine": {"processors": 2}, "figures": OVERHEAD.model_dump()}))
    assert read_overhead(path) == OVERHEAD
    for content in ("[]", "{", "{}", '{"figures": {}}'):
        path.write_text(content)
        with pytest.raises(RecordError, match=r"overhead\.json: no record of benchmarks\.http_overhead"):
            read_overhead(path)
    with pytest.raises(RecordError, match="No such file"):
        read_overhead(tmp_path / "absent.json")
