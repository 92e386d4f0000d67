"""
The commands.  Each imports what it needs when it is called, and nothing before.
"""
