"""
The plan of a replay with several workers, and where it is kept: `<--state DIR>/workers.json`.

    {"format": 1, "workers": 4, "logs": {"/old/shop_web-1_…/app/0.log": 2, …}}

Worker *n* keeps its own state in `<DIR>/worker-<n>`.  A Log stays with its worker for as long as the directory
lives, so a replay that goes on must have as many workers as the one that began.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from agent.core.errors import StopError
from agent.core.shares import log_of, shared
from agent.runtime.store_schema import DATABASE_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PLAN_NAME = "workers.json"
FORMAT = 1


class Share(NamedTuple):
    """
    What one worker reads.
    """

    number: int
    state_dir: str
    paths: list[str]


class _Plan(msgspec.Struct):
    format: int
    workers: int
    logs: dict[str, int]


def shares_of(paths: Sequence[str], workers: int, directory: str) -> list[Share]:
    """
    Share the files of *paths* among *workers*, write the plan to *directory*, and return what is to be read.

    Raises StopError: 66 for a path that does not exist, 64 for a directory that was begun otherwise.
    """
    known = _read(directory)
    if known is None and os.path.exists(os.path.join(directory, DATABASE_NAME)):
        raise StopError(
            f"--state {directory}: begun without --workers; go on without, or name another directory",
            exit_code=os.EX_USAGE,
        )
    if known is not None and known.workers != workers:
        raise StopError(
            f"--workers: got {workers}, but --state {directory} was begun with {known.workers}; "
            f"say --workers {known.workers}, or name another directory",
            exit_code=os.EX_USAGE,
        )
    files = _files(paths)
    sizes: dict[str, int] = {}
    for path, size in files.items():
        sizes[log_of(path)] = sizes.get(log_of(path), 0) + size
    before = known.logs if known is not None else {}
    plan = shared(sizes, workers, before)
    _write(directory, _Plan(format=FORMAT, workers=workers, logs=before | plan))
    made = [Share(n, os.path.join(directory, f"worker-{n}"), []) for n in range(workers)]
    for path in files:
        made[plan[log_of(path)]].paths.append(path)
    return [share for share in made if share.paths]


def refuse_workers(directory: str) -> None:
    """
    Raise StopError (64) where *directory* was begun with several workers.
    """
    known = _read(directory)
    if known is not None:
        raise StopError(
            f"--state {directory}: begun with --workers {known.workers}; say so again, or name another directory",
            exit_code=os.EX_USAGE,
        )


def _files(paths: Sequence[str]) -> dict[str, int]:
    """
    Return the size of every file; one that can be reached in two ways counts once.
    """
    found: dict[str, int] = {}
    seen: set[tuple[int, int]] = set()
    for path in paths:
        absolute = os.path.abspath(path)
        if not os.path.exists(absolute):
            raise StopError(f"{path}: no such file or directory", exit_code=os.EX_NOINPUT)
        for file in _walk(absolute) if os.path.isdir(absolute) else (absolute,):
            try:
                status = os.stat(file)
            except FileNotFoundError:
                continue  # Deleted meanwhile, or a dangling link: replay without workers does not see it either.
            if (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                found[os.path.realpath(file)] = status.st_size
    return found


def _walk(directory: str) -> Iterator[str]:
    entered: set[str] = set()
    for current, directories, names in os.walk(directory, followlinks=True):
        # A link can lead back to where it came from.
        directories[:] = sorted(
            name
            for name in directories
            if (real := os.path.realpath(os.path.join(current, name))) not in entered
            and not entered.add(real)  # type: ignore[func-returns-value]
        )
        yield from (os.path.join(current, name) for name in sorted(names) if name.endswith(".log"))


def _read(directory: str) -> _Plan | None:
    path = os.path.join(directory, PLAN_NAME)
    try:
        with open(path, "rb") as file:
            plan = msgspec.json.decode(file.read(), type=_Plan)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise StopError(
            f"{path}: {error}; name another directory with --state", exit_code=os.EX_SOFTWARE
        ) from error
    if plan.format != FORMAT:
        raise StopError(
            f"{path}: format {plan.format}, expected {FORMAT}: written by a newer tailrace, use that one",
            exit_code=os.EX_SOFTWARE,
        )
    return plan


def _write(directory: str, plan: _Plan) -> None:
    """
    Write the plan before any worker starts: a Log must never be read by two.
    """
    path = os.path.join(directory, PLAN_NAME)
    with open(f"{path}.tmp", "wb") as file:
        file.write(msgspec.json.encode(plan))
        file.flush()
        os.fsync(file.fileno())
    os.replace(f"{path}.tmp", path)
