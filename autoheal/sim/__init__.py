"""A simulated Swarm behind the same ports as the real one: seeded, with a clock of its own."""
