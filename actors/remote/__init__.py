"""Requests from processes that do not own the store: what they leave, who takes it up, what is answered.

A client in another process leaves a request beside the store and waits for the answer; the poller of the
process that owns the store takes it up, in order for each flow. A request survives the death of either
side, and is safe to repeat: it carries an id.
"""
