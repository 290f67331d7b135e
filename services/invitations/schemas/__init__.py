"""What callers send and what they are answered, in the names that clients of the older API know."""
