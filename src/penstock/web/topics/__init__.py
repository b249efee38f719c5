"""The page Topics: topics, consumer groups, messages."""
