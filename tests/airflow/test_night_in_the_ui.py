"""
A bad night as people see it in Airflow's own pages: a snapshot, a drill with something broken, the form of a restore, a second person
who approves its plan, the progress, the report. Debian's Chromium clicks and types, and nothing here speaks to the REST API.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright
from playwright.sync_api import TimeoutError as NothingYet

from airflow_runs import real_airflow
from airflow_site import AirflowSite
from muster.demo.airflow_platform import APPROVER, USER, Airflow, Settings

pytestmark = [pytest.mark.airflow, pytest.mark.servers, pytest.mark.timeout(2400)]
RUN_MS = 600_000.0
PAGE_MS = 180_000.0
NEWS_MS = 10_000.0
READING_MS = 8_000.0
"""Nobody decides faster; and Airflow 3.3 loses an answer that comes while its scheduler is not yet done with the question."""
REASON = "it was sealed a moment ago"


@dataclass(frozen=True)
class Person:
    """
    Somebody at a browser of their own, signed in.

    :param album: the folder for pictures, in the order in which they are taken
    """

    page: Page
    album: Path

    def picture(self, name: str) -> None:
        """Keep what is to be seen now."""
        number = len(list(self.album.iterdir())) + 1
        assert self.page.screenshot(path=self.album / f"{number:02}-{name}.png", full_page=True)

    def form(self, dag: str) -> Locator:
        """The form behind the button *Trigger* of a DAG's page."""
        self.page.goto(f"/dags/{dag}")
        self.page.get_by_role("button", name="Trigger").first.click()
        form = self.page.get_by_role("dialog")
        expect(form).to_contain_text(f"Trigger Dag - {dag}")
        return form

    def trigger(self, form: Locator) -> None:
        """Press the form's button; Airflow leads to the new run by itself."""
        form.get_by_role("button", name="Trigger").click()
        self.page.wait_for_url("**/runs/manual__*")

    def sees(self, state: str) -> None:
        """Wait until the page of a run says, beside the run's name, how it stands."""
        expect(self.page.get_by_test_id("state-badge").first).to_have_text(state, timeout=RUN_MS)

    def reads_plan(self, subject: str) -> str:
        """From *Required Actions* to the question, as soon as it is put; all that is to be read there."""
        question = self.page.get_by_role("link", name=subject).first
        deadline = time.monotonic() + RUN_MS / 1000
        while not question.is_visible():
            assert time.monotonic() < deadline, "nobody is asked anything"
            self.page.goto("/required_actions")
            with suppress(NothingYet):
                question.wait_for(timeout=NEWS_MS)
        question.click()
        expect(self.page.get_by_role("button", name="Approve", exact=True)).to_be_visible()
        self.page.wait_for_timeout(READING_MS)
        return self.in_plain_sight()

    def open_report(self) -> None:
        """From the page of a finished run: its last task, *Details*, *Report*."""
        self.page.goto(f"{self.page.url.partition('?')[0]}/tasks/conclude")
        self.page.get_by_role("link", name="Details", exact=True).click()
        self.page.get_by_role("link", name="Report", exact=True).click()
        self.page.wait_for_url("**/muster/points/**")

    def in_plain_sight(self) -> str:
        """All text of the page."""
        return self.page.locator("body").inner_text()


