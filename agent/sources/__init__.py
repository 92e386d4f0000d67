"""
Floor 2: what finds and reads logs and turns their bytes into segments.
"""
