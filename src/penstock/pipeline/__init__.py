"""The stages wired together.

ingest   stages 1-3, what the Airflow task runs
stream   stages 3-5 for one micro-batch: raw records -> rows and rejects -> tallies
job      the Spark job around it: start, checkpoint, ledger, clean stop
replay   a stretch of the topic carried out again
"""
