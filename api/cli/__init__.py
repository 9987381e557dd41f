"""The command `persistasaurus`.

Each command runs in a process of its own, on its main thread. It ends with an exit code from
`output.exit_codes`. An error is one line on standard error; a traceback is a defect.
"""
