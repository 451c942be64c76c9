"""Autoheal: a deterministic control loop for Docker Swarm."""

__version__ = "0.1.0"
