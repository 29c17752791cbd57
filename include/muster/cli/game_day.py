"""Commands of a game day: gameday start, hint, detect, decide, restore, end."""

from __future__ import annotations

from collections.abc import Sequence

import click

from muster.cli.drills import reach
from muster.cli.session import Session
from muster.codec import to_json
from muster.domain.faults import BY_NAME, OUTCOMES
from muster.domain.game_day import GameDay


@click.group()
def gameday() -> None:
    """Train with a fault that nobody names.

    Something breaks in a sandbox, and the clock runs. Find out what, say what must come of it, restore; hints cost points.
    """


@gameday.command()
@click.argument("workload")
@click.option("--point", default="latest", show_default=True, help="The point that is to be restored.")
@click.option("--seed", type=int, help="Makes the same game again.")
@click.pass_obj
def start(session: Session, workload: str, point: str, seed: int | None) -> None:
    """Let something break, and start the clock."""
    from muster.drills.game_day import begin

    vault, status = session.find(point, workload)
    game = begin(session.platform, vault, status, seed, reach(session, vault, workload))
    _tell(session, game, f"{game.began_at:%H:%M:%S}Z: the alarm went off for {workload}.", game.symptom, "", *_HOW)


_HOW = (
    "muster gameday hint            a hint, for points",
    "muster gameday detect FAULT    say what is broken",
    "muster gameday decide OUTCOME  say what must come of it",
    "muster gameday restore         restore in the sandbox, and prove it",
    "muster gameday end             the score; the sandbox is removed",
)


@gameday.command()
@click.pass_obj
def hint(session: Session) -> None:
    """The next hint, from vague to plain."""
    from muster.drills import game_day

    game, told = game_day.hint(session.platform)
    _tell(session, game, told)


@gameday.command()
@click.argument("fault", type=click.Choice(tuple(BY_NAME)), metavar="FAULT")
@click.pass_obj
def detect(session: Session, fault: str) -> None:
    """Say what is broken."""
    from muster.drills import game_day

    game, right = game_day.detect(session.platform, fault)
    _tell(session, game, "right" if right else "that is not it")


@gameday.command()
@click.argument("outcome", type=click.Choice(tuple(OUTCOMES)), metavar="OUTCOME")
@click.pass_obj
def decide(session: Session, outcome: str) -> None:
    """Say what must come of it."""
    from muster.drills import game_day

    game, right = game_day.decide(session.platform, outcome)
    _tell(session, game, "right" if right else "that would go wrong")


@gameday.command()
@click.pass_obj
def restore(session: Session) -> None:
    """Restore in the sandbox, and prove it."""
    from muster.drills import game_day

    workload = game_day.workload_of_game(session.platform)
    vault, _ = session.find("latest", workload)
    game = game_day.restore(session.platform, vault, reach(session, vault, workload))
    _tell(session, game, f"restored after {game.seconds_to('restore'):.0f} s")


@gameday.command()
@click.pass_obj
def end(session: Session) -> None:
    """The score; the sandbox is removed, the log is kept."""
    from muster.drills import game_day

    game, path = game_day.end(session.platform)
    session.screen.result(
        to_json(game) | {"score": game.score, "log": str(path)}, *game.log(), "", f"the log is in {path}"
    )


def _tell(session: Session, game: GameDay, *lines: str) -> None:
    """What the team may know so far: the fault is not in it."""
    told: Sequence[object] = [to_json(event) for event in game.events]
    session.screen.result(
        {"workload": game.workload, "symptom": game.symptom, "told": lines[0], "events": told}, *lines
    )
