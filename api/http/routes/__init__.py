"""The routes, by subject. Handlers run on the event loop, or in a thread where they read the store.

They refuse by raising; `contract.problems` turns that into an answer.
"""
