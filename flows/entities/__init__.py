"""What an event-sourced actor is: the class that users write, its commands, events and state.

An *entity* is one such actor: a class, an id, and the stream of its events. Nothing here does I/O or knows a
thread: a call comes in, and what it records and replies comes out.
"""
