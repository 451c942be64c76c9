"""What all tests share."""

import signal

pytest_plugins = ["rig.pytest_plugin"]

# Whoever runs the tests in the background may have these ignored, and then so would every process
# that a test starts. A handler that does nothing is not inherited.
for _number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, lambda *_: None)
