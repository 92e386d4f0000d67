"""
Tailrace: a log routing agent for people who run on AWS.

The import package is called `agent`; the distribution and the command are called `tailrace`.
"""

__version__ = "0.1.0"
