"""Running steps: on threads, on an event loop, or in processes of their own.

Flow actors hand in attempts from their threads and get one outcome for each, as a message, whatever becomes
of the attempt: it returns, fails, takes too long, takes its process along, or never ends. What an attempt
has done is recorded by the flow, not here; after a crash, an attempt without an outcome is in doubt.
"""
