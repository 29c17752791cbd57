"""
Make the secrets of docker-compose.yaml, once: ``python3 include/deploy/make_secrets.py``. What is there already is left alone.

Compose mounts the files into containers that run as another user, so the files are readable and their folder is not.
"""

import base64
import json
import secrets
import sys
from pathlib import Path

FOLDER = Path(__file__).with_name("secrets")


def main() -> None:
    """Write every secret that is missing, and name it."""
    FOLDER.mkdir(mode=0o700, exist_ok=True)
    for name in ("postgres_password", "airflow_database_password", "mlflow_database_password", "admin_password"):
        keep(name, secrets.token_urlsafe(24))
    for name in ("api_secret_key", "jwt_secret"):
        keep(name, secrets.token_hex(32))
    keep("fernet_key", base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())
    airflow, mlflow = read("airflow_database_password"), read("mlflow_database_password")
    keep("airflow_database_url", f"postgresql+psycopg2://airflow:{airflow}@postgres:5432/airflow")
    keep("mlflow_database_url", f"postgresql+psycopg2://mlflow:{mlflow}@postgres:5432/mlflow")
    keep("connections.json", connections())


def connections() -> str:
    """The connections that the catalog names; the value stands in the password field, which Airflow masks."""
    values = {
        "flights_repo": "/var/lib/muster/flights",
        "mlflow_store": read("mlflow_database_url"),
        "mlflow_artifacts": "/var/lib/mlflow/artifacts",
        "muster_vault": "file:///var/lib/muster/vault",
        "muster_passphrase": secrets.token_urlsafe(32),
    }
    return json.dumps({name: {"conn_type": "generic", "password": value} for name, value in values.items()}, indent=2)


def keep(name: str, value: str) -> None:
    """Write a secret unless there is one."""
    file = FOLDER / name
    if not file.exists():
        file.write_text(value)
        sys.stdout.write(f"made {file}\n")


def read(name: str) -> str:
    """A secret that was made before."""
    return (FOLDER / name).read_text()


if __name__ == "__main__":
    main()
