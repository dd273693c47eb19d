"""`marserve bench`: a load generator, and what it and the server measured side by side.

A client: it knows the server by its ports alone.
"""
