"""What users hold: states, live mappings and sequences, schemas, transactions."""
