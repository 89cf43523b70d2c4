"""From a raw log to a data set: filter, split, candidates; download and simulation."""
