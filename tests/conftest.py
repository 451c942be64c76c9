"""What all tests share."""

pytest_plugins = ["rig.pytest_plugin"]
