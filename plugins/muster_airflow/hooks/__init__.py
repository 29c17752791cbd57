"""The one way from Airflow to the core, and from Airflow's connections to the URLs that the core understands."""