@pytest.fixture(scope="module")
def airflow(site: AirflowSite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    """A real Airflow over the site's catalog."""
    folder = tmp_path_factory.mktemp("night")
    settings = Settings(home=folder / "home", logs=folder / "logs", environment=site.environment)
    with real_airflow(settings, ("snapshot__ledger", "drill__ledger", "restore__ledger")) as (started, _):
        yield started


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pictures")


def signed_in(browser: Browser, airflow: Airflow, album: Path, name: str) -> Person:
    """Sign in by the page that a stranger is led to."""
    page = browser.new_context(
        base_url=airflow.url, viewport={"width": 1440, "height": 1000}, reduced_motion="reduce"
    ).new_page()
    page.set_default_timeout(PAGE_MS)
    expect.set_options(timeout=PAGE_MS)
    page.goto("/")
    page.wait_for_url("**/auth/login**")
    page.fill("input[name=username]", name)
    page.fill("input[name=password]", airflow.passwords[name])
    page.keyboard.press("Enter")
    expect(page.get_by_text("Welcome")).to_be_visible()
    return Person(page, album)


@pytest.fixture(scope="module")
def engineer(browser: Browser, airflow: Airflow, album: Path) -> Person:
    return signed_in(browser, airflow, album, USER)


@pytest.fixture(scope="module")
def lead(browser: Browser, airflow: Airflow, album: Path) -> Person:
    return signed_in(browser, airflow, album, APPROVER)


@pytest.fixture(scope="module")
def point(engineer: Person, site: AirflowSite) -> str:
    """A snapshot, by two clicks."""
    engineer.trigger(engineer.form("snapshot__ledger"))
    engineer.sees("Success")
    engineer.picture("snapshot")
    return site.platform().vault("spare").point("latest", "ledger").point.point


def test_a_drill_shows_what_was_broken_and_what_came_of_it(engineer: Person, point: str) -> None:
    """The fault is chosen from a list; the run is green, and its report names the fault, how it ended and the point."""
    form = engineer.form("drill__ledger")
    form.locator("#element_fault").get_by_role("combobox").fill("bit_rot")
    engineer.page.keyboard.press("Enter")
    engineer.picture("drill form")
    engineer.trigger(form)
    engineer.sees("Success")
    engineer.picture("drill")
    engineer.open_report()
    engineer.picture("drill report")
    text = engineer.in_plain_sight()
    for words in ("Drill of ledger Passed", point, "bit_rot", "objective", "Timeline", "Place in the audit trail"):
        assert words in text


def test_nothing_has_to_be_filled_in_to_see_a_plan_and_no_is_an_answer(
    engineer: Person, lead: Person, point: str
) -> None:
    """With its first values the form complains of nothing; the plan leaves what is there already; rejected, the run is red."""
    form = engineer.form("restore__ledger")
    expect(form.locator("#element_point")).to_have_value("verified")
    expect(form.locator("[aria-invalid=true]")).to_have_count(0)
    engineer.picture("restore form")
    engineer.trigger(form)
    told = lead.reads_plan("Restore ledger to origin")
    lead.picture("plan of nothing")
    assert point in told
    assert "left as it is" in told
    lead.page.get_by_role("button", name="Reject", exact=True).click()
    engineer.sees("Failed")
    engineer.picture("rejected")
    engineer.page.goto(f"{engineer.page.url.partition('?')[0]}/tasks/approve")
    expect(engineer.page.locator("body")).to_contain_text(f"{APPROVER} rejected the plan")


def test_a_second_person_approves_the_plan_and_the_workload_comes_back(
    engineer: Person, lead: Person, site: AirflowSite, point: str, tmp_path: Path
) -> None:
    """One form; the plan, read by the lead in *Required Actions*; the grid turns green; the report says who did and who approved."""
    back = tmp_path / "back"
    form = engineer.form("restore__ledger")
    form.locator("#element_to").fill(str(back))
    form.locator("#element_override").fill(REASON)
    engineer.trigger(form)
    run = engineer.page.url.partition("?")[0]
    expect(engineer.page.get_by_text("Awaiting Input")).to_be_visible(timeout=RUN_MS)
    engineer.picture("restore waits")
    assert not back.exists()

    told = lead.reads_plan(f"Restore ledger to {back}")
    lead.picture("plan")
    for words in (point, str(back / "configuration"), "dataset/entries", "dataset/notes", f"{USER} asks to restore"):
        assert words in told
    lead.page.get_by_role("button", name="Approve", exact=True).click()

    engineer.page.goto(run)
    engineer.sees("Success")
    engineer.picture("restored")
    engineer.open_report()
    engineer.picture("restore report")
    text = engineer.in_plain_sight()
    digest = re.search(r"[0-9a-f]{64}", told)
    assert digest
    for words in ("Restore of ledger Passed", point, USER, APPROVER, digest[0], str(back)):
        assert words in text
    restored = back / "datasets" / "entries" / "data" / "entries" / "2026-01.csv"
    assert restored.read_bytes() == (site.folder / "ledger" / "data" / "entries" / "2026-01.csv").read_bytes()


def test_a_report_is_for_those_who_are_signed_in(engineer: Person, browser: Browser, point: str) -> None:
    """A stranger gets no page, and there is none of a point, a time or a workload that does not exist."""
    report = engineer.page.url
    assert "/reports/" in report
    stranger = browser.new_context().new_page()
    answer = stranger.goto(report)
    assert answer
    assert answer.status == 401
    answer = engineer.page.goto(f"{report}/report.html")
    assert answer
    assert (answer.status, "Passed" in engineer.in_plain_sight()) == (200, True)
    engineer.page.goto(report)
    for wrong in (
        f"{report}/report.json",
        report[:-3] + "99Z",
        report.replace(point, f"{point[:-1]}x"),
        report.replace("ledger", "payroll"),
    ):
        answer = engineer.page.goto(wrong)
        assert answer
        assert (answer.status, "Passed" in engineer.in_plain_sight()) == (404, False)


def test_no_page_shows_a_secret_and_nothing_is_amiss(engineer: Person, site: AirflowSite, album: Path) -> None:
    """No import error is announced; what tasks have rendered and said in the walk holds no passphrase and no token."""
    seen = []
    for path in ("/", "/dags", "/dags/restore__ledger/runs", "/xcoms", "/required_actions"):
        engineer.page.goto(path)
        engineer.page.wait_for_load_state("networkidle")
        seen.append(engineer.in_plain_sight())
    assert "Import Error" not in "".join(seen)
    assert "restore__ledger" in "".join(seen)
    assert not [secret for secret in site.secret_values if any(secret in text for text in seen)]
    assert len(list(album.iterdir())) >= 9
