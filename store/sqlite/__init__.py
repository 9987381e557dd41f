"""The store in one SQLite file: how it is laid out, written, read and repaired.

The journal's thread is the only one that writes, through `store`; any thread reads, on a connection of its
own. A failure is a `StoreError` that says what the caller does next: try again, ask `reopen` what became of
the commit, or leave the stream alone since its bytes are damaged. Nothing here knows flows.
"""
