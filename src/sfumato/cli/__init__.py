"""The command line: flags, errors, progress, files; no algorithm."""
