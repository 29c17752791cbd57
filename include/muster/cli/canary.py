"""Commands about canaries: canary write."""

from __future__ import annotations

import click

from muster.cli.session import Session
from muster.cli.wording import moment
from muster.codec import to_json


@click.group()
def canary() -> None:
    """Leave the time where it is looked for after a restore."""


@canary.command()
@click.argument("workload")
@click.pass_obj
def write(session: Session, workload: str) -> None:
    """Write the canary of WORKLOAD into its registry.

    It takes the place of the one before. The catalog must want it: canary: {every: 5m}.
    """
    written = session.platform.write_canary(session.catalog.workload(workload))
    assert written.at is not None  # noqa: S101 - it was just written
    session.screen.result(to_json(written), f"wrote the canary {written.id[:12]} of {moment(written.at)}")
