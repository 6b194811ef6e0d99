"""``harness rows``, ``compare``, ``robustness``, ``leaderboard``, ``overview`` and ``export``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from harness.errors import UserError


@click.command()
@click.argument("folder", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--format", "form", type=click.Choice(["table", "csv", "jsonl"]), default="table", show_default=True)
def rows(folder: tuple[Path, ...], form: str) -> None:
    """Print the rows of run folders or published leaderboards.

    \b
    Examples:
      harness rows runs/demo
      harness rows leaderboards/text-nano --format csv > rows.csv
    """
    from harness.leaderboard.rows import read_rows
    from harness.listing import rows_text

    click.echo(rows_text(read_rows(list(folder)), form), nl=False)


@click.command()
@click.argument("folder", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--baseline", default="uniform", show_default=True, help="Mixer that the others are compared with.")
def compare(folder: tuple[Path, ...], baseline: str) -> None:
    """Differences to a baseline mixer, paired by seed, with Holm's correction.

    \b
    Example:
      harness compare runs/demo --baseline natural
    """
    from harness.leaderboard.console import compare as compare_rows
    from harness.leaderboard.rows import read_rows

    click.echo(compare_rows(read_rows(list(folder)), baseline))


@click.command()
@click.argument("folder", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--in-distribution", "inside", required=True, help="Domains without a shift, with commas between them.")
@click.option("--shifted", required=True, help="Domains under the shift.")
@click.option("--metric", help="A share of 0 to 1, such as zero_shot_accuracy; by default the primary metric.")
@click.option("--family", default="uniform,natural,target,unimax", show_default=True,
              help="Mixers that the line is fitted to, by name or label.")  # fmt: skip
@click.option("--count", type=click.IntRange(1), default=1000, show_default=True,
              help="Examples behind an accuracy; half a count takes the place of 0 and 1.")  # fmt: skip
@click.option("--picture", type=click.Path(path_type=Path), help="PNG file to draw: both accuracies and the line.")
def robustness(
    folder: tuple[Path, ...], inside: str, shifted: str, metric: str | None, family: str, count: int,
    picture: Path | None,
) -> None:  # fmt: skip
    """Effective robustness: accuracy under a shift, less what the accuracy without it lets expect.

    The expectation is a line through the logits of a reference family's rows. It needs rows of differing accuracy:
    run the family at several --steps, and give all folders.

    \b
    Example:
      harness robustness runs/a runs/b --in-distribution animals,food --shifted flags --metric zero_shot_accuracy
    """
    from harness.inline import split_list
    from harness.leaderboard.robustness import robustness as measured
    from harness.leaderboard.robustness import table
    from harness.leaderboard.rows import read_rows

    found = measured(
        read_rows(list(folder)),
        inside=split_list(inside),
        shifted=split_list(shifted),
        metric=metric,
        family=family,
        count=count,
    )
    click.echo(table(found))
    if picture is not None:
        from harness.leaderboard.robustness_picture import robustness_picture

        try:
            picture.parent.mkdir(parents=True, exist_ok=True)
            picture.write_bytes(robustness_picture(found).png())
        except OSError as error:
            raise UserError(f"--picture {picture}: cannot be written ({error.strerror})") from None
        click.echo(f"\nwrote {picture}")


@click.command()
@click.argument("folder", nargs=-1, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), default=Path("leaderboards"), show_default=True,
              help="Folder of leaderboards.")  # fmt: skip
@click.option("--name", help="Name of the leaderboard, a folder below --out; by default task and preset.")
@click.option("--title", help="Headline of its page.")
@click.option("--check", is_flag=True, help="Regenerate every leaderboard below --out and fail on a difference.")
def leaderboard(folder: tuple[Path, ...], out: Path, name: str | None, title: str | None, check: bool) -> None:
    """Publish rows as a leaderboard: its rows, tables in Markdown and CSV, pictures.

    Rows are added to those that the leaderboard already has.

    \b
    Examples:
      harness leaderboard runs/text-nano --out leaderboards/ --name text-nano
      harness leaderboard --check
    """
    from harness.leaderboard.check import check as check_all
    from harness.leaderboard.publish import publish
    from harness.leaderboard.rows import read_rows

    if check:
        if problems := check_all(out):
            click.echo("\n".join(problems), err=True)
            sys.exit(1)
        click.echo(f"every leaderboard below {out} follows from its rows")
        return
    if not folder:
        raise UserError("name at least one run folder, for example: harness leaderboard runs/demo --out leaderboards/")
    found = read_rows(list(folder))
    name = name or "-".join(sorted({f"{row['spec']['task']}-{row['spec']['preset']}" for row in found}))
    page = publish(found, out, name, title)
    click.echo(f"wrote {page}")


@click.command()
@click.argument("folder", nargs=-1, type=click.Path(path_type=Path))
@click.option("--baseline", type=click.Choice(["natural", "uniform"]), default="natural", show_default=True,
              help="Mixer that the others are compared with.")  # fmt: skip
@click.option("--into", type=click.Path(path_type=Path, exists=True, dir_okay=False),
              help="Page that has the marks of an overview, in the place of the terminal.")  # fmt: skip
def overview(folder: tuple[Path, ...], baseline: str, into: Path | None) -> None:
    """One table over several leaderboards: did a mixer beat the baseline there?

    FOLDER: published leaderboards or run folders; by default all leaderboards below leaderboards/.

    \b
    Examples:
      harness overview
      harness overview leaderboards/text-nano runs/mine --baseline uniform
      harness overview --into docs/mixers.md
    """
    from harness.leaderboard.overview import boards, put_into
    from harness.leaderboard.overview import overview as made

    folders = list(folder) or boards(Path("leaderboards"))
    if not folders:
        raise UserError("no leaderboard below leaderboards/; name folders, for example: harness overview runs/demo")
    text = made(folders, baseline)
    if into is None:
        click.echo(text, nl=False)
    else:
        click.echo(f"{'wrote' if put_into(into, text) else 'nothing to change in'} {into}")


@click.command()
@click.argument("row", type=click.Path(path_type=Path))
@click.option("--id", help="Id of the row.")
@click.option("--task", help="Task, as the tables show it.")
@click.option("--partition", help="Partition, as the tables show it.")
@click.option("--mixer", help="Mixer, as the tables show it.")
@click.option("--seed", type=int, help="Seed.")
@click.option("--mean", is_flag=True, help="Mean over all seeds of one cell, in the place of one row.")
@click.option("--which", type=click.Choice(["final", "average", "schedule"]), default="final", show_default=True,
              help="Last mixture; mean of all, weighted by the steps in force; all with their steps.")  # fmt: skip
@click.option("--format", "form", type=click.Choice(["json", "interleave", "open_clip", "mosaicml"]), default="json",
              show_default=True, help="A schedule is written as json only.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), help="File to write, in the place of the terminal.")
def export(row: Path, mean: bool, which: str, form: str, out: Path | None, **wanted: Any) -> None:
    """Write the mixture of a finished trial in the form that a trainer takes.

    ROW is a row's file, a run folder or a published leaderboard; the options choose one row in it.

    \b
    Examples:
      harness export runs/demo/rows/text-demo-original-rnb-s0-0123456789.json
      harness export runs/demo --task text --partition original --mixer rnb --seed 0 --which schedule --out mixture.json
      harness export leaderboards/text-nano --partition original --mixer rnb --mean --format interleave --out mixture.py
      harness export runs/clip --mixer "rnb[lam=10]" --seed 0 --which average --format open_clip
    """
    from harness.export import export as exported

    click.echo(exported(row, which, form, mean=mean, out=out, **wanted), nl=False)
