"""Projections: tables that follow the events of actors, for queries over many of them.

Each has a thread of its own, which reads the store's total order, is woken by commits, and does what may take
long: a projection that is slow, fails or is built anew holds up nobody. It writes to a file of its own, with
its position in the same transaction, so each event is in it once. What fails is rolled back, tried again
with backoff, and parked in the end.
"""
