"""A game day on disk: begun, helped, answered, restored and ended by commands of their own, in a sandbox that stays between them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from muster.bootstrap import Platform
from muster.codec import from_json, to_json
from muster.domain.drill import RANDOM
from muster.domain.faults import BY_NAME, OUTCOMES
from muster.domain.game_day import Event, GameDay
from muster.domain.recovery_point import PointStatus
from muster.drills.circumstances import Reach
from muster.drills.platform import DrillPlatform
from muster.drills.rehearsal import Wanted, prepare, recover_inside
from muster.drills.sandbox import DrillState, Owner, Sandbox, make, tear_down
from muster.drills.strikes import strike
from muster.errors import AlreadyExists, MusterError, NotFound, Refused
from muster.operations.conclude import Incident
from muster.vault.vault import Vault

GAME = "game.json"
OWNER = "game day"


def begin(platform: Platform, vault: Vault, status: PointStatus, seed: int | None, reach: Reach) -> GameDay:
    """
    Make a sandbox, and let a fault strike that is not named.

    :raises AlreadyExists: if a game day of this state folder is under way
    """
    if under_way := _games(platform.state):
        raise AlreadyExists(f"a game day is under way in {under_way[0]}", "end it with `muster gameday end`")
    sandbox = make(platform.state, status.point.workload, platform.clock)
    try:
        inside = DrillPlatform(platform, vault, sandbox, reach)
        with inside.entered():
            game = _drawn(prepare(inside, status, Wanted(RANDOM, seed), Owner.ours(OWNER)), status)
            strike(inside)
        # The clock of the team runs from the moment that it is told.
        return _write(sandbox, replace(game, began_at=platform.clock.now()))
    except BaseException:
        tear_down(sandbox.folder)
        raise


def _drawn(state: DrillState, status: PointStatus) -> GameDay:
    choice, expected = state.choice, state.expected
    if choice.fault is None or expected is None:
        raise Refused(f"no fault can strike {state.workload}", "; ".join(choice.passed_over))
    seed = int(choice.how.rpartition(" ")[2])
    return GameDay(state.workload, choice.fault, seed, expected, state.began_at, status.point.objectives["rto_s"])


def hint(platform: Platform) -> tuple[GameDay, str]:
    """
    The next hint, from vague to plain.

    :raises NotFound: if all were given
    """
    sandbox, game = _game(platform.state)
    if not game.hints_left:
        raise NotFound("every hint was given", "name the fault with `muster gameday detect`, or end the game")
    told = game.hints_left[0]
    return _write(sandbox, game.then(Event(platform.clock.now(), "hint", told))), told


def detect(platform: Platform, fault: str) -> tuple[GameDay, bool]:
    """Whether the team has found the fault."""
    if fault not in BY_NAME:
        raise NotFound(f"there is no fault {fault!r}", f"there are: {', '.join(BY_NAME)}")
    sandbox, game = _game(platform.state)
    right = fault == game.fault
    return _write(sandbox, game.then(Event(platform.clock.now(), "detect", fault, right))), right


def decide(platform: Platform, outcome: str) -> tuple[GameDay, bool]:
    """Whether the team knows what must come of it."""
    if outcome not in OUTCOMES:
        raise NotFound(f"there is no outcome {outcome!r}", f"there are: {', '.join(OUTCOMES)}")
    sandbox, game = _game(platform.state)
    right = outcome == game.expected
    return _write(sandbox, game.then(Event(platform.clock.now(), "decide", outcome, right))), right


def restore(platform: Platform, vault: Vault, reach: Reach) -> GameDay:
    """
    Recover in the sandbox, prove it, and report it as a drill.

    :raises MusterError: whatever went wrong; that is in the log of the game
    """
    sandbox, game = _game(platform.state)
    inside = DrillPlatform(platform, vault, sandbox, reach)
    detected = game.seconds_to("detect")
    known = next((e.at for e in game.events if e.step == "detect" and e.right), platform.clock.now())
    try:
        with inside.entered():
            report = recover_inside(inside, inside.drill, Incident("drill", game.began_at, known))
    except MusterError as error:
        _write(sandbox, game.then(Event(platform.clock.now(), "restore", error.message.splitlines()[0], False)))
        raise
    said = f"{report.point}, detected after {detected:.0f} s" if detected is not None else report.point
    return _write(sandbox, game.then(Event(platform.clock.now(), "restore", said, True)))


def end(platform: Platform) -> tuple[GameDay, Path]:
    """Remove the sandbox, and keep the log: as JSON and as text, in the state folder. Returns the path of the text."""
    sandbox, game = _game(platform.state)
    folder = platform.state / "gamedays"
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{game.workload}-{game.began_at:%Y%m%dT%H%M%SZ}"
    document = to_json(game) | {"score": game.score, "deductions": dict(game.deductions())}
    (folder / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n")
    (folder / f"{name}.txt").write_text("\n".join(game.log()) + "\n")
    tear_down(sandbox.folder)
    return game, folder / f"{name}.txt"


def workload_of_game(platform: Platform) -> str:
    """Whose game day is under way."""
    return _game(platform.state)[1].workload


def _games(state: Path) -> list[Path]:
    return sorted(path.parent for path in (state / "drills").glob(f"*/{GAME}"))


def _game(state: Path) -> tuple[Sandbox, GameDay]:
    games = _games(state)
    if not games:
        raise NotFound("no game day is under way", "begin one: muster gameday start WORKLOAD")
    return Sandbox(games[0]), from_json(GameDay, json.loads((games[0] / GAME).read_text()))


def _write(sandbox: Sandbox, game: GameDay) -> GameDay:
    fresh = sandbox.folder / f".{GAME}.new"
    fresh.write_text(json.dumps(to_json(game)))
    fresh.replace(sandbox.folder / GAME)
    return game
