"""The library under every front door: envelope, budget, producer, configuration, process life.

It never listens to user traffic and has no ``main``; each ``ingest_*`` package is one thing to run.
"""

__version__ = "0.1.0"
