"""
Flask-AppBuilder signs people in by Keycloak. Set ``AIRFLOW__FAB__CONFIG_FILE`` to this file: docs/access.md says what Keycloak needs.

Airflow takes no notice of a file that is not there, and would ask for passwords of its own: look at the sign-in page once.
"""

import os

from flask_appbuilder.const import AUTH_OAUTH

from muster_airflow.access import role_names
from muster_airflow.second_factor import SecondFactorSecurityManager
from muster_airflow.workloads import protected_workloads

_REALM = os.environ["KEYCLOAK_REALM_URL"].rstrip("/")  # https://keycloak.example.org/realms/platform

AUTH_TYPE = AUTH_OAUTH
AUTH_OIDC_ACR = os.environ.get("KEYCLOAK_ACR", "mfa")
SECURITY_MANAGER_CLASS = SecondFactorSecurityManager

OAUTH_PROVIDERS = [
    {
        "name": "keycloak",
        "icon": "fa-key",
        "token_key": "access_token",
        "remote_app": {
            "client_id": os.environ.get("KEYCLOAK_CLIENT_ID", "airflow"),
            "client_secret": os.environ["KEYCLOAK_CLIENT_SECRET"],
            "server_metadata_url": f"{_REALM}/.well-known/openid-configuration",
            "api_base_url": f"{_REALM}/protocol/",
            "authorize_params": {"acr_values": AUTH_OIDC_ACR},
            "client_kwargs": {"scope": "openid email profile", "code_challenge_method": "S256"},
        },
    }
]

# Whoever Keycloak lets in has an account, without any right; the rights are those of his groups, looked at again at each sign-in.
AUTH_USER_REGISTRATION = True
AUTH_USER_REGISTRATION_ROLE = "Public"
AUTH_ROLES_SYNC_AT_LOGIN = True
AUTH_ROLES_MAPPING = {
    "airflow-admin": ["Admin"],
    **{role: [role] for role in role_names(workload.workload for workload in protected_workloads())},
}
