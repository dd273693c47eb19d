"""A MarServe handler that answers text in capitals."""
