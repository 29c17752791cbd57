"""The demonstration: a real AI workload on this machine, protected, destroyed and brought back by real Airflow DAGs."""
