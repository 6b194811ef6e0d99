"""``harness doctor`` and ``harness cache``."""

from __future__ import annotations

import click


@click.command()
def doctor() -> None:
    """Say what this installation can do: versions, devices, data packages, caches.

    \b
    Example:
      harness doctor
    """
    from harness.doctor import report

    click.echo(report())


@click.command()
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
