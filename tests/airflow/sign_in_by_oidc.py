"""Run with a migrated Airflow home: signs people in by the provider of tests/oidc_issuer.py, and prints what came of it as JSON."""

from __future__ import annotations

import json
import os
import sys
from typing import Any
from urllib.parse import parse_qs, urlsplit

from oidc_issuer import CLIENT, SECRET, Issuer

issuer = Issuer()
os.environ |= {"KEYCLOAK_REALM_URL": issuer.realm, "KEYCLOAK_CLIENT_ID": CLIENT, "KEYCLOAK_CLIENT_SECRET": SECRET}


def sign_in(app: Any, claims: dict[str, Any]) -> dict[str, Any]:
    """As a browser does it: to the provider, and back with a code."""
    issuer.claims = claims
    with app.test_client() as browser:
        there = browser.get("/login/keycloak")
        asked = parse_qs(urlsplit(there.headers["Location"]).query)
        issuer.nonce = asked["nonce"][0]
        back = browser.get("/oauth-authorized/keycloak", query_string={"code": "one", "state": asked["state"][0]})
        with browser.session_transaction() as session:
            signed_in = "_user_id" in session
    with app.app_context():
        user = app.appbuilder.sm.find_user(username=claims["preferred_username"])
        roles = sorted(role.name for role in user.roles) if user else None
    keys = ("acr_values", "code_challenge_method", "scope", "client_id", "response_type")
    return {"asked": {key: asked[key][0] for key in keys}, "status": back.status_code, "in": signed_in, "roles": roles}


def machine(app: Any, password: str) -> str | None:
    """Whose token a service account gets for a password."""
    from airflow.api_fastapi.app import get_auth_manager

    with app.app_context():
        manager = app.appbuilder.sm
        if not manager.find_user(username="nightly"):
            role = manager.find_role("muster-operator")
            manager.add_user("nightly", "Nightly", "Job", "nightly@localhost", role, "long-and-random")
        user = get_auth_manager().create_token({}, {"username": "nightly", "password": password})
        return user.username if user else None


def main() -> None:
    from airflow.providers.fab.www.app import create_app

    app = create_app(enable_plugins=False)
    with app.test_client() as browser:
        page = browser.get("/login/").get_data(as_text=True)
    ada = {"preferred_username": "ada", "given_name": "Ada", "family_name": "L", "email": "ada@localhost"}
    groups = ["muster-operator", "muster-approver:ledger", "some-other-group"]
    told = {
        "page": {"keycloak": "keycloak" in page, "password": 'type="password"' in page},
        "password only": sign_in(app, {**ada, "groups": groups, "acr": "1"}),
        "no class": sign_in(app, {**ada, "groups": groups}),
        "second factor": sign_in(app, {**ada, "groups": groups, "acr": "mfa"}),
        "fewer groups": sign_in(app, {**ada, "groups": ["muster-viewer"], "acr": "mfa"}),
        "no group": sign_in(app, {**ada, "preferred_username": "bob", "email": "bob@localhost", "acr": "mfa"}),
        "machine": [machine(app, password) for password in ("long-and-random", "guessed")],
    }
    sys.stdout.write("\n" + json.dumps(told) + "\n")


main()
