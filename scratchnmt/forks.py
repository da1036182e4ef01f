"""What the forks of this process must not find half done by another thread."""

import os
import threading

no_fork = threading.Lock()  # inside `with`, no fork begins
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=no_fork.acquire, after_in_parent=no_fork.release, after_in_child=no_fork.release)
