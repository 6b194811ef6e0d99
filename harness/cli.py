"""The ``harness`` command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from harness import __version__
from harness.errors import UserError
from harness.experiment import read_experiment
from harness.options import experiment_options

EXIT_ALL_FAILED = 1
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130


class _Command(click.Group):
    """A group whose user errors are one line and exit code 2, whatever command they come from."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            click.echo(f"error: {error}", err=True)
            ctx.exit(EXIT_USER_ERROR)
        except KeyboardInterrupt:
            click.echo("interrupted; the same command goes on from here", err=True)
            ctx.exit(EXIT_INTERRUPTED)


@click.group(cls=_Command, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="mixoff")
def main() -> None:
    """Mixoff: compare data-mixing algorithms under one referee.

    \b
    Examples:
      harness run --preset demo --mixers uniform,natural,target,rnb --partitions original,kmeans --out runs/demo
      harness compare runs/demo --baseline uniform
      harness leaderboard runs/demo --out leaderboards/
    """


@main.command()
@click.argument("experiment", required=False, type=click.Path(path_type=Path))
@experiment_options
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/last"), show_default=True,
              help="Run folder; a run that was stopped goes on there.")  # fmt: skip
@click.option("--extend", multiple=True, type=click.Path(path_type=Path),
              help="Published leaderboard or run folder to go on from: its rows count as done.")  # fmt: skip
@click.option("--dry-run", is_flag=True,
              help="Say what would run and what it needs, and check that it is there; exit code 2 if not.")  # fmt: skip
@click.option("--retry", is_flag=True, help="Run trials again that did not end with status ok.")
def run(experiment: Path | None, out: Path, dry_run: bool, retry: bool, extend: tuple[Path, ...], **flags: Any) -> None:
    """Run a grid of trials: every task x partition x mixer x seed that has no row yet.

    EXPERIMENT is a YAML file with the same keys as the flags, or the name of a built-in one; flags win. A trial that
    fails is a row with its reason, and the rest goes on; exit code 1 where every trial failed.

    \b
    Examples:
      harness run --preset nano --mixers "uniform,rnb,rnb[lam=10]" --partitions "kmeans[k=8]" --seeds 5 --out runs/k8
      harness run --tasks "text[path=my_corpus.jsonl]" --preset nano --out runs/mine
      harness run experiment.yaml --workers 2
      harness run paper/dolly --dry-run
      harness run --extend leaderboards/text-nano --preset nano --mixers "uniform,mine" --plugin mine.py --seeds 5
    """
    from harness.builtin import find_experiment
    from harness.caches import cache_root
    from harness.leaderboard.console import terminal_table
    from harness.leaderboard.rows import read_rows
    from harness.plan import dry_run as plan
    from harness.run import run_experiment

    if not flags["plugin"]:
        flags["plugin"] = None
    console = Console()
    spec = read_experiment(None if experiment is None else find_experiment(experiment), flags)
    if dry_run:
        text, ready = plan(spec, out, cache_root())
        click.echo(text)
        if not ready:
            raise UserError("something that this run needs is missing, see above")
        return
    grid = {trial.id for trial in run_experiment(spec, out, console, retry=retry, extend=extend)}
    click.echo()
    click.echo(terminal_table(read_rows([out])))
    if not any(row["status"] == "ok" for row in read_rows([out]) if row["id"] in grid):
        click.echo(f"error: every trial failed; `harness rows {out}` shows why, `--retry` runs them again", err=True)
        sys.exit(EXIT_ALL_FAILED)
    click.echo(f"\nNext: harness compare {out} --baseline uniform | harness leaderboard {out} --out leaderboards/")


@main.command()
@click.argument("experiment", required=False, type=click.Path(path_type=Path))
@experiment_options
@click.option("--tries", type=click.IntRange(1), default=8, show_default=True,
              help="Settings tried of every mixer, its own among them; published tables: 8.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/tune"), show_default=True,
              help="Run folder; tuning that was stopped goes on there.")  # fmt: skip
