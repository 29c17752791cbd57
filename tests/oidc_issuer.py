"""A small OpenID Connect provider with Keycloak's addresses: signs real tokens, and lets in whom it is told to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT, SECRET = "airflow", "kept-by-keycloak"


@dataclass
class Issuer:
    """
    :param claims: of the next sign-in: who it is, his groups, the class of the sign-in
    :param nonce: that the last request for a sign-in came with
    """

    claims: Mapping[str, Any] = field(default_factory=dict)
    nonce: str = ""
    key: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, parameters={"kid": "one"}))

    def __post_init__(self) -> None:
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(issuer.get(urlsplit(self.path).path))

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self._answer(issuer.tokens())

            def _answer(self, content: Any) -> None:
                data = json.dumps(content).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def realm(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/realms/platform"

    def get(self, path: str) -> Any:
        """Metadata, keys, or who has signed in."""
        connect = f"{self.realm}/protocol/openid-connect"
        if path.endswith("/.well-known/openid-configuration"):
            ends = {"authorization": "auth", "token": "token", "userinfo": "userinfo"}
            found = {f"{name}_endpoint": f"{connect}/{end}" for name, end in ends.items()}
            return {"issuer": self.realm, "jwks_uri": f"{connect}/certs", **found}
        if path.endswith("/certs"):
            return {"keys": [self.key.as_dict(private=False, use="sig", alg="RS256")]}
        return {name: value for name, value in self.claims.items() if name != "acr"}

    def tokens(self) -> Any:
        """What a code is changed for."""
        now = int(time.time())
        claims = {
            "iss": self.realm,
            "aud": CLIENT,
            "iat": now,
            "exp": now + 300,
            "nonce": self.nonce,
            "sub": "1",
            **self.claims,
        }
        signed = jwt.encode({"alg": "RS256", "kid": "one"}, claims, self.key)
        return {"access_token": "opaque", "token_type": "Bearer", "expires_in": 300, "id_token": signed}
