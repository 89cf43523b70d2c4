"""Fitting a network: objectives, samplers, losses, and one trainer with callbacks."""
