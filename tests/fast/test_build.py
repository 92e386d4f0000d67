"""
What is compiled: the hot functions call no Python, and all instruction sets write the same.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from agent import _fastencode, _fastjson, _faststage  # type: ignore[attr-defined]
from tests.fast.test_encode import columns

AGENT = Path(_fastencode.__file__).parent
HOT = {
    "_fastjson": [
        "json_value_end",
        "json_string_end",
        "json_unescape",
        "escape_write",
        "escape_measure",
    ],
    "_fastline": ["cri_read", "cri_read_usual", "docker_read", "time_read"],
    "_fastparse": ["parse_bytes", "parse_line", "whole", "piece", "open_emit"],
    "_fastrecord": ["object_start", "metric_is", "member", "record_stream", "otel_attributes"],
    "_fastencode": ["rows_write", "record_write", "record_head", "otel_write", "event_begin"],
}
# What raises is in `with gil` blocks and in the error paths that Cython adds.
PYTHON_CALL = re.compile(
    r"\b(Py(?:Object|Number|List|Dict|Tuple|Long|Unicode|Bytes)_\w+|__Pyx_PyObject\w+)\("
)


def function_body(source, name):
    """
    The definition of a Cython function in the C that it became.
    """
    starts = [
        match.start()
        for match in re.finditer(
            rf"^ *static [^;\n]*__pyx_f_[0-9a-z_A-Z]*_{name}\([^;]*?\) \{{", source, re.MULTILINE
        )
    ]
    assert starts, f"{name} is not there any more: was it renamed?"
    end = re.compile(r"\n *static ").search(source, starts[-1])
    assert end
    return source[starts[-1] : end.start()]


@pytest.mark.parametrize("module", sorted(HOT))
def test_hot_functions_call_no_python(module):
    """
    A name here is a line that turned yellow in the annotated page.
    """
    path = AGENT / f"{module}.c"
    if not path.exists():
        pytest.skip(f"{path.name} is not there: the extensions were not built in place")
    source = path.read_text()
    for name in HOT[module]:
        calls = PYTHON_CALL.findall(function_body(source, name))
        assert not calls, f"{module}.{name} calls Python: {calls}"


@pytest.mark.parametrize("length", [0, 1, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 200])
def test_instruction_sets_write_the_same(length):
    """
    The baseline and the best of this processor, at and around the ends of their blocks.
    """
    staged, bodies, texts = [], [], []
    for byte in (b'"', b"\\", b"\x01", b"\x7f", b"\xff", "日".encode()):
        texts += [b"a" * at + byte + b"b" * max(0, length - at - 1) for at in range(length + 1)]
        # Many in a group of bytes, and one among them that is more than an escape.
        texts += [b'"' * at + byte + b'\\"' * ((length - at) // 2) for at in range(length + 1)]
        texts += [
            b'a"' * (at // 2) + byte + b"\\" * max(0, length - at) for at in range(length + 1)
        ]
    try:
        for level in (0, 1):
            _fastjson._simd_level(level)
            staged.append(_faststage.staging_buffers(columns(texts)))
            body = _fastencode.Body()
            parts = [columns(texts)]
            body.encode(
                b"[",
                parts,
                [b""],
                _fastencode.order_rows(parts),
                0,
                format=_fastencode.MESSAGE_CONTAINER_INSIGHTS,
                valid_from_ms=0,
                valid_until_ms=2**62,
            )
            bodies.append(bytes(body))
    finally:
        _fastjson._simd_level(1)
    assert staged[0] == staged[1]
    assert bodies[0] == bodies[1]
    assert staged[0].messages == b"".join(texts).replace(b"\xff", "\ufffd".encode())
