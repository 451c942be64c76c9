"""A Swarm in a terminal: the real loops on a simulated Swarm, and what a person sees of it."""
