"""The report of a restore or drill: what people and machines read of it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from muster.codec import from_json, to_json
from muster.domain.drill import DrillOutcome
from muster.domain.recovery_report import RecoveryReport
from muster.domain.timing import RecoveryTime
from muster.report import render_postmortem, render_report, seconds_in_words, size_in_words
from report_pages import Page, a_report, evidence_of


def test_the_json_is_the_report_and_its_summary() -> None:
    """report.json can be read back as the same report, and its summary is the mark's."""
    report = a_report()
    document = json.loads(render_report(report)[0])
    summary = document.pop("summary")
    assert from_json(RecoveryReport, document) == report
    assert summary == to_json(report.summary())
    assert summary["recovery_time_s"]["total"] == 130.0


def test_the_page_says_what_was_measured_against_what_was_promised() -> None:
    """Verdict, point, both objectives, each stage, component, suite and model are on the page."""
    page = Page(render_report(a_report())[1])
    assert page.stack == []
    for told in (
        "Drill of flight_delays passed",
        "20261123T010000Z-0a1b2c3d",
        "Recovery time actual 2 min 10 s objective 15 min: met",
        "Recovery point actual 1 h objective 1 d: met",
        "detect 30 s",
        "decide 2.5 s",
        "restore 41.5 s",
        "validate 56 s",
        "dataset/flights 14 29.6 MiB 27 s",
        "outputs[0].md5 d41d8c",
        "rows.runs 2",
        "flights flights met 15 s evaluated 9",
        "models:/delay@champion 2 equal 5 rtol 1e-09, atol 0.0 40 s none",
        "1 of 1",
    ):
        assert told in page.words


def test_a_drill_says_what_was_broken_what_must_happen_and_what_did() -> None:
    """Fault, both outcomes, the story, what was passed over and the isolation are in both documents; a restore has none of it."""
    told = DrillOutcome(
        "bit_rot",
        "by schedule, 2026-11-26",
        "healed",
        "refused",
        "20261123T010000Z-0a1b2c3d",
        ("One bit is <wrong>.", "Nothing was restored from it."),
        ("region_gone: no replica",),
        "a network of its own",
    )
    as_json, as_html = render_report(replace(a_report(), drilled=told))
    page = Page(as_html)
    assert page.stack == []
    for words in (
        "fault bit_rot, chosen by schedule, 2026-11-26",
        "must be healed, and restored from the point asked for",
        "was refused in words",
        "One bit is <wrong>. Nothing was restored from it.",
        "passed over region_gone: no replica",
        "kept apart by a network of its own",
    ):
        assert words in page.words
    assert json.loads(as_json)["summary"]["fault"] == told.summary()
    assert from_json(DrillOutcome, json.loads(as_json)["drilled"]) == told
    assert "broken on purpose" not in Page(render_report(a_report())[1]).words


def test_the_page_needs_nothing_from_outside() -> None:
    """The page is one file: it loads nothing and runs nothing."""
    html = render_report(a_report())[1]
    page = Page(html)
    assert page.loads == []
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert b"url(" not in html
    assert b"@import" not in html


def test_a_failed_report_says_so_and_names_each_failure() -> None:
    """Missed objectives, unmet expectations and different answers are shown as such."""
    report = a_report()
    report = replace(
        report,
        failure="models:/delay@champion answers otherwise: row 3",
        objectives={"rpo_s": 60.0, "rto_s": 60.0},
        validations=(replace(report.validations[0], success=False, failures=("delay: expected >= 0, found -7",)),),
        smoke=(replace(report.smoke[0], equal=False, differences=("row 3: 1.0 became 1.5",)),),
    )
    words = Page(render_report(report)[1]).words
    for told in (
        "Drill of flight_delays failed",
        "models:/delay@champion answers otherwise: row 3",
        "objective 1 min: missed",
        "unmet",
        "delay: expected >= 0, found -7",
        "different",
        "row 3: 1.0 became 1.5",
        "0 of 1",
    ):
        assert told in words
    assert "passed" not in words


def test_evidence_is_on_the_page_and_in_the_json() -> None:
    """Who asked, who approved, on which plan; what failed first; what happened; hashes; each expectation; the place in the trail."""
    report = evidence_of(a_report())
    as_json, html = render_report(report)
    document = json.loads(as_json)
    document.pop("summary")
    assert from_json(RecoveryReport, document) == report
    page = Page(html)
    assert page.stack == []
    for told in (
        "carried out by alice@worker-1 (airflow restore__flight_delays manual__1)",
        "requested by alice",
        "approved by bob, 2026-11-23 02:00:32 UTC, by airflow: region lost",
        f"plan {'5f' * 32}",
        "Failed first: registry/flight_delays at 2026-11-23 02:01:11 UTC",
        "dataset/flights (27 s) restored measured",
        "mark x suspect alice@worker-1 (airflow) record cdcdcdcdcdcd",
        f"dataset/flights 14 29.6 MiB 27 s {'ab' * 32}",
        "column carrier: expect_column_values_to_not_be_null met 0 of 336776 values are unexpected all",
        "expect_table_row_count_to_equal value=336776 unmet found 336775 flights.csv",
        f"newest record before {'11' * 32}",
        "1,234 in all, 7 of them during this run; every record that these follow is there",
        f"muster audit verify --head {'22' * 32}",
    ):
        assert told in page.words


