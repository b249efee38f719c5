"""The benchmarks: the pipeline beside what people would use instead, and beside the limits of the machine.

Every figure is one of a run in which the contestants took turns on the same data. What they are told apart by is
CPU time per record, which is steadier than wall time.

ground      a local stack of their own, with topics of made-up records and tables that were never written to
meter       processor time and memory of processes
race        contestants that take turns; a lap is one contestant's run
ingest store latency growth start       the benchmarks
suite       which of them run, and how often; report and plots show what came of it
quick       the working tree against a revision
peers/      the programs that they run against, each with the lock of its environment
"""
