"""All SQL of auth, one module per noun.

Locks are taken in one order, accounts by id, then throttles, then sessions: no two transactions wait for each other.
"""
