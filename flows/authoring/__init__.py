"""What people write flows with: `@flow`, `@step`, `@signal`, `@query`, and what a body awaits.

Called by user code, while it is defined and while it runs: on whichever thread drives the flow's machine, or
runs the step. What is wrong is said at the definition, before anything has happened. At run time a body gets
nothing from here but requests (`request`), which the machine meets; nothing here knows how.
"""
