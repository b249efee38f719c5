"""The stages wired together.

ingest   stages 1-3, run by the Airflow task
stream   stages 3-5 for one micro-batch: raw records -> rows and dead letters -> summaries
job      the Spark job around it: start, checkpoint, ledger, clean stop
replay   processes a range of the topic again

topic_guard     stops the job if its topic was recreated
message_draft   a message that an operator composes, validated by its topic's schema
"""
