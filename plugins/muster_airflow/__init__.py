"""How Airflow speaks to the core: hook, operators, policies, assets. Ordinary modules, imported by DAG files; no plugin."""
