"""The network: graphs per interval, recurrence and attention over intervals, attention over the window."""
