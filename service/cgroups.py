"""Where the kernel says what this process may use: the files of its control groups."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def cgroup_folders(root: Path, mount: str, controller: str) -> Iterator[Path]:
    """Folders of this process's cgroup and its parents; inside a container the mount itself is the cgroup.

    Args:
        root: holds `proc` and `sys`.
        mount: of the hierarchy, below `root`.
        controller: of version 1; empty: version 2.
    """
    for line in lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            inside = PurePosixPath(path.lstrip("/"))
            yield from (root / mount / folder for folder in (inside, *inside.parents))


def lines(path: Path) -> list[str]:
    """Of a file; none where it is not there: no such controller, or not Linux."""
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def words(path: Path) -> list[str]:
    """Of a file; none where it is not there."""
    return [word for line in lines(path) for word in line.split()]
