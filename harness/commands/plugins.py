"""``harness list``, ``info``, ``check`` and ``new``."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command(name="list")
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


@click.command()
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


@click.command()
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


@click.group()
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
