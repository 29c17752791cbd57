"""The catalog of faults: which has its turn, what must come of it, and what is said of it."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import get_args

import pytest

from muster.domain.drill import CHOICES, NONE, RANDOM, SCHEDULED, DrillOutcome, choose
from muster.domain.faults import BY_NAME, FAULTS, LACKING, OUTCOMES, Need
from muster.domain.game_day import Event, GameDay
from muster.drills.strikes import STRIKES
from muster.errors import NotFound, Refused

EVERYTHING: frozenset[Need] = frozenset(get_args(Need))
DAY = date(2026, 11, 26)
TABLE = Path(__file__).parents[2] / "docs" / "drills.md"


def test_the_catalog_has_the_faults_that_were_promised() -> None:
    """Thirteen, each with a strike of its own and a name by which it can be chosen."""
    assert len(FAULTS) == len(BY_NAME) == 13
    assert list(STRIKES) == list(BY_NAME)
    assert set(BY_NAME) < set(CHOICES)
    assert set(LACKING) == EVERYTHING


def test_in_as_many_nights_as_there_are_faults_each_has_its_turn() -> None:
    """The schedule is a rotation by date: nothing is left out, nothing comes twice."""
    nights = [choose(SCHEDULED, have=EVERYTHING, day=DAY + timedelta(days=n), seed=0) for n in range(len(FAULTS))]
    assert sorted(str(night.fault) for night in nights) == sorted(BY_NAME)
    assert choose(SCHEDULED, have=EVERYTHING, day=DAY, seed=1) == nights[0]


def test_what_cannot_strike_is_passed_over_and_said() -> None:
    """A workload of plain data has no turn for registries, and each night says what was passed over and why."""
    have: frozenset[Need] = frozenset({"files", "small_disk"})
    nights = [choose(SCHEDULED, have=have, day=DAY + timedelta(days=n), seed=0) for n in range(len(FAULTS))]
    chosen = {night.fault for night in nights}
    assert chosen == {fault.name for fault in FAULTS if not fault.hindrance(have)}
    told = {line.partition(":")[0] for night in nights for line in night.passed_over}
    assert told == set(BY_NAME) - chosen
    assert "region_gone: no replica that holds the point can be read" in {
        line for n in nights for line in n.passed_over
    }


def test_a_random_choice_follows_its_seed() -> None:
    """The same seed gives the same fault; many seeds give all."""
    drawn = [choose(RANDOM, have=EVERYTHING, day=DAY, seed=seed).fault for seed in range(300)]
    again = [choose(RANDOM, have=EVERYTHING, day=DAY + timedelta(days=3), seed=seed).fault for seed in range(300)]
    assert drawn == again
    assert set(drawn) == set(BY_NAME)


def test_a_fault_by_name_is_that_fault_or_refused() -> None:
    """Nobody gets another fault than the one that was named; an unknown name is answered with those there are."""
    for name in BY_NAME:
        assert choose(name, have=EVERYTHING, day=DAY, seed=0).fault == name
    with pytest.raises(Refused, match=r"no older good point|no dataset"):
        choose("poisoned_dataset", have=frozenset(), day=DAY, seed=0)
    with pytest.raises(NotFound, match=r"no fault 'earthquake'"):
        choose("earthquake", have=EVERYTHING, day=DAY, seed=0)
    assert choose(NONE, have=EVERYTHING, day=DAY, seed=0).fault is None


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_what_must_happen_follows_from_what_a_workload_has(fault: object) -> None:
    """With everything, what the catalog says; without what helps, the other."""
    assert fault.expected(EVERYTHING) == fault.expects  # type: ignore[attr-defined]
    if fault.helped_by:  # type: ignore[attr-defined]
        assert fault.expected(EVERYTHING - {fault.helped_by}) == fault.otherwise != fault.expects  # type: ignore[attr-defined]
    assert all(fault.name.replace("_", " ") not in hint.lower() for hint in fault.hints[:2])  # type: ignore[attr-defined]


def test_the_document_has_the_table_of_the_catalog() -> None:
    """docs/drills.md says of every fault what the catalog says, in its order."""
    rows = re.findall(r"^\| `(\w+)` \| (.+) \| (.+) \|$", TABLE.read_text(), re.MULTILINE)
    expected = []
    for fault in FAULTS:
        must = OUTCOMES[fault.expects]
        if fault.helped_by:
            must += f". If {LACKING[fault.helped_by]}: {OUTCOMES[fault.otherwise]}"
        expected.append((fault.name, fault.does, must))
    assert rows == expected


def test_an_outcome_that_differs_is_a_failure_in_words() -> None:
    """The failure names the fault, what must happen, and what happened."""
    outcome = DrillOutcome("bit_rot", "by name", "healed", "refused", "p", ("It was so.",), (), "x")
    assert outcome.failure == (
        "the fault bit_rot must end so: healed, and restored from the point asked for; what happened: refused in words, "
        "and restored once the fault is lifted. It was so."
    )


def test_a_game_is_scored_by_what_the_team_did() -> None:
    """Hints and wrong answers cost; times count from the beginning to the first right answer."""
    began = datetime(2026, 11, 26, 9, 0, tzinfo=UTC)
    game = GameDay("ledger", "bit_rot", 7, "healed", began, 900.0)
    assert game.score == 100 - 20 - 10 - 40
    for seconds, event in ((60, "hint"), (90, "missing_pack"), (120, "bit_rot")):
        step, right = ("hint", None) if event == "hint" else ("detect", event == "bit_rot")
        game = game.then(Event(began + timedelta(seconds=seconds), step, event, right))  # type: ignore[arg-type]
    game = game.then(Event(began + timedelta(seconds=200), "decide", "healed", True))
    game = game.then(Event(began + timedelta(seconds=1000), "restore", "p", True))
    assert (game.seconds_to("detect"), game.seconds_to("decide"), game.seconds_to("restore")) == (120, 200, 1000)
    assert dict(game.deductions()) == {
        "1 hints": 10,
        "1 wrong answers": 15,
        "the recovery time objective was missed": 20,
    }
    assert game.score == 55
    assert game.log()[-1] == "score: 55 of 100"
    assert len(game.hints_left) == 2
