"""The boundary: whatever a command ends with becomes an exit status and at most one sentence on standard error.

| status | meaning |
|---|---|
| 0 | done |
| 2 | bad input or usage |
| 3 | the machine cannot: disk, memory, open files |
| 6 | a library found no memory and gave up by itself, after a sentence of its own |
| 70 | a fault of the program |
| 130, 143 | stopped by Ctrl-C, by SIGTERM |
| 141 | whoever read the output went away |
"""

from __future__ import annotations

import ctypes
import gc
import io
import os
import shlex
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType

from hardgnn.errors import TRACEBACK, MachineError, outcome
from hardgnn.processes.launch import Ended, quiet, several

READER_GONE = 128 + 13
STOPPED = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
LEAST_ROOM = 2 << 30  # bytes of addresses
GARBAGE = 20_000  # objects more than before, after which it is looked for
IMPORT_S = 10.0  # that a stop waits for an import
RUST_S = 1.0  # and for polars, whose Rust calls Python's code and panics, with a page of text, where that is stopped
LISTENING: list[signal.Signals] = []
GOES_ON = ("study", "sweep", "demo", "download")  # the same command again


def main() -> None:
    """Runs the command line and exits with its status."""
    heard = _listen()
    # Importing the libraries makes many objects and no garbage, which looking for takes a sixth of the time, and at
    # the end the system takes all of it back.
    gc.set_threshold(GARBAGE)
    try:
        status = ended(_command, sys.argv[1:], heard)
    finally:
        _stop_listening()
    if status and several():
        os._exit(status)  # what torch has running for processes of which one is gone may abort at the end of Python
    gc.freeze()
    sys.exit(status)


def _command() -> int:
    _open_streams()
    quiet()
    _end_where_libraries_abort()
    _check_room()
    from hardgnn.cli.app import run  # here, so that Ctrl-C during the imports is told as any other

    return run(sys.argv[1:])


def _check_room() -> None:
    """Refuses to begin where the libraries alone have no room: they would hang or crash.

    Raises:
        MachineError: the limit of the address space is too low.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit != resource.RLIM_INFINITY and limit < LEAST_ROOM:
        raise MachineError(
            f"the limit of this process's memory (ulimit -v) is {limit >> 20:,} MiB, and {LEAST_ROOM >> 20:,} are "
            "needed for the libraries alone"
        )


def _end_where_libraries_abort() -> None:
    """Rust and C++ abort where memory runs out: the process then ends with status 6 instead of a crash and a core."""
    with suppress(AttributeError, OSError):
        libc = ctypes.CDLL(None)
        libc.signal(signal.SIGABRT, ctypes.cast(libc._exit, ctypes.c_void_p))


def ended(command: Callable[[], int], words: Sequence[str], heard: Sequence[signal.Signals] = ()) -> int:
    """Runs a command and answers its exit status, after the one sentence that it may have to say.

    Args:
        command: answers its own status.
        words: what the user typed after `hardgnn`, to be told how it goes on.
        heard: the signals that came meanwhile.
    """
    try:
        status = command()
        from hardgnn.screen import clear

        clear()
        sys.stdout.flush()
        return status
    except BaseException as error:
        _stop_listening()
        from hardgnn.screen import clear

        clear()
        status, sentence = _outcome(error, heard, words)
        _say(error, sentence)
        return status


def _listen() -> list[signal.Signals]:
    """Ctrl-C and SIGTERM stop the command; answers those that came, also where a library swallows what they raise."""
    heard: list[signal.Signals] = []
    came: list[float] = []  # when

    def hear(number: int, frame: FrameType | None) -> None:
        heard.append(signal.Signals(number))
        came.append(time.monotonic())
        if came[-1] < came[0] + _patience(frame):
            _again(number)
        else:
            raise KeyboardInterrupt

    for one in STOPPED:
        if signal.getsignal(one) != signal.SIG_IGN:  # as nohup leaves it
            signal.signal(one, hear)
            LISTENING.append(one)

    def hear_again(unraisable: sys.UnraisableHookArgs) -> None:
        """Python only tells of what is raised while an object ends, and goes on."""
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            sys.__unraisablehook__(unraisable)
        elif LISTENING:
            _again(heard[-1])

    sys.unraisablehook = hear_again
    return heard


def _patience(frame: FrameType | None) -> float:
    """How many seconds a stop waits for what is going on: libraries swallow there what is raised, or abort."""
    longest = 0.0
    while frame is not None:
        name = frame.f_code.co_filename
        if name == "<frozen importlib._bootstrap>":
            longest = max(longest, IMPORT_S)
        elif f"{os.sep}polars{os.sep}" in name:
            longest = max(longest, RUST_S)
        frame = frame.f_back
    return longest


def _again(number: int) -> None:
    """Sends this process a signal once more, a little later, if it listens still."""

    def send() -> None:
        if LISTENING:
            os.kill(os.getpid(), number)

    threading.Timer(0.05, send).start()


def _stop_listening() -> None:
    """From here on a second Ctrl-C ends at once."""
    while LISTENING:
        signal.signal(LISTENING.pop(), signal.SIG_DFL)


def _outcome(error: BaseException, heard: Sequence[signal.Signals], words: Sequence[str]) -> tuple[int, str]:
    """The status and the sentence of a command that ended with `error`, after these signals."""
    if isinstance(error, Ended):  # the launcher then stops this process, too
        return outcome(error)
    if heard or isinstance(error, KeyboardInterrupt):
        stopped = heard[0] if heard else signal.SIGINT
        return 128 + stopped, STOPPED[stopped] + _how_it_goes_on(words)
    if isinstance(error, BrokenPipeError) or isinstance(error.__context__, BrokenPipeError):
        return READER_GONE, ""
    if isinstance(error, SystemExit):
        return (error.code, "") if isinstance(error.code, int) else (int(bool(error.code)), str(error.code or ""))
    return outcome(error)


def _how_it_goes_on(words: Sequence[str]) -> str:
    """The command that takes up what was stopped; empty where nothing goes on."""
    name = words[0] if words else ""
    if name == "train" and "--resume" not in words:
        words = [*words, "--resume"]
    elif name not in ("train", *GOES_ON) and not (name == "compare" and any(w.startswith("--peers") for w in words)):
        return ""
    how = ", started by the launcher as before" if several() else ""
    return f"; it goes on with: {shlex.join(['hardgnn', *words])}{how}"


def _say(error: BaseException, sentence: str) -> None:
    """One line on standard error, and with HARDGNN_TRACEBACK the traceback before it."""
    from hardgnn.screen import console, in_lines, printable

    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            _silence(stream)
    with suppress(OSError, ValueError):
        if sentence and os.environ.get(TRACEBACK):
            traceback.print_exception(error)
        if sentence:
            print(in_lines(f"error: {printable(sentence, sys.stderr)}", console), file=sys.stderr, flush=True)


def _open_streams() -> None:
    """Standard streams that are there, as nobody else's file either, and refuse no character."""
    from hardgnn.screen import REPLACED

    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number is this one
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # it was closed when Python began
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - as long as the process
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=REPLACED)


def _silence(stream: object) -> None:
    """Sends to nowhere what a stream still holds, so that Python does not stumble over it at its end."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())  # type: ignore[attr-defined]
        os.close(nowhere)
