"""
Samples of perf are read and summed by what the code is for.
"""

from __future__ import annotations

import pytest

from bench.profile import Symbol, parts_table, read_samples

PRINTED = """\
    7f3e5d0c1a20 _PyEval_EvalFrameDefault (/usr/lib/libpython3.11.so.1.0)
    7f3e5d0c1a24 _PyEval_EvalFrameDefault (/usr/lib/libpython3.11.so.1.0)
    7f3e5c001234 isal_deflate_icf_body_hash_hist_04.loop2 (/x/isal/igzip_lib.cpython-311-x86_64-linux-gnu.so)
ffffffff8a001234 _copy_to_iter ([kernel.kallsyms])
    7f3e5c0fffff parquet::(anonymous namespace)::Encode (/x/pyarrow/libparquet.so.2600)
    7f3e00000000 [unknown] ([unknown])

"""


def test_samples_are_counted_by_symbol() -> None:
    """
    Names of C++ have spaces and parentheses of their own.
    """
    found = read_samples(PRINTED)
    assert found[Symbol("libpython3.11.so.1.0", "_PyEval_EvalFrameDefault")] == 2
    assert found[Symbol("libparquet.so.2600", "parquet::(anonymous namespace)::Encode")] == 1
    assert found.total() == 6


@pytest.mark.parametrize(
    ("dso", "name", "part"),
    [
        ("libpython3.11.so.1.0", "PyDict_New", "Python"),
        ("python3.12", "PyDict_New", "Python"),
        ("isal_zlib.cpython-311.so", "..@38.end", "gzip (ISA-L)"),
        ("_fastjson.cpython-311.so", "simd_copy_avx2", "records and bodies"),
        ("_fastredact.cpython-311.so", "step", "other kernels of ours"),
        ("[kernel.kallsyms]", "_copy_to_iter", "kernel: page cache"),
        ("[kernel.kallsyms]", "clear_page_erms", "kernel: other"),
        ("libarrow.so.2600", "ZSTD_compressBlock_doubleFast", "Parquet (pyarrow)"),
        ("[unknown]", "[unknown]", "other"),
    ],
)
def test_every_symbol_has_its_part(dso: str, name: str, part: str) -> None:
    assert Symbol(dso, name).part == part


def test_the_table_gives_shares() -> None:
    table = parts_table(read_samples(PRINTED))
    assert "| Python | 0.00 | 33% |" in table
