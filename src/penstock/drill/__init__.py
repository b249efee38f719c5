"""Drills: deliberate faults under load, each with a verdict.

target      the local stack that a drill runs on: processes and readiness
load        records in flight during a fault: a DAG run, and users produced directly to the topic
plan        definition of a drill
runner      runs a drill: load, fault, recovery, checks
record_checks  checks that every record is accounted for and that the logs name the fault
verdict     passed, or what failed
faults by family: kill away disk checkpoint_faults intake growing recreated_topic redriving transforms
backlog soak   a large backlog; a steady load for minutes, measured with `service_usage` and `growth`
table       list of all drills
"""
