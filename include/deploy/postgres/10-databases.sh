#!/bin/bash
# Run once by the postgres image on an empty data folder: one role and one database each for Airflow and MLflow.
set -euo pipefail

for name in airflow mlflow; do
    psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres \
        --set name="$name" --set password="$(cat "/run/secrets/${name}_database_password")" <<'SQL'
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name";
SQL
done
