"""
Floor 2: what changes or drops rows of a batch, by mask and column.
"""
