"""
`key=value` pairs to fields: logfmt and klog's text.
"""

from agent._fastfields import Wanted
from agent._fastparse import Columns

def extract_logfmt(columns: Columns, wanted: Wanted) -> int:
    """
    Fill the wanted fields of rows that begin with `key=`.

    A value is a word or in quotes, with Go's escapes; a key without a value is true; the last of several counts.
    Return how many rows no kernel has recognised.
    """

def extract_klog(columns: Columns, wanted: Wanted) -> int:
    """
    Fill the wanted fields of rows with klog's head, and their severity.

    Fields: level, time, thread, caller, file, line, msg, and the pairs behind a quoted message.  A value may be a
    block: `key=<`, lines behind a tab each, ` >`.  Return how many rows no kernel has recognised.
    """

def klog_levels(columns: Columns, verbosity: int, error: int, message: int = ...) -> None:
    """
    Give rows of klog's JSON their severity: error with the field *error* or without *verbosity*, else info.

    With *message*, rows without that field are somebody else's JSON, and stay as they are.
    """
