"""The least that writing outputs can cost: every byte of a directory is read, hashed and written once.

    pour.py FROM TO [--clone]

The files are shared out among a process for each processor, and one more removes what was in TO before; holes stay holes.
With `--clone` files are cloned, and then only read and hashed.
"""

import errno
import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

CHUNK = 256 << 10
FICLONE = 0x40049409
"""ioctl_ficlone(2)."""


def pour(source: Path, target: Path, clone: bool) -> str:
    """Copies one file, and gives its SHA-256."""
    digest = hashlib.sha256()
    zeros, buffer = bytes(CHUNK), memoryview(bytearray(CHUNK))
    with source.open("rb", buffering=0) as data, target.open("wb", buffering=0) as copy:
        size = os.fstat(data.fileno()).st_size
        if clone:
            fcntl.ioctl(copy.fileno(), FICLONE, data.fileno())
        at = 0
        while at < size:
            begin, end = next_data(data.fileno(), at, size)
            for hole in range(at, begin, CHUNK):
                digest.update(zeros[: min(CHUNK, begin - hole)])
            data.seek(begin)
            copy.seek(begin)
            left = end - begin
            while left:
                chunk = buffer[: data.readinto(buffer[: min(CHUNK, left)])]
                digest.update(chunk)
                if not clone:
                    copy.write(chunk)
                left -= len(chunk)
            at = end
        copy.truncate(size)
    return digest.hexdigest()


def next_data(file: int, at: int, size: int) -> tuple[int, int]:
    """Where the next data of a sparse file begin and end (lseek(2)); at its end when there are no more."""
    try:
        begin = os.lseek(file, at, os.SEEK_DATA)
        return begin, os.lseek(file, begin, os.SEEK_HOLE)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return size, size


def main() -> None:
    """Copies a directory in the place of another one."""
    source, target = (Path(word) for word in sys.argv[1:3])
    clone = "--clone" in sys.argv
    former = target.with_name(f"{target.name}.former")
    shutil.rmtree(former, ignore_errors=True)
    target.rename(former)
    files = sorted((path for path in source.rglob("*") if path.is_file()), key=lambda path: -path.stat().st_size)
    for path in files:
        (target / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
    count = len(os.sched_getaffinity(0))
    # Dealt out so that each has about as many bytes: the next file goes to whoever has the fewest.
    shares: list[tuple[int, list[Path]]] = [(0, []) for _ in range(count)]
    for path in files:
        index = min(range(count), key=lambda index: shares[index][0])
        shares[index] = (shares[index][0] + path.stat().st_size, [*shares[index][1], path])

    def copy(share: list[Path]) -> None:
        for path in share:
            pour(path, target / path.relative_to(source), clone)

    children = [beside(partial(copy, share)) for _, share in shares]
    children.append(beside(partial(shutil.rmtree, former)))
    failed = [child for child in children if os.waitpid(child, 0)[1] != 0]
    sys.exit(1 if failed else 0)


def beside(work: Callable[[], None]) -> int:
    """Works in a process of its own; gives its number."""
    if (child := os.fork()) == 0:
        try:
            work()
            os._exit(0)
        except OSError as error:
            print(error, file=sys.stderr)
        os._exit(1)
    return child


if __name__ == "__main__":
    main()
