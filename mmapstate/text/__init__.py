"""YAML and JSON text to plain data and back; a text is changed only where the state has changed."""
