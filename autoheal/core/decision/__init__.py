"""What is decided on it: one tick, from who changed what to what is sent."""
