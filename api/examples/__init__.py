"""The example application: routes over the example flows, made as any application makes its own.

`persistasaurus serve` mounts them when no module is given. Like all route handlers they run on the server's
event loop, and wait for the store on threads. Needs the extra: `persistasaurus[server]`.
"""
