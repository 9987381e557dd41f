"""The protection around the application, independent of its framework. Each request passes all of it.

It checks names, origins, tokens, rates, body sizes and times. It runs on the event loop, allocates within
bounds, and refuses with problem details before the application sees a request. A framework's own settings
for allowed hosts, rates and body sizes know neither ports, origins nor tokens, and bound no time.
"""
