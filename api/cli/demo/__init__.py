"""The demo: a flow in a process that is killed again and again, shown as it happens."""
