"""Benchmarks: the pipeline compared with its alternatives and with the limits of the machine.

All figures of a benchmark come from contestants that took turns on the same data. They are compared by CPU time per
record, which varies less than wall time.

target      a separate local stack, with topics of generated records and empty tables
meter       CPU time and memory of processes
measure     runs a contestant's program and measures it
ingest store latency endtoend stages growth verification type_costs start      the benchmarks
suite       selects and repeats benchmarks; report and plots render the results
quick       compares the working tree with a revision
peers/      the programs compared with, each with the lock file of its environment; peer_environments installs them
*_program   programs of penstock itself that the benchmarks run
"""
