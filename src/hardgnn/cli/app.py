"""The command line: its commands, and what all of them begin with; no logic."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any

import typer

from hardgnn.cli import evaluating, logs, serving, studies, training
from hardgnn.cli import peers as others
from hardgnn.errors import HardGNNError, shown
from hardgnn.processes.launch import alone
from hardgnn.screen import say, wait
from hardgnn.version import __version__
from hardgnn.wording import typed

COMMANDS = (
    logs.download,
    logs.prepare,
    training.presets,
    training.train,
    training.ensemble,
    evaluating.evaluate,
    evaluating.compare,
    serving.recommend,
    serving.export,
    serving.verify,
    evaluating.report,
    serving.serve,
    studies.study,
    studies.sweep,
    others.leaderboard,
    studies.inspect,
    logs.simulate,
    training.demo,
)
USAGE_ERROR: Any = typer.BadParameter.__bases__[0]  # of all that the parser refuses; Typer has no name for it
HELP = ("-h", "--help")
COMPLETING = "_HARDGNN_COMPLETE"  # as shells ask for words that may follow
app = typer.Typer(
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": [*HELP]},
)
for one in COMMANDS:
    app.command()(one)


def _version(asked: bool) -> None:
    if asked:
        print(f"hardgnn {__version__}")
        raise typer.Exit


@app.callback()
def hardgnn(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Tells the version and ends.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Sequential recommendation with SelfGNN and HardGNN, honestly measured."""
    if context.invoked_subcommand not in (None, "train"):
        alone(str(context.invoked_subcommand))


def run(words: Sequence[str]) -> int:
    """Runs the command that `words` name and answers its exit status.

    Raises:
        HardGNNError: bad usage, told in one sentence that names the command's help; or what the command raises.
    """
    if COMPLETING in os.environ:
        app(prog_name="hardgnn")
    warnings.showwarning = lambda message, *_, **__: say(f"warning: {message}")
    _check_words(words)
    command = typer.main.get_command(app)
    try:
        with typed(), command.make_context("hardgnn", list(words) or ["--help"]) as context:
            if not set(HELP) & set(words):
                wait("loading the libraries")
            command.invoke(context)
    except typer.Exit as done:
        return done.exit_code
    except USAGE_ERROR as error:
        raise HardGNNError(_usage(error)) from None
    return 0


def _check_words(words: Sequence[str]) -> None:
    """Refuses empty words, which as a path would mean the folder one is in, as where a shell variable is not set.

    And names that are not UTF-8: polars cannot open them, or would write under another name.

    Raises:
        HardGNNError: names the word, or what is before it, or the folder one is in.
    """
    for before, word in zip(["hardgnn", *words], words):
        name, equals, value = word.partition("=")
        if not word or (equals and not value and re.fullmatch(r"--[a-z-]+", name)):
            raise HardGNNError(f"nothing is given after '{name or before}'; leave it out, or name what is meant")
    places = list(words)
    with suppress(OSError):
        places.append(os.getcwd())
    for name in places:
        with suppress(UnicodeError):
            if os.fsencode(name) == name.encode("utf-8"):
                continue
        raise HardGNNError(f"{shown(name)}: a name that is not UTF-8 text; rename it, or use a link with another name")


def _usage(error: Any) -> str:
    """What the parser refuses, in our words' style."""
    text = str(error.format_message()).rstrip(".")
    context = getattr(error, "ctx", None)
    told = text[:1].lower() + text[1:]
    if extra := re.fullmatch(r"got unexpected extra argument(?:s|\(s\))? \(([a-z]\w*(?:\.\w+)*=\S*)( .*)?\)", told):
        return f"each setting has a --set of its own: --set {extra[1]}"
    return f"{told}; see `{context.command_path if context else 'hardgnn'} --help`"
