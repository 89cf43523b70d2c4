"""The commands that use a trained run: recommend, export, serve; it parses, calls and prints."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hardgnn.cli.options import Json
from hardgnn.cli.progress import users_bar
from hardgnn.cli.terminal import print_json, print_line, print_table
from hardgnn.errors import HardGNNError
from hardgnn.screen import console, say, wait

if TYPE_CHECKING:
    import polars as pl

    from hardgnn.recommend.shards import Shard, Wanted


def recommend(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    n: Annotated[int, typer.Option("--n", min=1, help="Items per user.")] = 10,
    user: Annotated[list[str] | None, typer.Option(help="A raw user id; may be repeated.")] = None,
    users_file: Annotated[
        Path | None, typer.Option(help="A raw user id per line, or .parquet: the column user, or the only one.")
    ] = None,
    all_users: Annotated[bool, typer.Option("--all-users", help="All users of the run.")] = False,
    items: Annotated[
        str | None,
        typer.Option(help="Recent raw item ids, oldest first: ID,ID,…; with users they come after what is known."),
    ] = None,
    events: Annotated[
        Path | None,
        typer.Option(help="A log of what users had since (user, item, perhaps time); alone it names the users too."),
    ] = None,
    exclude_seen: Annotated[bool, typer.Option(help="Leave out what is in the user's history.")] = True,
    allow_items: Annotated[Path | None, typer.Option(help="A file of the only items to recommend.")] = None,
    block_items: Annotated[Path | None, typer.Option(help="A file of items never to recommend.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write .parquet or .csv instead of printing; with --shard a folder.")
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(help="One of n parts of the users, as in 1/8 to 8/8, a file of its own in the folder --out."),
    ] = None,
    format_: Annotated[str | None, typer.Option("--format", help="Of the files of shards: parquet or csv.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Make the shard anew though it is there already.")
    ] = False,
    csv_safe: Annotated[
        bool, typer.Option("--csv-safe", help="In a .csv put ' before ids that a spreadsheet would run as formulas.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Top-n in raw ids, for users known and unknown, with newer items, or after a bare list of recent items.

    The column source tells what the score is made of: user+sequence (what is learnt of the user, and their recent
    items), user (that alone), sequence (recent items alone: of everybody where the model has nothing of single users,
    as best; otherwise of an unknown user) or popularity (nothing is known, or the model is the same for everybody).

    Example: `hardgnn recommend runs/hardgnn --users-file users.txt --n 20 --out recs.parquet`
    """
    import polars as pl

    from hardgnn.arguments import together
    from hardgnn.data.events import read_events
    from hardgnn.recommend.answers import write_blocks
    from hardgnn.recommend.ids import read_ids_file
    from hardgnn.recommend.recommender import Choice, Recommender
    from hardgnn.recommend.shards import Wanted
    from hardgnn.runtime import use_threads

    one = _shard_of(shard, out, bool(items), format_ is not None or overwrite)
    chosen = pl.Series("user", user or [], dtype=pl.String)
    if users_file is not None:
        chosen = pl.concat([chosen, read_ids_file(users_file, "user")])
    recent = [one.strip() for one in (items or "").split(",") if one.strip()]
    if all_users and len(chosen):
        raise HardGNNError("--all-users leaves no room for --user and --users-file")
    if not (len(chosen) or all_users or recent or events):
        raise HardGNNError("recommend needs --user, --users-file, --all-users, --events or --items")
    together(2 if all_users else chosen.n_unique() or 1, recent or None, events)
    if csv_safe and out is None:
        raise HardGNNError("--csv-safe goes with --out NAME.csv")
    choice = Choice(
        exclude_seen,
        read_ids_file(allow_items, "item") if allow_items else None,
        read_ids_file(block_items, "item") if block_items else (),
    )
    newer = None if events is None else read_events(events, lambda sentence: say(f"warning: {sentence}"))
    users = chosen.unique(maintain_order=True) if len(chosen) else None
    if newer is not None and users is None and not all_users:
        users = newer["user"].unique(maintain_order=True)
    wait(f"reading {run}")
    use_threads(0)
    if one is not None and out is not None:
        ending = format_ or ("csv" if csv_safe else "parquet")
        wanted = Wanted(**vars(choice), n=n, users=users, events=newer, format=ending, csv_safe=csv_safe)
        _recommend_shard(run, out, one, wanted, overwrite, as_json)
        return
    recommender = Recommender(run, say=lambda sentence: say(f"warning: {sentence}"))
    with users_bar("recommend") as bar:
        tables = recommender.blocks(users, n, choice, items=recent or None, events=newer, progress=bar)
        if out is not None:
            write_blocks(tables, out, csv_safe)
        else:
            table = pl.concat(list(tables))
    if out is not None:
        print_json({"out": str(out)}) if as_json else print_line(out)
    elif as_json:
        print_json(table.to_dicts())
    else:
        _print_recommended(run, table)


