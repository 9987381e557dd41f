"""Flows at work: their actors, the supervisor that starts and restarts them, timers, passivation.

The supervisor is one actor, and knows which flows are in memory; each flow is an actor of its own, around a
pure machine. A message to a flow only says that there is something to look at: what counts is in the store,
so a lost message loses nothing. A flow that crashes starts anew from its history, later each time, and is
parked in the end; no other flow notices.
"""
