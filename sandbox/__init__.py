"""Stand-ins for the outside world, run as real servers; no service ever imports this package."""
