"""The command line: one small file per family of commands, each with `add(verbs)`.

Progress, warnings and errors go to stderr; what a command is asked for goes to stdout.
"""
