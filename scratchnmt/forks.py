"""A lock that keeps every fork of this process from beginning: for what another thread must not leave half done."""

import os
import threading

no_fork = threading.RLock()  # to be held for a moment, in which garbage may be collected, and with it what takes this
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=no_fork.acquire, after_in_parent=no_fork.release, after_in_child=no_fork.release)
