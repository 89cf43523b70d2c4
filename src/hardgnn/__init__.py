"""HardGNN: sequential recommendation with SelfGNN and HardGNN, honestly measured."""

__version__ = "0.1.0"
