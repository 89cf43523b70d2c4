"""The run folder: what a training leaves, and what is evaluated of it."""
