"""How is the pipeline now? Snapshots, rates and alerts.

services  which service answers
gauges    a snapshot of the pipeline: offsets, lag, dead letters
flow      fifteen minutes of snapshots, with rates and latencies
alerts    the rules over a snapshot
watch     the loop that evaluates them; history, webhook: where it reports; regular: its scheduled `verify`
"""
