"""Wire formats to the one vocabulary of data and back. Pure: no sockets, no lookups."""
