"""What makes one vector of a window of items."""
