"""Reconciliation on Spark, by the statements of `observe/reconciliation.sql`, for topics larger than a machine."""
