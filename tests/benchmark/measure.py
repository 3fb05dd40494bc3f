"""What a command costs: wall time, processor time of all its processes, memory, bytes written."""

import contextlib
import dataclasses
import os
import select
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Figure:
    """What one run of a command cost."""

    wall: float
    """Seconds from start to end."""
    cpu: float
    """Seconds of user and system time, of the command and everything that it started."""
    memory: int
    """Bytes: the largest resident set that any one of its processes had."""
    written: int
    """Bytes that it gave to file systems on a disk; those in memory count none."""

    def __add__(self, other: "Figure") -> "Figure":
        """What two commands cost that run one after the other."""
        memory = max(self.memory, other.memory)
        return Figure(self.wall + other.wall, self.cpu + other.cpu, memory, self.written + other.written)


LIMIT = 900.0
"""Seconds after which a command is ended: no case takes so long on a machine that can be measured on."""


class Failed(Exception):
    """A command did not succeed, or something that is needed is not there."""


def median(figures: Sequence[Figure]) -> Figure:
    """The median of each figure by itself."""
    fields = [field.name for field in dataclasses.fields(Figure)]
    return Figure(**{name: statistics.median(getattr(figure, name) for figure in figures) for name in fields})


def measure(
    command: Sequence[str | Path],
    log: Path,
    *,
    limit: float = LIMIT,
) -> Figure:
    """Runs a command, which has to succeed within `limit` seconds; what it says goes to the end of `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    words = [str(word) for word in command]
    with log.open("a", encoding="utf-8") as said, Group() as group:
        said.write(f"\n$ {' '.join(words)}\n")
        said.flush()
        begun = time.perf_counter()
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            preexec_fn=group.enter,
        )
        try:
            # When it has ended it is not waited for yet: its accounts are complete, and still there.
            if not ends(process.pid, limit):
                raise Failed(f"`… {' '.join(words)[-100:]}` was ended after {limit:.0f} s: see the end of {log}")
        except BaseException:
            process.kill()
            group.kill()
            process.wait()
            raise
        wall = time.perf_counter() - begun
        written = bytes_written(process.pid)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        counted = group.processor_time()
    if process.returncode != 0:
        raise Failed(f"`… {' '.join(words)[-100:]}` ended with {process.returncode}: see the end of {log}")
    cpu = usage.ru_utime + usage.ru_stime if counted is None else counted
    return Figure(wall, cpu, usage.ru_maxrss * 1024, written)


def ends(pid: int, limit: float) -> bool:
    """Waits until a process has ended; no longer than `limit` seconds."""
    descriptor = os.pidfd_open(pid)
    try:
        return bool(select.select([descriptor], [], [], limit)[0])
    finally:
        os.close(descriptor)


def size_of(directory: Path) -> int:
    """Bytes of all files below a directory."""
    return sum(path.lstat().st_size for path in directory.rglob("*") if path.is_file() and not path.is_symlink())


def bytes_written(pid: int) -> int:
    """What a process, and all of its children that have ended, made dirty on disks (proc_pid_io(5))."""
    fields = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text(encoding="ascii").splitlines())
    return int(fields["write_bytes"])


class Group:
    """A control group that counts the processor time of everything that is started in it.

    Version 2 counts in `cpu.stat` of any group, version 1 in those of its controller `cpuacct`. Where neither lets a
    group be made, wait4(2) counts: the processes that were waited for.
    """

    def __init__(self) -> None:
        self.place: Path | None = None
        self.counter = Counter("wait4", "", lambda _: 0.0)
        for parent, counter in hierarchies():
            place = parent / f"rolecast-benchmark-{os.getpid()}"
            try:
                place.mkdir()
            except OSError:
                continue
            if (place / counter.file).exists():
                self.place, self.counter = place, counter
                return
            place.rmdir()

    def __enter__(self) -> "Group":
        return self

    def __exit__(self, *_: object) -> None:
        for _attempt in range(50):
            try:
                if self.place:
                    self.place.rmdir()
                return
            except OSError:
                # The last process may still be on its way out.
                time.sleep(0.1)

    def enter(self) -> None:
        """Moves this process into the group; called between fork and exec."""
        if self.place:
            (self.place / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")

    def kill(self) -> None:
        """Ends all that runs in the group."""
        if self.place:
            for pid in (self.place / "cgroup.procs").read_text(encoding="ascii").split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)

    def processor_time(self) -> float | None:
        """Seconds so far."""
        if not self.place:
            return None
        return self.counter.read((self.place / self.counter.file).read_text(encoding="ascii"))


@dataclasses.dataclass(frozen=True)
class Counter:
    """How processor time is counted."""

    name: str
    file: str
    """The file of a group that has it."""
    read: Callable[[str], float]
    """From the file's text to seconds."""


def version_2(text: str) -> float:
    """From `cpu.stat`: lines of a name and a number."""
    return int(dict(line.split() for line in text.splitlines())["usage_usec"]) / 1e6


def hierarchies() -> Iterator[tuple[Path, Counter]]:
    """The groups that one could be made in, this process's own first."""
    own = {}
    for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        own.update(dict.fromkeys(controllers.split(","), path.lstrip("/")))
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        mount, _, described = line.partition(" - ")
        kind, _, options = described.split(" ", 2)
        top = Path(mount.split(" ")[4])
        if kind == "cgroup2":
            counter = Counter("control groups, version 2", "cpu.stat", version_2)
            yield from ((top / own.get("", ""), counter), (top, counter))
        elif kind == "cgroup" and "cpuacct" in options.split(","):
            counter = Counter("control groups, version 1", "cpuacct.usage", lambda text: int(text) / 1e9)
            yield from ((top / own.get("cpuacct", ""), counter), (top, counter))
