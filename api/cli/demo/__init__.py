"""The demo: a flow whose process is killed again and again, shown as it happens."""
