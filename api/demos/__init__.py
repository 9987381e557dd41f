"""The demos: flows that run, wait and survive, shown as it happens."""
