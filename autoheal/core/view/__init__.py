"""What is known: the recent past folded from the streams, and what conditions read in it."""
