"""
Airflow connections and environment variables as the values that the catalog's references stand for.

A connection whose `extra` has ``url`` is that URL. One of type ``generic`` carries a URL, a path or a secret in its password, so
that Airflow itself keeps it sealed and masks it. Types ``postgres``, ``mysql``, ``sqlite``, ``fs`` and ``aws`` are read as their
providers do.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from airflow.sdk import Connection
from airflow.sdk.exceptions import AirflowNotFoundException, AirflowRuntimeError
from airflow.sdk.log import mask_secret

from muster.domain.restore_plan import without_secrets
from muster.errors import CatalogError, NotFound, StoreUnavailable


def _tells_no_answer(record: logging.LogRecord) -> bool:
    """At level DEBUG botocore logs what AWS Secrets Manager answered, before anybody knows that this is to be masked."""
    return record.levelno > logging.DEBUG


logging.getLogger("botocore.parsers").addFilter(_tells_no_answer)


def resolve(reference: str) -> str:
    """
    The value of ``conn:NAME`` or ``env:NAME``; anything else is its own value. What was looked up is masked in all logs from then on.

    :raises NotFound: if there is no such connection or variable
    :raises CatalogError: if the connection cannot be read as a URL or a secret
    :raises StoreUnavailable: if Airflow did not answer
    """
    kind, colon, name = reference.partition(":")
    if not colon or kind not in ("conn", "env"):
        return reference
    value = _url(name) if kind == "conn" else _variable(name)
    mask(value)
    return value


def mask(value: str) -> None:
    """Keep a value, and the passwords in it if it is a URL, out of the logs of this task."""
    mask_secret(value)
    if "://" not in value:
        return
    password = urlsplit(value).password
    options = set(_options(value)) - set(_options(without_secrets(value)))
    for form in {password, unquote(password or ""), *(kept for _, kept in options)} - {None, ""}:
        mask_secret(form)


def _options(url: str) -> list[tuple[str, str]]:
    return parse_qsl(urlsplit(url).query)


def _variable(name: str) -> str:
    try:
        return os.environ[name]
    except KeyError:
        raise NotFound(
            f"the environment variable {name} is not set here", f"set {name} for Airflow's workers, then try again"
        ) from None


def _url(name: str) -> str:
    try:
        connection = Connection.get(name)
    except AirflowNotFoundException:
        raise NotFound(
            f"Airflow has no connection {name}",
            f"create it: airflow connections add {name} --conn-type generic --conn-password URL_OR_SECRET; or, if a secrets backend"
            " has it, see that it answers: Airflow takes one that does not for one that has nothing",
        ) from None
    except AirflowRuntimeError as error:
        raise StoreUnavailable(f"Airflow did not hand out the connection {name}: {error}", "try again") from error
    value = connection_url(connection)
    if not value:
        raise CatalogError(
            f"the Airflow connection {name} (type {connection.conn_type or 'none'}) carries neither a URL nor a secret",
            "put the URL or the secret into its password (type generic), or into `url` of its extra",
        )
    return value


def connection_url(connection: Connection) -> str | None:
    """A connection as one URL, path or secret; None if it carries none that we know how to read."""
    extra: Mapping[str, Any] = connection.extra_dejson
    if extra.get("url"):
        return str(extra["url"])
    reader = READERS.get(connection.conn_type or "generic")
    return reader(connection, extra) if reader else None


def _generic(connection: Connection, _: Mapping[str, Any]) -> str | None:
    return connection.password


def _postgres(connection: Connection, extra: Mapping[str, Any]) -> str:
    return _database("postgresql", connection, {k: v for k, v in extra.items() if isinstance(v, str | int)})


def _mysql(connection: Connection, extra: Mapping[str, Any]) -> str:
    """Of the extra, what says how the server is reached: the rest (``charset``, ``cursor``) is for other drivers."""
    ssl = extra.get("ssl") or {}
    options = {f"ssl_{key}": value for key, value in (json.loads(ssl) if isinstance(ssl, str) else ssl).items()}
    if extra.get("unix_socket"):
        options["unix_socket"] = extra["unix_socket"]
    return _database("mysql", connection, options)


def _database(scheme: str, connection: Connection, options: Mapping[str, Any]) -> str:
    user = quote(connection.login or "", safe="")
    if connection.password:
        user += ":" + quote(connection.password, safe="")
    port = f":{connection.port}" if connection.port else ""
    query = f"?{urlencode(options)}" if options else ""
    return f"{scheme}://{user}{'@' if user else ''}{connection.host or ''}{port}/{connection.schema or ''}{query}"


def _sqlite(connection: Connection, _: Mapping[str, Any]) -> str | None:
    path = connection.host or connection.schema
    return f"sqlite:///{path}" if path else None


def _folder(connection: Connection, extra: Mapping[str, Any]) -> str | None:
    return str(extra.get("path") or connection.host or "") or None


def _aws(connection: Connection, extra: Mapping[str, Any]) -> str | None:
    s3 = (extra.get("service_config") or {}).get("s3") or {}
    bucket = s3.get("bucket_name")
    if not bucket:
        return None
    user = ":".join(quote(part, safe="") for part in (connection.login, connection.password) if part)
    options = {
        "endpoint": s3.get("endpoint_url") or extra.get("endpoint_url"),
        "region": s3.get("region_name") or extra.get("region_name"),
    }
    query = urlencode({key: value for key, value in options.items() if value})
    prefix = str(s3.get("prefix", "")).strip("/")
    place = f"{bucket}/{prefix}" if prefix else str(bucket)
    return f"s3://{user}{'@' if user else ''}{place}{'?' if query else ''}{query}"


READERS: Mapping[str, Callable[[Connection, Mapping[str, Any]], str | None]] = {
    "generic": _generic,
    "muster": _generic,
    "postgres": _postgres,
    "postgresql": _postgres,
    "mysql": _mysql,
    "sqlite": _sqlite,
    "fs": _folder,
    "aws": _aws,
}
