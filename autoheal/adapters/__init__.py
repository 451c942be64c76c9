"""What touches the world, behind the protocols of ports.py."""
