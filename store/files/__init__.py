"""The files a store consists of: where they are, whose they are, and how they are replaced.

One owner for each store, locks that no stranger in the process can take away, whole files or none. Whoever
opens or copies a store calls this, on its own thread, before and after SQLite is at work. What cannot be
fenced is refused (`StoreUnusable`, `StoreLocked`), with nothing created.
"""
