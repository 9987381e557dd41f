"""Demonstrations: flows that run, wait and survive, shown as it happens."""
