"""How files are written and read: whole or not at all, sealed, locked."""
