"""From a raw log to batches: read, prepare, split, cut into intervals, sample."""
