"""The example application: routes over the example flows, made as an application makes its own.

`persistasaurus serve` mounts them when it is given no module. Like all route handlers they run on the
server's event loop, and wait for the store on threads. Needs the extra: `persistasaurus[server]`.
"""
