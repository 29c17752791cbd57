"""A report to be rendered, and a page to be read."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

from muster.domain.approval import Approval
from muster.domain.evidence import AuditProof, Event, ExpectationResult, Failed
from muster.domain.recovery_report import ComponentOutcome, RecoveryReport, SmokeOutcome, ValidationOutcome
from muster.domain.timing import RecoveryTime, Span, Stage

AT = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)


def span(stage: Stage, name: str, begin: float, end: float) -> Span:
    return Span(stage, name, AT + timedelta(seconds=begin), AT + timedelta(seconds=end))


def a_report() -> RecoveryReport:
    """A drill that passed."""
    return RecoveryReport(
        kind="drill",
        workload="flight_delays",
        point="20261123T010000Z-0a1b2c3d",
        target="/state/drills/flight_delays",
        failure=None,
        incident_at=AT,
        detected_at=AT + timedelta(seconds=30),
        finished_at=AT + timedelta(seconds=130),
        taken_at=AT - timedelta(hours=1),
        time=RecoveryTime(30.0, 2.5, 41.5, 56.0),
        recovery_point_actual=3600.0,
        objectives={"rpo_s": 86400.0, "rto_s": 900.0},
        components=(
            ComponentOutcome(
                "dataset/flights",
                14,
                31_000_000,
                span("restore", "dataset/flights", 33, 60),
                {"outputs": [{"md5": "d41d8c"}]},
            ),
            ComponentOutcome(
                "registry/flight_delays",
                90,
                2_000_000,
                span("restore", "registry/flight_delays", 33, 74),
                {"rows": {"runs": 2}},
            ),
        ),
        validations=(
            ValidationOutcome(
                "flights", "flights", True, (), {"evaluated": 9}, span("validate", "validation/flights", 75, 90)
            ),
        ),
        smoke=(
            SmokeOutcome(
                "models:/delay@champion", "2", True, 5, (), 1e-9, 0.0, span("validate", "golden/flight_delays", 90, 130)
            ),
        ),
    )


def evidence_of(report: RecoveryReport) -> RecoveryReport:
    """The same recovery as a restore that somebody approved, in which the registry failed first and a model with it."""
    digest = "5f" * 32
    registry = Failed("registry/flight_delays", "table runs has 1 row instead of 2", AT + timedelta(seconds=71))
    model = Failed("models:/delay@champion", "models:/delay@champion was not asked")
    return replace(
        report,
        kind="restore",
        failure=registry.why,
        plan_digest=digest,
        approval=Approval(digest, "alice", "bob", AT + timedelta(seconds=32), "region lost", "airflow"),
        actor="alice@worker-1 (airflow restore__flight_delays manual__1)",
        failures=(model, registry),
        components=tuple(replace(c, sha256="ab" * 32) for c in report.components),
        validations=tuple(
            replace(
                v,
                results=(
                    ExpectationResult("column carrier: expect_column_values_to_not_be_null", True, "0 of 336776 values are unexpected"),
                    ExpectationResult("expect_table_row_count_to_equal value=336776", False, "found 336775", "flights.csv"),
                ),
            )
            for v in report.validations
        ),
        events=(
            Event(AT, "the loss, as it was given", "given"),
            Event(AT + timedelta(seconds=32), "plan 5f5f5f5f5f5f5f5f approved", "approval", "region lost", "bob"),
            Event(AT + timedelta(seconds=33), "dataset/flights", "measured", "restored", ended_at=AT + timedelta(seconds=60)),
            Event(AT + timedelta(seconds=72), "mark x", "record", "suspect", "alice@worker-1 (airflow)", record="cd" * 32),
        ),
        audit=AuditProof("0a" * 16, "s3://vault", "fe" * 32, "11" * 32, ("22" * 32,), 1234, 7, complete=True),
    )  # fmt: skip


class Page(HTMLParser):
    """Collects the text of a page, what it would load, and whether its tags close."""

    def __init__(self, html: bytes) -> None:
        super().__init__()
        self.text: list[str] = []
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.stack: list[str] = []
        self.feed(html.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in ("meta", "link", "img", "input", "br"):
            self.stack.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.stack[-1:] != ["style"]:
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())
