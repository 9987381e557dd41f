"""Operations on whole stores: backup, export and import.

For command lines and operators. Each runs on its caller's thread, beside an engine that commits at full
speed. Each is all or nothing: if it fails or is interrupted, there is no half file under the target's name.
"""
