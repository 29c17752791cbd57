"""Signing in by OpenID Connect, with a second factor or not at all."""

from __future__ import annotations

from typing import Any

from airflow.providers.fab.auth_manager.security_manager.override import FabAirflowSecurityManagerOverride
from flask import current_app

from muster.errors import Refused

WANTED = "AUTH_OIDC_ACR"


class SecondFactorSecurityManager(FabAirflowSecurityManagerOverride):
    """
    Lets in only whom the identity provider says to have authenticated as `AUTH_OIDC_ACR` of ``webserver_config.py`` asks.

    What a client asks for in ``acr_values`` a provider may leave undone; what was done stands, signed, in the identity token.
    """

    def get_oauth_user_info(self, provider: str, resp: dict[str, Any]) -> dict[str, Any]:
        """
        Who somebody is, and the groups that his roles come from.

        :raises Refused: if he has not shown a second factor
        """
        wanted, shown = current_app.config[WANTED], (resp.get("userinfo") or {}).get("acr")
        if shown != wanted:
            raise Refused(
                f"{provider} says that the sign-in was of class {shown!r}, and {wanted!r} is needed",
                "let the provider ask for a second factor and map it to that class: docs/access.md",
            )
        found: dict[str, Any] = super().get_oauth_user_info(provider, resp)
        return found
