"""What the gateway does all the time: poll, listen, keep and send."""
