"""Stage 4: Kafka's bytes become records, or rejects. pyspark lives here.

session     the Spark session, and the stream of raw Kafka records
decode      bytes -> record | fault, by the schema the bytes were written with; writer: these schemas, parsed
batches     Arrow batches of raw records -> decoded rows and rejects, and back to a DataFrame for a transform
checkpoint  where a query goes on from: mended, compared with Kafka, set aside; files: where it may lie
"""
