"""What is done to whole stores: backup, export and import.

For command lines and operators. Each runs on its caller's thread, for as long as it takes, beside an engine
that commits at full speed. Each is all or nothing: when it fails or is interrupted, there is no half file
under the name that was asked for.
"""
