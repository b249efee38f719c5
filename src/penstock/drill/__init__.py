"""Drills: deliberate faults under load, each with a verdict.

ground      the target: a local stack, its processes and readiness
load        records in flight during a fault: a DAG run, and users produced directly to the topic
plan        definition of a drill
frame       runs a drill: load, fault, recovery, checks
proof       checks that every record is accounted for and that the logs name the fault
verdict     passed, or what failed
kill away disk checkpoint intake growing redriving transforms     faults by family
backlog soak                         a large backlog; a steady load for minutes, measured with `usage` and `growth`
table       list of all drills
"""
