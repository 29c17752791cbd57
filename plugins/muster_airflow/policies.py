"""What holds for every task: who owns it, how often it is tried, how long it may take, when it runs by itself."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule
from airflow.sdk.exceptions import XComNotFound

from muster.errors import PermanentError, TransientError
from muster_airflow.alerts import alert

RECOVERY_RETRIES = ExceptionRetryPolicy(
    rules=[
        RetryRule(exception=PermanentError, action=RetryAction.FAIL, reason="trying again cannot help"),
        RetryRule(
            exception=TransientError,
            action=RetryAction.RETRY,
            retry_delay=timedelta(seconds=15),
            reason="trying again may help",
        ),
        RetryRule(exception=XComNotFound, action=RetryAction.FAIL, reason="an earlier task left nothing to work on"),
    ]
)
"""Our tree of errors is the whole of the policy. What it does not know (a killed worker) is tried again as `retries` says."""

APPROVAL_TIMEOUT = timedelta(hours=4)
"""How long a plan waits for somebody to decide. What it says of the point and the place is old after that."""

LOST_ANSWER_DELAY = timedelta(seconds=1)
"""
Until a question whose answer was lost is looked at again. Airflow 3.3 may learn of the worker that put it only after it was answered, for
`[workers] min_heartbeat_interval` at most; it takes the task that goes on for one that was lost then, and tries it anew.
"""

EXPIRE_SCHEDULE = "0 6 * * *"
VERIFY_SCHEDULE = "0 4 * * *"
DRILL_SCHEDULE = "0 5 * * *"
"""
UTC, after the usual snapshot at night and before people come to work. Expiry is last: what was found damaged or suspect in this night is
judged as such.

No DAG of ours has a start date: with one in the past, Airflow would run a DAG at once for the tick before it was first read, and a
new installation would begin with drills that have nothing to restore.
"""


def default_args(owner: str) -> dict[str, Any]:
    """
    Arguments of every task in a DAG.

    `execution_timeout` is there to end what hangs; it is no objective.
    """
    return {
        "owner": owner,
        "retries": 2,
        "retry_delay": timedelta(seconds=30),
        "retry_policy": RECOVERY_RETRIES,
        "execution_timeout": timedelta(hours=6),
        "on_failure_callback": alert,
    }
