import signal

from hypothesis import settings

# A busy machine makes single examples slow; the suite's own time limit still ends a hang.
settings.register_profile("nexus", deadline=None)
settings.load_profile("nexus")


def pytest_configure():
    """A shell has what it starts in the background ignore Ctrl-C, and with it our programs."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
