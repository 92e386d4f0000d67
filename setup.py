"""
Build of the Cython extensions; everything else about the package is in pyproject.toml.

    python setup.py build_ext --inplace

| variable | effect |
|---|---|
| `TAILRACE_DEBUG=1` | no optimisation, bounds and overflow checks, line tracing, C assertions |
| `TAILRACE_ANNOTATE=1` | an HTML page per extension that shows where Python is called |

There is no `-march=native`: an image built on one machine runs on all of its architecture, and
`_simd.h` chooses instructions at run time.  A performance hint of Cython means that a hot function
takes the GIL back; it fails the build.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from pathlib import Path

from Cython.Build import cythonize
from Cython.Compiler import Options
from setuptools import Extension, setup

DEBUG = os.environ.get("TAILRACE_DEBUG", "") not in {"", "0"}
ANNOTATE = os.environ.get("TAILRACE_ANNOTATE", "") not in {"", "0"}

MODULES = (
    "_fastjson",
    "_fastline",
    "_fastparse",
    "_fastrecord",
    "_fastencode",
    "_faststage",
    # Transforms: a kernel is a module of its own.
    "_fastfields",
    "_fastobject",
    "_fastwhere",
    "_fastregex",
    "_fasttrace",
    "_fastjoin",
    "_fastpairs",
    "_fastlayout",
    "_fastredact",
    "_fastcolumns",
    "_fastrate",
    "_fastcompose",
    "_fastsplit",
)
HEADERS = ["agent/_simd.h", "agent/_fastsort.pxd"]
HEADERS += [f"agent/{module}.pxd" for module in MODULES if Path("agent", f"{module}.pxd").exists()]

COMPILE = [
    "-std=c11",
    "-Wall",
    "-Wextra",
    "-Wno-unused-parameter",
    "-Wno-missing-field-initializers",
]
COMPILE += ["-O0", "-g3", "-UNDEBUG"] if DEBUG else ["-O3", "-fno-semantic-interposition"]
MACROS: list[tuple[str, str | None]] = (
    [("CYTHON_TRACE", "1"), ("CYTHON_TRACE_NOGIL", "1"), ("TAILRACE_DEBUG", "1")] if DEBUG else []
)

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": DEBUG,
    "wraparound": False,
    "initializedcheck": DEBUG,
    "cdivision": True,
    "overflowcheck": False,
    "linetrace": DEBUG,
    "embedsignature": False,
    "autotestdict": False,
    "auto_pickle": False,
    "warn.unreachable": True,
    "warn.maybe_uninitialized": False,
    "warn.unused": True,
    "show_performance_hints": True,
}


def translate() -> list[Extension]:
    """
    Turn the .pyx files into C, and refuse performance hints.
    """
    Options.docstrings = True
    extensions = [
        Extension(
            f"agent.{module}",
            [f"agent/{module}.pyx"],
            depends=HEADERS,
            include_dirs=["agent"],
            extra_compile_args=COMPILE,
            define_macros=MACROS,
        )
        for module in MODULES
    ]
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            translated = cythonize(
                extensions, compiler_directives=DIRECTIVES, annotate=ANNOTATE, force=DEBUG
            )
    finally:
        sys.stderr.write(said.getvalue())
    if "performance hint" in said.getvalue():
        # Otherwise the next build would find the C files up to date and pass.
        for module in MODULES:
            Path("agent", f"{module}.c").unlink(missing_ok=True)
        raise SystemExit(
            "setup.py: performance hints above: declare the function noexcept, or except -1"
        )
    return list(translated)


# py_modules stops setuptools from guessing packages; pyproject.toml names them.
setup(
    ext_modules=translate(),
    py_modules=[],
    options={"build_ext": {"parallel": os.cpu_count()}},
)
