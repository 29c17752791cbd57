"""Who is told of a task that failed: a mail goes out, through Airflow's own notifier, to a server that takes it."""

from __future__ import annotations

import email
import email.policy
import json
import socketserver
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_runs import Runs
from airflow_site import AirflowSite
from muster.errors import NotFound
from muster_airflow.alerts import told

pytestmark = pytest.mark.airflow

SMTP = "airflow.providers.smtp.notifications.smtp.SmtpNotifier"
ALERTS = """alerts:
  - {notifier: airflow.providers.smtp.operators.smtp.EmailOperator, arguments: {nobody: takes this}}
  - notifier: %s
    arguments:
      from_email: muster@example.org
      to: oncall@example.org
      subject: "{{ alert.subject }}"
      html_content: "<pre>{{ alert.text | e }}</pre>"
"""


class MailServer(socketserver.ThreadingTCPServer):
    """Takes mail as RFC 5321 says, and keeps it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Conversation)
        self.mails: list[Any] = []


class _Conversation(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self._say("220 ready")
        while line := self.rfile.readline():
            command = line[:4].upper()
            if command == b"DATA":
                self._say("354 go on")
                self._take()
            self._say("221 bye" if command == b"QUIT" else "250 ok")
            if command == b"QUIT":
                return

    def _take(self) -> None:
        lines = list(iter(self.rfile.readline, b".\r\n"))
        assert isinstance(self.server, MailServer)
        self.server.mails.append(email.message_from_bytes(b"".join(lines), policy=email.policy.default))

    def _say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())


@pytest.fixture
def mail(site: AirflowSite, monkeypatch: pytest.MonkeyPatch) -> Iterator[MailServer]:
    """A mail server that Airflow's connection names, in a site whose catalog sends alerts."""
    file = site.catalog / "alerts.yaml"
    file.write_text(ALERTS % SMTP)
    with MailServer() as server:
        connection = {
            "conn_type": "smtp",
            "host": "127.0.0.1",
            "port": server.server_address[1],
            "extra": {"disable_ssl": True, "disable_tls": True},
        }
        monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", json.dumps(connection))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
    file.unlink()


def test_a_task_that_fails_is_told_by_mail_with_the_reason_and_what_to_do(runs: Runs, mail: MailServer) -> None:
    """One mail for each task that failed, also where another notifier could not even be made; none for a run that went well."""
    done = runs.run("restore__ledger", {"point": "20990101T000000Z"})
    failed = {task for task, state in done.states.items() if state == "failed"}
    assert {mail["subject"] for mail in mail.mails} == {f"restore__ledger {task} failed" for task in failed}
    assert len(mail.mails) == len(failed)
    (plan,) = (mail for mail in mail.mails if " plan " in mail["subject"])
    assert plan["to"] == "oncall@example.org"
    text = plan.get_body(("html",)).get_content()
    assert "no point &#39;20990101T000000Z&#39;" in text
    assert done.run_id in text
    mail.mails.clear()
    assert runs.run("snapshot__ledger").state == "success"
    assert mail.mails == []


def test_errors_of_others_are_not_quoted() -> None:
    """They may hold a secret; ours say what happened and what to do."""
    task = SimpleNamespace(dag_id="snapshot__a", task_id="seal", run_id="r", log_url="http://x/log")
    ours = told({"ti": task, "exception": NotFound("no vault", "make one")})  # type: ignore[typeddict-item]
    assert ours["text"] == "snapshot__a seal failed: no vault\nmake one\nrun r\nhttp://x/log"
    theirs = told({"ti": task, "exception": ValueError("postgresql://user:hunter2@db")})  # type: ignore[typeddict-item]
    assert "hunter2" not in json.dumps(theirs)
    assert told({"ti": task})["subject"] == "snapshot__a seal failed"  # type: ignore[typeddict-item]
