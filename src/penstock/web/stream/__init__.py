"""The page Stream: Spark's application and the streaming query."""
