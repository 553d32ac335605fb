"""Look after state files as files: check, repair, info."""
