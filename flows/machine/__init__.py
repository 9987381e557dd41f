"""The pure machine: messages go in, and events to record and effects to carry out come out.

Its actor calls it, one message at a time, on one thread at a time; the test kit calls it by hand. It reads no
clock, does no I/O and knows no thread. Its decisions take effect after they are recorded, so a machine may be
discarded at any time and rebuilt from its history. A history that no longer fits the code raises
`NondeterminismError`; any other exception is a defect, and restarts the actor that holds the machine.
"""
