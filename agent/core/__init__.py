"""
Floor 1: decisions without I/O, clock or randomness.  Everything here takes `now` as an argument.
"""
