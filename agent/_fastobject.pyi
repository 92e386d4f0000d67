"""
Members of JSON objects to fields.
"""

from agent._fastfields import Wanted
from agent._fastparse import Columns

def extract_json(columns: Columns, wanted: Wanted) -> int:
    """
    Fill the wanted fields of rows that are one JSON object, alone or behind a prefix without a brace.

    A name `a.b` is the member `a.b`, or the member `b` of the object `a`; of members that are there twice the last
    counts.  Names written with escapes are not recognised.  Return how many rows no kernel has recognised.
    """

def extract_attrs(columns: Columns, wanted: Wanted) -> int:
    """
    Fill the wanted fields `attrs.NAME` of rows with what stands in `attrs` behind the time of their line.

    It recognises no row: what is in the message is for others.  Return how many rows have no `attrs` there.
    """
