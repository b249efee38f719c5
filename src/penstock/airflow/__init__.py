"""Airflow's REST API: its client, and the DAG's runs."""
