"""The page Pipeline: every stage, live."""
