"""The HTTP API: an ASGI application over a `FlowSystem`. Needs the extra: `persistasaurus[server]`."""
