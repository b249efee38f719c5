"""Stage 4: decode Kafka's bytes to records (`codec.records`), or rejects. Uses pyspark.

session     the Spark session, and the stream of raw Kafka records
batches     Arrow batches of raw records -> decoded rows and rejects, and back to a DataFrame for a transform
checkpoint  where a query resumes: repaired, compared with Kafka, moved away; checkpoint_files: where it can be stored
ordering    what orders a record, if that is not its offset; key_evidence: what a batch proves of the topic's keys
"""
