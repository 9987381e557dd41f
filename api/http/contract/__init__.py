"""What the API promises: who may use a route, what it takes, what it answers, and the document of that.

Routes import from here; nothing here imports a route. All of it is stateless, and runs on the server's event
loop. What cannot be read, or is not allowed, is raised as a `ProblemError`.
"""
