"""The whole system on one machine: its servers, its processes, the demo accounts and the tour."""
