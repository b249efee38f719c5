"""Monitor the pipeline: snapshots, rates and alerts.

services  which service answers
poller    one poll of the pipeline: offsets, lag, dead letters
monitor   fifteen minutes of polls, with rates and latencies
alerts    the rules over a snapshot
watch     the loop that evaluates them; history, webhook: where it reports; regular: its scheduled `verify`
"""
