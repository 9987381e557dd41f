"""Reports: about a flow, from its history, and about a store and its surroundings.

They only read, whichever process owns the store, on the command's own thread. Damage is reported, and does
not end a report.
"""
