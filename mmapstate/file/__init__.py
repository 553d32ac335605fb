"""One state file: its bytes, the system calls, and one process's replica of it."""
