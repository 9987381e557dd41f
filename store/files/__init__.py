"""The files of a store: where they are, who owns them, and how they are replaced.

Each store has one owner, locks that other code in the process cannot drop, and whole files or none. Code that
opens or copies a store calls this on its own thread, before and after SQLite runs. What cannot be fenced is
refused (`StoreUnusable`, `StoreOwned`), with nothing created.
"""
