"""Flask-AppBuilder's users and roles, with Muster's roles among them, and with Muster's DAGs out of reach of rights on all DAGs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.providers.fab.auth_manager.fab_auth_manager import FabAuthManager

from muster_airflow import access

if TYPE_CHECKING:
    from airflow.api_fastapi.auth.managers.base_auth_manager import ResourceMethod
    from airflow.providers.fab.auth_manager.models import Permission, Role, User

logger = logging.getLogger(__name__)
_ACTIONS = {"POST": access.CREATE, "PUT": access.EDIT, "DELETE": access.DELETE}
_BY_DAG = ("DAG:", "DAG Run:")
"""What Airflow gives and takes by each DAG's `access_control`."""


class MusterFabAuthManager(FabAuthManager):
    """
    Set it as ``[core] auth_manager``; the name must contain FabAuthManager, or Airflow does not look at `access_control`.

    The roles are made whenever FAB makes its own: when the API server starts, and by ``airflow sync-perm`` and every other command
    that works on users.
    """

    def init_flask_resources(self) -> None:
        """Make FAB's roles, and ours."""
        from muster.errors import MusterError
        from muster_airflow.workloads import protected_workloads

        super().init_flask_resources()
        try:
            workloads = [workload.workload for workload in protected_workloads()]
        except MusterError as error:
            logger.error("the roles of workloads were not made: %s (%s)", error.message, error.hint)  # noqa: TRY400
            workloads = []
        make_roles(self.security_manager, workloads)

    def is_authorized_dag(
        self,
        *,
        method: ResourceMethod,
        user: User,
        access_entity: DagAccessEntity | None = None,
        details: DagDetails | None = None,
    ) -> bool:
        """Whether somebody may do something to a DAG. FAB decides, except for changes of Muster's DAGs."""
        if method == "GET" or details is None or not access.is_ours(details.id or ""):
            return super().is_authorized_dag(method=method, user=user, access_entity=access_entity, details=details)
        dag = str(details.id)
        allowed = _may(user, _ACTIONS[method], access_entity, dag)
        if not allowed and (refused := access.REFUSED.get()) is not None:
            refused.add(dag)
        return allowed

    def get_authorized_dag_ids(self, *, user: User, method: ResourceMethod = "GET", **session: Any) -> set[str]:
        """The DAGs to which somebody may do something."""
        found: set[str] = super().get_authorized_dag_ids(user=user, method=method, **session)
        if method == "GET":
            return found
        return {dag for dag in found if not access.is_ours(dag) or _may(user, _ACTIONS[method], None, dag)}


def _may(user: User, action: str, entity: DagAccessEntity | None, dag: str) -> bool:
    held = set(user.perms or ())
    return access.EVERY_DAG in held or bool(held & _taken(action, entity, dag))


def _taken(action: str, entity: DagAccessEntity | None, dag: str) -> set[access.Permission]:
    """The permissions of which one is needed to change one of Muster's DAGs, or what belongs to it."""
    if entity is None:
        return {(action, f"DAG:{dag}")}
    if entity == DagAccessEntity.RUN:
        return {(action, f"DAG Run:{dag}"), (action, f"{access.RUNS}:{dag}")}
    return {(action, f"{FabAuthManager._get_fab_resource_types(entity)[-1]}:{dag}")}


def make_roles(manager: Any, workloads: list[str]) -> None:
    """
    Make the roles, and let each have what `access.roles` says, no more and no less. What `access_control` gives is left to Airflow.

    Roles of workloads that are in the catalog no more, or that cannot be read just now, stay as they are, and so do rights on their DAGs.

    :param manager: FAB's security manager
    """
    everyone = set(manager.VIEWER_PERMISSIONS) - {(access.READ, access.DAGS)}
    everyone |= {(access.READ, "Plugins"), (access.MENU, access.ANSWERS)}
    there = manager._get_all_roles_with_permissions()
    permission, dags = cache(manager.create_permission), access.dags_of(workloads)
    for name, wanted in access.roles(workloads, everyone).items():
        role = there.get(name) or manager.add_role(name)
        _settle(manager, role, wanted | _left_alone(role, dags), permission)
    admin = there.get(manager.auth_role_admin)
    if admin is not None and access.EVERY_DAG not in {_pair(held) for held in admin.permissions}:
        manager.add_permission_to_role(admin, permission(*access.EVERY_DAG))


def _settle(
    manager: Any, role: Role, wanted: frozenset[access.Permission], permission: Callable[[str, str], Permission]
) -> None:
    """Bring a role to what is wanted, in one transaction; another API server that starts may be doing the same."""
    name, held = role.name, {_pair(each): each for each in role.permissions}
    if held.keys() == wanted:
        return
    try:
        role.permissions = [held.get(pair) or permission(*pair) for pair in sorted(wanted)]
        manager.session.commit()
    except Exception:
        manager.session.rollback()
        if not wanted <= {_pair(each) for each in manager.find_role(name).permissions}:
            raise


def _left_alone(role: Role, dags: frozenset[str]) -> set[access.Permission]:
    """What a role has by `access_control`, and its rights on DAGs of workloads that cannot be read in the catalog just now."""
    held = {_pair(permission) for permission in role.permissions}
    by_dag = {(pair, pair[1].partition(":")[2]) for pair in held if ":" in pair[1]}
    return {pair for pair, dag in by_dag if pair[1].startswith(_BY_DAG) or (access.is_ours(dag) and dag not in dags)}


def _pair(permission: Permission) -> access.Permission:
    return str(permission.action.name), str(permission.resource.name)
