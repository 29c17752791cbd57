"""``muster demo``: protect, destroy and bring back a real AI workload. ``up`` and ``down`` keep its platform running for a look."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from muster.demo import keeper, scenes
from muster.demo.assembly import Running, assemble
from muster.demo.layout import claim, default_home
from muster.demo.processes import ProcessTree
from muster.demo.story import Story
from muster.demo.workload import Site, check_tools
from muster.errors import MusterError

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the demonstration, or ``up``, ``down``; returns the exit code.

    0 only if everything came back as it was and every objective was met; 130 after Ctrl-C, when no process is left.
    """
    parser = argparse.ArgumentParser(prog="muster demo", description=__doc__)
    parser.add_argument("what", nargs="?", choices=["run", "up", "keep", "down"], default="run", metavar="up|down")
    what = parser.parse_args(arguments).what
    try:
        return {"run": run, "up": keeper.up, "keep": keeper.keep, "down": keeper.down}[what]()
    except MusterError as error:
        _complain(error)
        return error.exit_code
    except KeyboardInterrupt:
        print("\ninterrupted; every process was ended", file=sys.stderr)
        return INTERRUPTED


def run() -> int:
    """The whole way, once."""
    check_tools()
    layout = claim(default_home())
    story = Story()
    with ProcessTree() as tree:
        story.chapter("A platform at work")
        running = assemble(story, tree, Site(layout))
        questions, before = scenes.witness_before(story, running)
        story.chapter("A recovery point")
        scenes.protect(story, running)
        story.chapter("A drill: the way back into a sandbox, touching nothing else")
        scenes.rehearse(story, running)
        story.chapter("The disaster")
        incident_at = scenes.lose(story, running, questions)
        story.chapter("The way back")
        scenes.recover(story, running, incident_at)
        comparisons = scenes.witness_after(story, running, questions, before)
        story.chapter("The reckoning")
        good = scenes.reckon(story, running, comparisons)
        _last_word(story, running, good)
    return 0 if good else 1


def _last_word(story: Story, running: Running, good: bool) -> None:
    layout = running.site.layout
    reports = sorted((layout.state / "reports").rglob("*.html"))
    story.say("\nreports to open in a browser:")
    for report in reports:
        story.link(report)
    story.say("the Airflow UI is gone with this run; [bold]make up[/] keeps one running, with user and password")
    said = "Everything is as it was." if good else "Not everything is as it was."
    story.panel(f"[bold]{said}[/]  {story.elapsed:.0f} s from nothing to here.", good=good)


def _complain(error: MusterError) -> None:
    console = Console(stderr=True, highlight=False)
    console.print(f"[bold red]error:[/] {escape(error.message)}")
    if error.hint:
        console.print(f"[dim]hint:[/] {escape(error.hint)}")
