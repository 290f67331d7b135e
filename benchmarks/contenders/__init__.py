"""One program per contender, each run as a process of its own."""
