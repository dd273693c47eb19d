"""Messages and services of the gRPC APIs: our `.proto` files, and what `scripts/protos` makes."""
