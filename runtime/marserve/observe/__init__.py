"""What happened, as metrics and logs. Observers listen; nothing waits for them."""
