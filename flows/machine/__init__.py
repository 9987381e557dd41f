"""The pure machine: what has happened goes in, the events to record and the effects to carry out come out.

Its actor calls it, one message at a time, on one thread at a time; the test kit calls it by hand. It reads no
clock, does no I/O and knows no thread. What it decides takes effect after it is recorded, so a machine may be
thrown away at any time and made anew from its history. A history that no longer fits the code is
`NonDeterminism`; any other exception that leaves it is a defect, and the actor that holds it starts anew.
"""
