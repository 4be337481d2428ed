"""One Ctrl-C ends the command within seconds, whatever the main thread is waiting for."""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import typer

from jifv.cli.errors import complain

CODE = 130
"""Exit code after Ctrl-C, by convention 128 and the number of the signal."""

KEPT = "jifv: interrupted; finished batches are kept, and the same command goes on from there"
"""What to tell the user of a command that stores batches."""

_GRACE = 3.0  # seconds


@contextmanager
def interruptible(message: str) -> Iterator[None]:
    """End the process after Ctrl-C: in order if the main thread gets there within seconds, at once if it does not.

    Python tells the main thread of Ctrl-C only between two instructions, and a compilation or a compiled program is a
    single one that can take minutes. So a second thread waits for the signal too. Ending at once loses nothing: a
    store has every finished batch, however the process ends.

    Args:
        message: What to tell the user.

    Raises:
        typer.Exit: There was a `KeyboardInterrupt` without a signal.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may ask for signals
        return
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    pressed, telling = threading.Event(), threading.Lock()

    def press(number: int, frame: FrameType | None) -> None:
        if not pressed.is_set():  # one is enough, and a second one would disturb the end
            pressed.set()
            handler(number, frame)

    handler: Any = signal.getsignal(signal.SIGINT)
    if callable(handler):  # and not ignored, as in the background
        signal.signal(signal.SIGINT, press)
    threading.Thread(target=_watch, args=(ours, message, telling), daemon=True).start()
    before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    try:
        yield
    except KeyboardInterrupt:
        if not telling.acquire(blocking=False):
            threading.Event().wait()  # for the other thread, which ends the process
        complain(message)
        if pressed.is_set():
            # An orderly end of the interpreter would wait for JAX's computations.
            _end()
        raise typer.Exit(CODE) from None
    finally:
        signal.set_wakeup_fd(before)
        if callable(handler):
            signal.signal(signal.SIGINT, handler)
        theirs.close()  # which ends the watch, unless it has seen the signal


def _watch(wake: socket.socket, message: str, telling: threading.Lock) -> None:
    with wake:
        while (received := wake.recv(1)) and received[0] != signal.SIGINT:
            pass
    if received:
        time.sleep(_GRACE)
        if telling.acquire(blocking=False):  # else the main thread tells, and ends the process
            complain(message)
            _end()


def _end() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(CODE)
