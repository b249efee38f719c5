import os
import sys
import time

import psutil
import pytest

from bench.measure import BenchFailed, Mark, Program, Running, compute_measurement, measure_program, track_done_lines
from bench.meter import Meter


def program(code: str) -> Program:
    return Program((sys.executable, "-u", "-c", code), track_done_lines)


def this_process(_service: str):
    return lambda: [psutil.Process()]


def test_progress_is_the_number_of_new_records():
    """Each line contains the total so far. Other lines are ignored."""
    count_new = track_done_lines()
    assert [count_new(line) for line in ('{"done": 3}\n', "a warning\n", '{"done": 10}\n')] == [3, 0, 7]


def test_lines_printed_together_are_one_step():
    """The four lines of a micro-batch of four partitions count as one step."""
    code = (
        "import time\nfor n in (1, 2, 3, 4): print('{\"done\": %d}' % n)\n"
        "time.sleep(0.5)\nprint('{\"done\": 9}')\ntime.sleep(9)"
    )
    with Running(program(code)) as running:
        steps = running.steps(20)
        assert [next(steps), next(steps)] == [4, 5]


def test_a_program_that_exits_too_early_is_an_error_with_its_last_lines():
    """The error quotes the last lines of its output."""
    with (
        Running(program("print('oh dear')")) as running,
        pytest.raises(BenchFailed, match=r"exited before(.|\n)*oh dear"),
    ):
        next(running.steps(20))


def test_a_program_that_takes_too_long_is_an_error():
    """Waiting for progress has a timeout."""
    with Running(program("import time; time.sleep(60)")) as running, pytest.raises(BenchFailed, match="timed out"):
        next(running.steps(0.1))


def test_a_program_is_stopped_with_its_child_processes():
    """All processes are gone when the block ends."""
    code = (
        "import subprocess, sys, time\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print('{\"done\": 1}')\ntime.sleep(60)"
    )
    with Running(program(code)) as running:
        next(running.steps(20))
        processes = running.processes()
        assert len(processes) == 2
    assert psutil.wait_procs(processes, timeout=10)[1] == []


def test_a_run_is_measured_from_its_first_step_to_its_last():
    """Records and CPU time before the first step do not count. The time since the program's start is separate."""
    code = (
        "import time\n"
        "def burn(s):\n"
        "    end = time.process_time() + s\n"
        "    while time.process_time() < end: pass\n"
        "burn(0.4)\nprint('{\"done\": 100}')\ntime.sleep(0.1)\nburn(0.2)\nprint('{\"done\": 300}')\ntime.sleep(9)"
    )
    measured = measure_program(program(code), this_process, 300, timeout_s=60)
    assert measured.records == 200
    assert 0 < measured.cpu_us_per_row["Python"] < 0.4 * 1e6 / 200  # the system counts in ticks of 10 ms
    assert measured.cpu_us_per_row["Java"] == 0.0
    assert measured.cold_s > measured.seconds + 0.4
    assert measured.rows_per_s == 200 / measured.seconds
    assert measured.numbers()["cpu_us"] == pytest.approx(sum(measured.cpu_us_per_row.values()))


def test_a_measurement_is_the_difference_of_two_marks():
    """Records and CPU time of each kind are the second mark's minus the first's, CPU time per record."""
    first = Mark(100, 10.0, {"kafka": 1.0, "Python": 5.0})
    last = Mark(300, 14.0, {"kafka": 1.5, "Python": 5.2})
    measured = compute_measurement(first, last, 20.0, Meter({"kafka": list}))
    assert (measured.records, measured.seconds, measured.cold_s, measured.rows_per_s) == (200, 4.0, 20.0, 50.0)
    assert measured.cpu_us_per_row == {"kafka": 2500.0, "Python": pytest.approx(1000.0)}
    assert measured.rss_mib == {"kafka": 0}


def test_records_of_the_warm_up_are_skipped():
    """With `skip`, the measurement starts at the first step that reaches it."""
    code = "import time\nfor n in (100, 200, 300):\n    print('{\"done\": %d}' % n); time.sleep(0.2)\ntime.sleep(9)"
    assert measure_program(program(code), this_process, 300, skip=150, timeout_s=60).records == 100


def test_a_slightly_smaller_batch_completes_the_warm_up():
    """Spark rounds the share of each partition, so a batch may be smaller than requested."""
    code = "import time\nfor n in (999, 2000):\n    print('{\"done\": %d}' % n); time.sleep(0.2)\ntime.sleep(9)"
    assert measure_program(program(code), this_process, 2000, skip=1000, timeout_s=60).records == 1001


@pytest.mark.parametrize("skip", [0, 3])
def test_a_single_step_is_measured_from_the_programs_start(skip: int):
    """Records that are reported in one step are measured too, including the program's start."""
    code = "import time\nwhile time.process_time() < 0.3: pass\nprint('{\"done\": 5}'); time.sleep(9)"
    measured = measure_program(program(code), this_process, 5, skip=skip, timeout_s=60)
    assert measured.records == 5
    assert measured.cold_s > measured.seconds > 0.2
    assert measured.rows_per_s == 5 / measured.seconds
    assert measured.cpu_us_per_row["Python"] > 0.05 * 1e6 / 5  # CPU time before the first sample is not measured


def test_a_programs_variables_are_added_to_the_environment():
    """The program gets its own variables in addition to the inherited ones. Ours are unchanged."""
    before = {**os.environ}
    echo = program("import os; print('{\"done\": %d}' % (os.environ['N'] == '7')); import time; time.sleep(9)")
    with Running(Program(echo.command, track_done_lines, env={"N": "7"})) as running:
        assert next(running.steps(20)) == 1
    assert dict(os.environ) == before
    assert time.monotonic() > running.started_s
