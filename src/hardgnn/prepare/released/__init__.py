"""SelfGNN's released pickles: read as untrusted input, and taken as a prepared data set."""
