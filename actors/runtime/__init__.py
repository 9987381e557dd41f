"""The actor runtime: Pykka's actors on few threads, with a clock that tests can hold in their hands.

Knows nothing of flows or stores. Everything that touches time, threads, queues or chance comes through
`seam`, so a simulation can replace it. An actor handles one message at a time, on any worker; an exception
that leaves a handler ends that actor alone. Code that holds a worker for long is found by `watchdog`, and
another takes over.
"""
