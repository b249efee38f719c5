"""Stage 6: what can be known from outside, by asking the services alone.

airflow  Airflow's REST API: trigger a run, follow it, read what its task says
audit    Kafka's records against the ledger, the table and the dead-letter topic
receipt  a run from the order to the rows: asked, fetched, produced, stored, rejected, missing
"""
