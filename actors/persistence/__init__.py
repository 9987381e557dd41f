"""Persistent actors, and the journal that makes what they decide durable.

The journal is the only writer: whatever is queued becomes one commit, on its own thread. An actor's effects
happen after the commit they depend on, on the actor's thread. When a commit fails, those who wrote in it
start anew from what the store holds; when its outcome is unknown, the store is asked before anybody goes
on.
"""
