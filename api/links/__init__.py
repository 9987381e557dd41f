"""Links for people: its holder may do one thing, once, until it expires.

Links are signed, not stored. Pages are plain HTML. A link that is wrong, used or expired leads to a page that
says so, but never why a signature failed.
"""