def tune(experiment: Path | None, tries: int, out: Path, **flags: Any) -> None:
    """Choose every mixer's hyperparameters by the same number of tries, on validation and on seeds of their own.

    Writes OUT/tuned.yaml, which `harness run` takes. docs/tuning.md has the rules.

    \b
    Examples:
      harness tune --tasks multimodal --preset nano --mixers "odm,doremi[proxy_share=0.5]" --out runs/tune
      harness run runs/tune/tuned.yaml --out runs/tuned
    """
    from harness.builtin import find_experiment
    from harness.tuning import FIRST_SEED, table
    from harness.tuning import tune as tune_mixers

    flags["plugin"] = flags["plugin"] or None
    flags["seeds"] = flags["seeds"] or f"{FIRST_SEED},"
    spec = read_experiment(None if experiment is None else find_experiment(experiment), flags)
    tried, file = tune_mixers(spec, out, Console(), count=tries)
    click.echo(f"\n{table(tried)}\n\nNext: harness run {file} --out {out}-reported")


@main.command(name="list")
@click.argument("what", required=False, type=click.Choice(["tasks", "mixers", "regroupers", "presets", "experiments"]))
@click.option("--plugin", multiple=True, type=click.Path(path_type=Path), help="Python file with further plugins.")
def list_(what: str | None, plugin: tuple[Path, ...]) -> None:
    """List tasks, mixers, regroupers, presets or built-in experiments, with where each comes from.

    \b
    Examples:
      harness list
      harness list mixers --plugin my_mixer.py
    """
    from harness.listing import listing

    click.echo(listing(what, plugin))


@main.command()
@click.argument("name")
@click.option("--plugin", multiple=True, type=click.Path(path_type=Path), help="Python file with further plugins.")
def info(name: str, plugin: tuple[Path, ...]) -> None:
    """Describe one mixer, regrouper or task: source, parameters, defaults.

    \b
    Example:
      harness info rnb
    """
    from harness.listing import description

    click.echo(description(name, plugin))


@main.command()
@click.argument("target", metavar="MIXER|FILE|PACKAGE")
@click.option("--plugin", multiple=True, type=click.Path(path_type=Path), help="Python file with further plugins.")
def check(target: str, plugin: tuple[Path, ...]) -> None:
    """Check that a mixer keeps what every mixer must, in seconds: mixtures, masks, state, inputs, cost.

    Takes a mixer, a file or an installed package with mixers. Exit code 1 where a check fails; its line says how to
    mend it. docs/add-a-mixer.md lists the checks.

    \b
    Examples:
      harness check "rnb[lam=10]"
      harness check my_mixer.py
    """
    from harness.conformance import check as reports

    failed = 0
    for report in reports(target, plugin):
        click.echo(report.text)
        failed += len(report.failures)
    sys.exit(1 if failed else 0)


@main.group()
def new() -> None:
    """Write the skeleton of a plugin with its test.

    \b
    Example:
      harness new mixer my_mixer
    """


@new.command()
@click.argument("name")
@click.option("--out", type=click.Path(path_type=Path), default=Path(), show_default=True, help="Folder to write into.")
def mixer(name: str, out: Path) -> None:
    """Write NAME.py and test_NAME.py: a mixer that runs and passes its checks as it stands.

    \b
    Example:
      harness new mixer my_mixer --out plugins/
    """
    from harness.scaffold import new_mixer

    file, test = new_mixer(name, out)
    click.echo(f"wrote {file} and {test}\nNext: harness check {file} | python -m pytest {test} | docs/add-a-mixer.md")


@main.command()
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


@main.command()
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


@main.command()
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


@main.command()
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


@main.command()
def doctor() -> None:
    """Say what this installation can do: versions, devices, data packages, caches.

    \b
    Example:
      harness doctor
    """
    from harness.doctor import report

    click.echo(report())


@main.command()
@click.option("--clear", is_flag=True, help="Delete everything in the cache; only time is lost.")
def cache(clear: bool) -> None:
    """Say where the caches are and how large, or empty them.

    \b
    Example:
      harness cache --clear
    """
    from harness.caches import cache_root, report
    from harness.caches import clear as clear_cache

    root = cache_root()
    click.echo(f"freed {clear_cache(root) / 1e6:.1f} MB in {root}" if clear else report(root))
