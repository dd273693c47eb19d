"""Which model versions exist, which are wanted, and where their archives lie."""
