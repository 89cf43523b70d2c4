"""Others' models, tuned and fitted on the same data."""
