"""Values: how they become bytes and come back, and how they are copied, lent and compared.

Pure functions, called by the other rooms of `flows` and by the actors, from any thread. A value that cannot
be stored is refused with a `PayloadError` that names the part of it. Nothing here keeps state.
"""
