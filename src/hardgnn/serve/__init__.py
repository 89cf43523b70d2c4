"""Recommendations over HTTP: a run packed into memory-mapped files, workers that share them, one page to look at.

`pack.py` writes what a worker maps, `engine.py` answers from it, `batcher.py` joins requests that wait, `state.py`
swaps in a new run, `board.py` is what parent and workers show each other, `routes.py` and `schemas.py` are the
interface, `gate.py` is what every request passes (host, token, limits, request ids, logs, metrics), `server.py` bounds
connections, `supervisor.py` keeps the workers.
"""
