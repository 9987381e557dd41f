"""The actor runtime: Pykka's actors on few threads, with a clock that tests can hold in their hands.

Knows nothing of flows or stores. Time, threads, queues and chance are touched in `primitives` alone, and
an engine takes them from an `Environment`, which a simulation replaces. An actor handles one message at a
time, on any worker; an exception that leaves a handler ends that actor alone. `watchdog` finds code that
holds a worker for long, and another worker takes over.
"""
