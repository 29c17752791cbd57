"""One operator, one step: it translates between Airflow and one operation of the core, and decides nothing."""
