"""The page Runs: the DAG and its runs."""
