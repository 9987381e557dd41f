"""Values: how they become bytes and come back, how they are copied, lent and compared.

Pure functions that both other rooms of `flows` and the actors call, from any thread. A value that cannot be
stored is refused with a `NotStorable` or a `DecodingError` that names the part of it; nothing here keeps
state.
"""
