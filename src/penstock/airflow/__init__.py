"""Airflow: the REST client (`api_client`) and the DAG's runs (`runs`)."""
