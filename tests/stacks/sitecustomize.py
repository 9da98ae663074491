"""Python imports this at the start of each process of a test; see `processes`."""

import faulthandler
import signal
import sys

if sys.stderr is not None:
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)
