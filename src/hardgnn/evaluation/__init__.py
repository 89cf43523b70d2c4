"""Ranks of the targets under a protocol, their statistics, and lists of the best items."""
