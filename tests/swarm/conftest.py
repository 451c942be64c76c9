"""Tests here run on a real Swarm; their marker and fixtures come from rig.pytest_plugin."""
