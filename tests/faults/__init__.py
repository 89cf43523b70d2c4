"""Faults injected into the project's own commands: cuts, kills, damaged files, full disks, two writers.

`commands.py` runs commands in processes of their own, `server.py` forks those; `cuts.py` counts and cuts file
operations, `mutate.py` damages files; `stage.py` has the fixtures, `scenarios.py` the commands and what follows them,
`readers.py` independent readers, `fuzz.py` what is read after damage; `tally.py` counts outcomes. Set by environment:
`HARDGNN_SEED`, `HARDGNN_CUTS` (cuts of a command and kind of fault, 0 for every one), `HARDGNN_KILLS`, `HARDGNN_FUZZ`.
"""
