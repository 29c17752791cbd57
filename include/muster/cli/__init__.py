"""The `muster` command: break glass. It runs the same operations as Airflow's tasks, and needs no Airflow."""
