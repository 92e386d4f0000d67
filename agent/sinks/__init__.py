"""
Floor 2: what delivers segments to one destination and reports their outcome.
"""
