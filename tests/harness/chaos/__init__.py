"""The accounting harness: load that keeps books, faults with a seed, and a checker of both.

`ledger` is what clients saw, `journal` what handlers ran, `counters` what the server counted,
`leaks` what it left behind; `checker` compares them. `load` makes the requests, `faults` the
trouble, `relay` bad networks; `echo` starts the server with the fixture handler.
"""