def _print_recommended(run: Path, table: pl.DataFrame) -> None:
    named = [name for name in ("user", "item", "title") if name in table.columns]
    columns = [*named, *(name for name in table.columns if name not in named)]
    rows = [
        [f"{value:.4f}" if isinstance(value, float) else str("" if value is None else value) for value in row]
        for row in table.select(columns).iter_rows()
    ]
    print_table(str(run), columns, rows, texts=len(named))


def _shard_of(text: str | None, out: Path | None, items: bool, others: bool) -> Shard | None:
    """The shard that is asked for, and what goes with it; None where none is.

    Args:
        text: of --shard.
        out: the folder.
        items: whether --items is given.
        others: whether options are given that are for shards alone.
    """
    from hardgnn.recommend.shards import Shard

    if text is None:
        if others:
            raise HardGNNError("--format and --overwrite are for shards: name one with --shard i/n")
        return None
    shard = Shard.parse(text)
    if items:
        raise HardGNNError("--items are those of one user, of whom there are no shards")
    if out is None:
        raise HardGNNError(f"--shard {shard} needs --out FOLDER, the same for all shards")
    return shard


def _recommend_shard(run: Path, out: Path, shard: Shard, wanted: Wanted, overwrite: bool, as_json: bool) -> None:
    """Writes one shard and says how many there are."""
    from hardgnn.recommend.shards import MANIFEST, recommend_shard

    def warned(sentence: str) -> None:
        say(f"warning: {sentence}")

    with users_bar(f"shard {shard}") as bar:
        done = recommend_shard(run, out, shard, wanted, overwrite=overwrite, say=warned, progress=bar)
    if as_json:
        print_json(done)
        return
    print_line(done["file"] if done["made"] else f"{done['file']} was there already")
    there = f"all {shard.of:,} shards are there, as {out / MANIFEST} says"
    say(there if done["there"] == shard.of else f"{done['there']:,} of {shard.of:,} shards are there")


def export(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    index: Annotated[bool, typer.Option(help="Build an index for approximate search (hardgnn[ann]).")] = True,
    n: Annotated[int, typer.Option("--n", min=1, help="Length of the lists whose recall is measured.")] = 10,
    expansion: Annotated[
        int, typer.Option(min=1, help="Candidates that a search keeps: more finds more and takes longer.")
    ] = 128,
    as_json: Json = False,
) -> None:
    """What another system needs to score as the run does, as Parquet; an index for approximate search where vectors do.

    Example: `hardgnn export runs/hardgnn --out export`
    """
    from hardgnn.recommend.export import export as run_export

    with users_bar("index", "items") as bar:
        document = run_export(run, out, index=index, n=n, expansion=expansion, progress=bar)
    if as_json:
        print_json({"out": str(out), **document})
        return
    print_line(f"{out}: {document['items']:,} items and {document['users']:,} users, {document['dim']} numbers each")
    print_line(f"score: {document['score']}")
    if index and "index" not in document:
        say("no index: the scores are no inner products of two vectors alone, so a search would find other items")
    if "index" in document:
        print_line(f"recall@{n} against exact search: {document['index']['recall']:.4f}")


