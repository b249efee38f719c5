"""Drills: faults on purpose, under load, each with a verdict.

ground      the local stack that drills are held on: its processes, whether it is ready
load        the records that are under way meanwhile: a DAG run, and users sent straight to the topic
plan        what a drill is
frame       how a drill is held: load, fault, recovery, proof
proof       what became of every record, and whether the logs name the fault
verdict     passed, or what failed
kill away disk checkpoint intake growing     the faults by family
backlog soak                         a long queue, a long time; measured with `usage`
table       every drill
"""
