"""``harness run`` and ``harness tune``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from harness.errors import UserError
from harness.experiment import read_experiment
from harness.options import experiment_options

EXIT_ALL_FAILED = 1


@click.command()
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


@click.command()
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
