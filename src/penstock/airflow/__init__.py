"""Airflow's REST API: api_client, and the DAG's runs."""
