"""Requests from processes that do not own the store: how they are left, done, and answered.

A client in another process leaves a request beside the store and waits for the answer. The poller of the
process that owns the store does the requests for each flow in order. A request survives the death of either
side, and is safe to repeat: it carries an id.
"""