def test_a_place_in_the_trail_that_is_not_proved_is_told() -> None:
    """On the page and in the draft: that something is missing, and that nobody knows what was before."""
    report = evidence_of(a_report())
    assert report.audit is not None
    unproved = replace(report, audit=replace(report.audit, before="", complete=False))
    words = Page(render_report(unproved)[1]).words
    assert "newest record before not known: none before it could be read" in words
    assert "records are missing or cannot be read" in words
    draft = render_postmortem(unproved).decode()
    assert "newest audit record before `not known`" in draft
    assert "are missing or cannot be read" in draft
    made = replace(report, audit=replace(report.audit, before="", made=True))
    assert "none: the vault was made during this run" in Page(render_report(made)[1]).words
    assert "are missing or cannot be read" not in render_postmortem(made).decode()


def test_what_failed_first_is_told_first_whenever_it_was_noted() -> None:
    """By the clock, not by the order in which components are listed."""
    report = evidence_of(a_report())
    assert report.first_failure == report.failures[1]
    words = Page(render_report(report)[1]).words
    assert words.index("registry/flight_delays table runs has") < words.index("models:/delay@champion was not asked")


def test_a_plan_that_nobody_approved_is_told() -> None:
    """The digests differ: somebody applied another plan."""
    report = evidence_of(a_report())
    words = Page(render_report(replace(report, plan_digest="6e" * 32))[1]).words
    assert f"{'6e' * 32} not the plan that was approved: {'5f' * 32}" in words
    assert "not the plan that was approved" not in Page(render_report(report)[1]).words


def test_the_page_is_made_for_a4() -> None:
    """Heads are repeated on every sheet, and no row is cut in two."""
    html = render_report(evidence_of(a_report()))[1].decode()
    printed = html[html.index("@page") :]
    for rule in (
        "size: A4",
        "tr { break-inside: avoid; }",
        "thead { display: table-header-group; }",
        "break-after: avoid",
    ):
        assert rule in printed
    assert ".scroll { break-inside: avoid; }" not in html
    assert html.count("<thead>") == 8


def test_the_postmortem_has_what_was_recorded_and_blanks_for_the_rest() -> None:
    """Nothing stands in the blanks, and no line says what nobody recorded."""
    text = render_postmortem(evidence_of(a_report())).decode()
    for told in (
        "| Outcome | **failed**: table runs has 1 row instead of 2 |",
        "| Requested by | alice |",
        "| Approved by | bob, 2026-11-23 02:00:32 UTC, by airflow: region lost |",
        "First: **registry/flight_delays** at 2026-11-23 02:01:11 UTC: table runs has 1 row instead of 2",
        "- models:/delay@champion: models:/delay@champion was not asked",
        "| 2026-11-23 02:01:12 UTC | 1 min 12 s | mark x | suspect | alice@worker-1 (airflow) | record `cdcdcdcdcdcd` |",
        "- Why the platform was lost: [to be written]",
        f"`muster audit verify --head {'22' * 32}`",
    ):
        assert told in text
    assert text.count("[to be written") > 10
    bare = render_postmortem(a_report()).decode()
    assert "| Approved by | no approval was recorded |" in bare
    assert "Nothing failed while it was brought back." in bare
    assert "bob" not in bare


def test_what_comes_from_data_cannot_become_markdown() -> None:
    """Neither another cell, nor another line, nor HTML, nor a link."""
    report = replace(evidence_of(a_report()), target="x | y\n\n# Head <b> [a](b)", failure="`rm`")
    text = render_postmortem(report).decode()
    assert "| Put back to | x \\| y # Head \\<b\\> \\[a\\](b) |" in text
    assert "**failed**: \\`rm\\`" in text


def test_what_comes_from_data_cannot_become_markup() -> None:
    """Names and values out of a restored system are escaped."""
    report = replace(a_report(), failure='<script>alert("x")</script>', workload='"><img src=x>')
    html = render_report(report)[1]
    page = Page(html)
    assert not {"script", "img"} & set(page.tags)
    assert '<script>alert("x")</script>' in page.words


def test_a_report_of_nothing_is_still_a_report() -> None:
    """A restore that failed before its first component is reported without one."""
    report = replace(a_report(), components=(), validations=(), smoke=(), failure="the vault does not answer")
    as_json, html = render_report(replace(report, time=RecoveryTime(0, 0, 0, 0), objectives={"rpo_s": 0, "rto_s": 0}))
    assert json.loads(as_json)["components"] == []
    assert "no component came back" in Page(html).words


def test_figures_that_json_cannot_hold_do_not_lose_the_report() -> None:
    """NaN and infinity in measured facts become null, as JSON has it."""
    report = replace(a_report(), recovery_point_actual=float("inf"))
    odd = replace(report.components[0], facts={"metric": float("nan"), "worst": [float("inf")]})
    document = json.loads(render_report(replace(report, components=(odd,)))[0])
    assert document["components"][0]["facts"] == {"metric": None, "worst": [None]}


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 ms"), (0.35, "350 ms"), (0.9999, "1 s"), (12.34, "12.3 s"), (59.97, "1 min"), (65, "1 min 5 s"), (3599.6, "1 h"),
        (7800, "2 h 10 min"), (86399.7, "1 d"), (273600, "3 d 4 h"), (-5, "-5 s"), (float("inf"), "unknown"),
    ],
)  # fmt: skip
def test_lengths_of_time_are_told_as_people_do(seconds: float, words: str) -> None:
    """Two units at most, and never 60 of one."""
    assert seconds_in_words(seconds) == words


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1048570, "1.0 MiB"),
        (4 << 30, "4.0 GiB"),
        (5 << 50, "5120.0 TiB"),
    ],
)
def test_sizes_are_told_in_binary_units(size: int, words: str) -> None:
    """The unit is the largest that leaves at least one of it."""
    assert size_in_words(size) == words
