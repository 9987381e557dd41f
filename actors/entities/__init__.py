"""Event-sourced actors that users write: each lives on a carrier while it is used, and rests in the store.

References send from any thread, and wait for nothing but the directory's lock. A handler runs on the
actor's turn; its reply leaves when the commit that it depends on is durable. When that fails, those who
depend on it hear so, and the actor is recovered from its log.
"""
