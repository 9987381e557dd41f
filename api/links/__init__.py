"""Links for people: who has one may do one thing, once, until it expires.

Signed, not stored. Pages are plain HTML. A link that is wrong, used or expired is answered with a page that
says so, and never with the reason why a signature failed.
"""
