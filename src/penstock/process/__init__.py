"""Stage 4: decode Kafka's bytes to records, or rejects. Uses pyspark.

session     the Spark session, and the stream of raw Kafka records
decode      bytes -> record | fault, by the schema the bytes were written with; writer: these schemas, parsed
batches     Arrow batches of raw records -> decoded rows and rejects, and back to a DataFrame for a transform
checkpoint  where a query resumes: repaired, compared with Kafka, moved away; checkpoint_files: where it can be stored
key_decoding the ids in keys; key_evidence: what a batch proves of the topic's keys
"""
