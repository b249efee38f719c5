"""Benchmarks: the pipeline compared with its alternatives and with the limits of the machine.

All figures of a benchmark come from contestants that took turns on the same data. They are compared by CPU time per
record, which varies less than wall time.

ground      the target: a local stack of its own, with topics of generated records and empty tables
meter       CPU time and memory of processes
race        runs contestants and measures laps; a lap is one run of one contestant
ingest store latency endtoend stages growth start       the benchmarks
suite       selects and repeats benchmarks; report and plots render the results
quick       compares the working tree with a revision
peers/      the programs compared with, each with the lock file of its environment
"""
