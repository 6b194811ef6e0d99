"""The ``harness`` command."""

from __future__ import annotations

from typing import Any

import click

from harness import __version__
from harness.commands import machine, plugins, results, running
from harness.errors import UserError

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


for _command in (
    *(running.run, running.tune),
    *(plugins.list_, plugins.info, plugins.check, plugins.new),
    *(results.rows, results.compare, results.robustness, results.leaderboard, results.overview, results.export),
    *(machine.doctor, machine.cache),
):
    main.add_command(_command)
