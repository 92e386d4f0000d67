"""
Where the CPU of a path goes: `python -m bench.profile --path message`, or of growing files: `--scene one-10000`.

Linux's perf samples the agent and its children while they replay the corpus, and once more over an empty file, which
is subtracted: starting is not what is asked.  A scene is sampled once the agent is up.  Samples are summed by what
the code is for (`PARTS`, by shared object and symbol), then the symbols that take most are listed.

The interpreter runs functions of ours and of libraries: which, a profiler of Python has to say.  Debian has perf in the
package linux-perf.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from bench import paths
from bench.beside import AGENT_CORE, last_lines, program_files, scratch, servers
from bench.corpus import KINDS, write_corpus
from bench.follow import SCENES, Scene, follow
from bench.measure import pinned
from bench.tables import markdown

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Prime, so that nothing periodic is sampled in step.
SAMPLES_PER_S = 997
RUN_TIMEOUT_S = 600.0
#: After this an agent has started, and read what was there.
UP_S = 10.0
#: The first that matches "SHARED-OBJECT SYMBOL" has the sample.
PARTS = (
    ("gzip (ISA-L)", re.compile(r"^(igzip|isal)")),
    ("Parquet (pyarrow)", re.compile(r"^(libarrow|libparquet|lib\.cpython|_parquet|_compute)")),
    ("records and bodies", re.compile(r"^_fast(encode|record|compose|json|pairs)")),
    ("parse", re.compile(r"^_fast(parse|join)")),
    ("other kernels of ours", re.compile(r"^_fast")),
    ("hash and TLS", re.compile(r"^(libcrypto|libssl|_ssl|_hashlib|_sha|_blake2)")),
    ("event loop (uvloop)", re.compile(r"^loop\.cpython")),
    ("kernel: page cache", re.compile(r"^\[kernel\S* .*(_to_iter|filemap|copy_user|rep_movs)")),
    ("kernel: other", re.compile(r"^\[kernel")),
    ("Python", re.compile(r"^(libpython|python)")),
    ("libc", re.compile(r"^(libc\.|libm\.|libpthread|ld-linux)")),
)
OTHER = "other"


class Symbol(NamedTuple):
    """
    A function in a shared object.
    """

    dso: str
    name: str

    @property
    def part(self) -> str:
        """
        What it is for.
        """
        text = f"{self.dso} {self.name}"
        return next((name for name, pattern in PARTS if pattern.match(text)), OTHER)


def read_samples(text: str) -> Counter[Symbol]:
    """
    Return how often each symbol was seen, from what `perf script -F ip,sym,dso` prints.
    """
    found: Counter[Symbol] = Counter()
    for line in text.splitlines():
        #   7f.. _PyEval_EvalFrameDefault (/usr/lib/libpython3.11.so.1.0)
        left, _, dso = line.strip().rpartition(" (")
        _, _, name = left.partition(" ")
        if dso:
            found[Symbol(os.path.basename(dso.rstrip(")")), name or "?")] += 1
    return found


def recorded(command: Sequence[str], data: str, *, delay_s: float = 0.0) -> list[str]:
    """
    Return *command* under perf, which writes to *data* from *delay_s* after the start on.
    """
    rate = ["-e", "cpu-clock", "-F", str(SAMPLES_PER_S)]
    # Some versions of perf do not take a delay of nothing.
    delay = ["-D", str(int(delay_s * 1000))] if delay_s else []
    return ["perf", "record", "-q", *rate, *delay, "-o", data, "--", *command]


def samples_of(data: str) -> Counter[Symbol]:
    """
    Return what perf wrote.
    """
    script = subprocess.run(
        ["perf", "script", "-i", data, "-F", "ip,sym,dso"],
        check=True,
        capture_output=True,
        text=True,
        timeout=RUN_TIMEOUT_S,
    )
    return read_samples(script.stdout)


def profile(command: Sequence[str], directory: str, endpoints: paths.Endpoints) -> Counter[Symbol]:
    """
    Run *command* to its end and return the samples of it and its children.

    Raises RuntimeError if it fails.
    """
    data, log_path = (os.path.join(directory, name) for name in ("perf.data", "profile.log"))
    try:
        with open(log_path, "wb") as log:
            subprocess.run(
                pinned(recorded(command, data), AGENT_CORE),
                check=True,
                stdout=log,
                stderr=log,
                env=paths.environment(endpoints),
                timeout=RUN_TIMEOUT_S,
            )
        return samples_of(data)
    except subprocess.SubprocessError as error:
        raise RuntimeError(f"{error}\n{last_lines(log_path)}") from error


def replayed(options: argparse.Namespace) -> Counter[Symbol]:
    """
    Return the samples of a replay of the corpus, without its start.
    """
    with scratch() as directory:
        tree = os.path.join(directory, "corpus")
        manifest = write_corpus(
            tree, kind=options.kind, mib=options.mib, files=options.files, seed=options.seed
        )
        empty = os.path.join(directory, "empty.log")
        with open(empty, "wb"):
            pass
        seen = []
        with servers(directory, tree) as endpoints:
            for files in ([empty], manifest.files):
                with program_files(directory) as (made, _):
                    config = paths.tailrace_config(
                        options.path,
                        endpoints,
                        directory=made,
                        pattern=os.path.join(made, "none", "*.log"),
                    )
                    report = os.path.join(made, "report.json")
                    command = paths.tailrace_replay(config, files, report)
                    seen.append(profile(command, made, endpoints))
    start, work = seen
    work.subtract(start)
    return +work


def followed(scene: Scene, seconds: float) -> Counter[Symbol]:
    """
    Return the samples of *scene* once its agent is up.
    """
    with scratch() as directory:
        data = os.path.join(directory, "perf.data")
        follow(
            scene,
            seconds=seconds,
            warm_up=UP_S,
            wrap=lambda command: recorded(command, data, delay_s=UP_S),
        )
        return samples_of(data)


def parts_table(work: Counter[Symbol]) -> str:
    """
    Return CPU seconds and shares by part.
    """
    parts: Counter[str] = Counter()
    for symbol, count in work.items():
        parts[symbol.part] += count
    total = sum(parts.values())
    rows = [
        [name, f"{count / SAMPLES_PER_S:.2f}", f"{count / total:.0%}"]
        for name, count in parts.most_common()
        if count > 0
    ]
    return markdown(
        ["part", "CPU s", "share"], [*rows, ["all", f"{total / SAMPLES_PER_S:.2f}", ""]]
    )


def symbols_table(work: Counter[Symbol], count: int) -> str:
    """
    Return the symbols that take most.
    """
    total = sum(work.values())
    rows = [
        [symbol.part, symbol.dso, symbol.name[:60], f"{seen / total:.1%}"]
        for symbol, seen in work.most_common(count)
    ]
    return markdown(["part", "in", "symbol", "share"], rows)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--path", choices=paths.PATHS, default="message")
    parser.add_argument("--scene", choices=sorted(SCENES), help="growing files instead of a path")
    parser.add_argument("--seconds", type=float, default=60, help="of a scene")
    parser.add_argument("--mib", type=float, default=256)
    parser.add_argument("--kind", choices=sorted(KINDS), default="halves")
    parser.add_argument("--files", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--symbols", type=int, default=25, help="how many of them are listed")
    return parser.parse_args()


def main() -> int:
    """
    Profile, show.
    """
    options = _options()
    if shutil.which("perf") is None:
        print("perf is not installed: apt-get install linux-perf", file=sys.stderr)
        return 1
    try:
        if options.scene:
            work = followed(SCENES[options.scene], options.seconds)
        else:
            work = replayed(options)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{options.scene or options.path}, without its start\n")
    print(parts_table(work))
    print(f"\n{symbols_table(work, options.symbols)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
