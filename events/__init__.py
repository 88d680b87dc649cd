"""What can be said: one frozen model per event, their topics, the CloudEvents codec."""