def serve(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    host: Annotated[str, typer.Option(help="Where to listen; only this machine by default.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, max=256, help="Processes that answer; they share the run.")] = 1,
    token_file: Annotated[
        Path | None, typer.Option(help="A file with the token that everything but health asks for.")
    ] = None,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            help="A name that requests may be sent to, beside localhost, the host and any address; * allows all."
        ),
    ] = None,
    approximate: Annotated[
        Path | None, typer.Option(help="Search the index that `hardgnn export` wrote to this folder.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds for one request at most.")] = 10.0,
    max_body: Annotated[int, typer.Option(min=1024, help="Bytes of a request's body at most.")] = 2**20,
    access_log: Annotated[bool, typer.Option(help="A line of log for each request.")] = True,
    watch: Annotated[
        float,
        typer.Option(
            min=0, max=86_400, help="Look every so many seconds whether RUN is another run, as a link to the newest."
        ),
    ] = 0.0,
    drain: Annotated[
        float, typer.Option(min=0, max=86_400, help="Seconds to answer on after SIGTERM, while /readyz says 503.")
    ] = 0.0,
) -> None:
    """Recommendations over HTTP, with a page to look at; SIGHUP reads the run folder anew.

    Example: `hardgnn serve runs/hardgnn --port 8000`
    """
    if not all(map(importlib.util.find_spec, ("fastapi", "uvicorn", "prometheus_client"))):
        raise HardGNNError("serve needs an extra: pip install 'hardgnn[serve]'")
    from hardgnn.serve.logs import log_json
    from hardgnn.serve.state import Settings, allowed_hosts, read_token
    from hardgnn.serve.supervisor import Supervisor

    log_json()
    token = None if token_file is None else read_token(token_file)
    settings = Settings(token, max_body, timeout, access_log, allowed_hosts(host, allowed_host or ()))
    service = Supervisor(run, host, port, workers, settings, approximate, ready=open_page, watch_s=watch, drain_s=drain)
    if console.is_terminal:  # elsewhere standard error is for the log, a document a line
        say(f"reading {run}, to be served at {page_of(service.address)}; Ctrl-C ends it")
    service.serve()


def open_page(address: str) -> None:
    """Says where the page is, once it answers."""
    print_line(f"open {page_of(address)}")
    sys.stdout.flush()


def page_of(address: str) -> str:
    """The address that a browser on this machine opens; one that listens everywhere is none."""
    return address.replace("//0.0.0.0:", "//localhost:").replace("//[::]:", "//localhost:")


def verify(
    folders: Annotated[
        list[Path], typer.Argument(help="Prepared folders, runs, studies, exports, downloads or shards.")
    ],
    as_json: Json = False,
) -> None:
    """Compares every file with what was written, by the hashes that stand beside them; tells how far each run is.

    Example: `hardgnn verify data/ml-100k runs/hardgnn`
    """
    from hardgnn.verify import verify_all

    wait("reading every file")
    found = verify_all(folders)
    wrong = [one for one in found if one.problem]
    if as_json:
        rows = [{"path": str(one.path), "what": one.what, "state": one.state} for one in found]
        print_json([row | {"problem": one.problem or None} for row, one in zip(rows, found)])
    else:
        lines = [[str(one.path), one.what, one.state] for one in found]
        print_table(f"{len(found)} checked", ["path", "what", "state"], lines, texts=2)
    if wrong:
        more = f" ({len(wrong)} of {len(found)} are not ok)" if len(wrong) > 1 else ""
        raise HardGNNError(f"{wrong[0].problem}{more}")
