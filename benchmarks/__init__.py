"""`make bench`: our figure and a peer's or the raw limit's, in turn on the same servers, as ratios.

A contender is a program of its own (`benchmarks/contenders/`) that prints its figures as one JSON line; a row prepares
the same work for each, runs them in turn several times, and checks that each has really done it.
"""
