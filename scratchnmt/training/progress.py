"""A training run and who watches it: a bar on a terminal, now and then a line elsewhere; and Ctrl-C.

Ctrl-C ends a run between two steps rather than in the middle of one.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from contextlib import AbstractContextManager
from typing import Any, TextIO

from ..errors import require
from ..streams import Messages

LOSS = ("loss", "expected risk per sentence")  # what the figure is, the second in minimum risk training


class Progress:
    """Shows epoch, loss, target tokens per second and time left, on `stream` (standard error)."""

    def __init__(self, *, total_steps: int | None, step: int = 0, minutes_left: float | None = None,
                 log_every: int = 100, stream: TextIO | None = None):
        self.stream = Messages(stream or sys.stderr)
        self.total_steps = total_steps
        self.log_every = log_every
        self.steps = 0  # since `started`, as are nats and tokens
        self.nats = 0.0
        self.tokens = 0
        self.sentences = 0.0  # of which nats are the expected risk; 0: they are nats, of the tokens
        self.started = time.perf_counter()
        self.deadline = None if minutes_left is None else self.started + 60 * minutes_left
        self.bar: Any = None
        if self.stream.isatty():
            tqdm = require("tqdm", extra="train").tqdm
            self.bar = tqdm(total=total_steps, initial=step, unit="step", file=self.stream,
                            dynamic_ncols=True, smoothing=0.05, mininterval=0.25)

    def update(self, step: int, epoch: int, nats: float, tokens: int, sentences: int = 0) -> None:
        """A step is done: its number, the epoch it was in (from 1), its loss and target tokens.

        sentences: in minimum risk training, those whose expected risk the loss is.
        """
        self.steps += 1
        self.sentences += sentences
        self.nats += nats
        self.tokens += tokens
        if self.bar is None:
            if step % self.log_every == 0:
                self.say(f"epoch {epoch}, step {step}: {self._figures(step)}")
                self._restart()
            return
        self.bar.set_description_str(f"epoch {epoch}", refresh=False)
        self.bar.set_postfix_str(self._figures(step), refresh=False)
        self.bar.update()
        if self.steps >= self.log_every:
            self._forget_half()

    def say(self, line: str) -> None:
        """Show a line that stays."""
        if self.bar is None:
            print(line, file=self.stream, flush=True)
        else:
            self.bar.write(line, file=self.stream)

    def pause(self) -> None:
        """Something else takes time now: do not count it as slow training."""
        self._restart()

    def close(self) -> None:
        """The bar stays as it is."""
        if self.bar is not None:
            self.bar.close()

    def _restart(self) -> None:
        self.steps, self.nats, self.tokens, self.sentences = 0, 0.0, 0, 0.0
        self.started = time.perf_counter()

    def _forget_half(self) -> None:
        now = time.perf_counter()
        self.steps, self.nats, self.tokens = self.steps // 2, self.nats / 2, self.tokens // 2
        self.sentences /= 2
        self.started = now - (now - self.started) / 2

    def _figures(self, step: int) -> str:
        now = time.perf_counter()
        seconds = max(now - self.started, 1e-9)
        mean = self.nats / max(self.sentences or self.tokens, 1)
        shown = [f"{LOSS[self.sentences > 0]} {mean:.3f}", f"{self.tokens / seconds:,.0f} tokens/s"]
        left = []
        if self.total_steps is not None and self.bar is None:
            left.append((self.total_steps - step) * seconds / max(self.steps, 1))
        if self.deadline is not None:
            left.append(self.deadline - now)
        if left:
            shown.append(f"at most {duration(min(left))} left")
        return ", ".join(shown)


def duration(seconds: float) -> str:
    """75 -> "1:15", 3675 -> "1:01:15"."""
    minutes, rest = divmod(int(max(seconds, 0) + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows lacks the last one
_SIGNALS = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
_SAME_REQUEST = 0.5  # seconds in which whoever asks once may send several signals


class Interrupted(Exception):
    """Somebody asked the program to stop, and now is a good moment."""


class Interrupts(AbstractContextManager["Interrupts"]):
    """Inside `with`, a first Ctrl-C (SIGTERM, SIGHUP) only makes `check` raise Interrupted; a second ends at once.

    One that comes with the first only asks, too: `timeout` sends SIGTERM to its child and to its process group.  So
    does any SIGHUP: of a terminal that is closed both the system and the shell tell, now or later.  What is ignored, as
    `nohup` and scripts have it, stays so; so does a signal that a program around Python handles.  In a thread other
    than the main one, which receives no signals, nothing is done.
    """

    def __init__(self) -> None:
        self.requested, self._asked = False, 0.0  # when, once it is requested
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        self.requested, self._previous = False, {}
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                handler = signal.getsignal(number)
                if handler not in (None, signal.SIG_IGN):
                    self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raise Interrupted if it was asked for."""
        if self.requested:
            raise Interrupted

    def _note(self, number: int, _: Any) -> None:
        if not self.requested:
            self._asked, self.requested = time.monotonic(), True
        elif number != getattr(signal, "SIGHUP", None) and time.monotonic() - self._asked > _SAME_REQUEST:
            self.__exit__()
            signal.raise_signal(number)
