"""
Floor 3: the shells that touch the outside world and start tasks.
"""
