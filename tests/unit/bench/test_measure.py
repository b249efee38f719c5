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


def test_progress_is_what_is_more_than_before():
    """Each line tells how many are done in all; other lines tell of nothing."""
    more = track_done_lines()
    assert [more(line) for line in ('{"done": 3}\n', "a warning\n", '{"done": 10}\n')] == [3, 0, 7]


def test_lines_at_one_time_are_one_step():
    """A micro-batch of four partitions is told in four lines, and is one step."""
    code = (
        "import time\nfor n in (1, 2, 3, 4): print('{\"done\": %d}' % n)\n"
        "time.sleep(0.5)\nprint('{\"done\": 9}')\ntime.sleep(9)"
    )
    with Running(program(code)) as running:
        steps = running.steps(20)
        assert [next(steps), next(steps)] == [4, 5]


def test_a_program_that_ends_too_early_is_told_with_its_last_lines():
    """What it printed last stands in the error."""
    with (
        Running(program("print('oh dear')")) as running,
        pytest.raises(BenchFailed, match=r"ended before(.|\n)*oh dear"),
    ):
        next(running.steps(20))


def test_a_program_that_takes_too_long_is_told():
    """A wait has an end."""
    with Running(program("import time; time.sleep(60)")) as running, pytest.raises(BenchFailed, match="too long"):
        next(running.steps(0.1))


def test_a_program_is_ended_with_all_that_it_started():
    """Nothing is left behind, however the block ends."""
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


def test_a_lap_is_measured_from_its_first_step_to_its_last():
    """What came before is not counted, neither records nor CPU time; the time from the start is kept apart."""
    code = (
        "import time\n"
        "def burn(s):\n"
        "    end = time.process_time() + s\n"
        "    while time.process_time() < end: pass\n"
        "burn(0.4)\nprint('{\"done\": 100}')\ntime.sleep(0.1)\nburn(0.2)\nprint('{\"done\": 300}')\ntime.sleep(9)"
    )
    found = measure_program(program(code), this_process, 300, timeout_s=60)
    assert found.records == 200
    assert 0 < found.cpu_us_per_row["Python"] < 0.4 * 1e6 / 200  # the system counts in ticks of 10 ms
    assert found.cpu_us_per_row["Java"] == 0.0
    assert found.cold_s > found.seconds + 0.4
    assert found.rows_per_s == 200 / found.seconds
    assert found.numbers()["cpu_us"] == pytest.approx(sum(found.cpu_us_per_row.values()))


def test_a_lap_is_what_lies_between_two_marks():
    """Records and CPU time of each kind are those of the second mark less those of the first, per record."""
    first = Mark(100, 10.0, {"kafka": 1.0, "Python": 5.0})
    last = Mark(300, 14.0, {"kafka": 1.5, "Python": 5.2})
    found = compute_measurement(first, last, 20.0, Meter({"kafka": list}))
    assert (found.records, found.seconds, found.cold_s, found.rows_per_s) == (200, 4.0, 20.0, 50.0)
    assert found.cpu_us_per_row == {"kafka": 2500.0, "Python": pytest.approx(1000.0)}
    assert found.rss_mib == {"kafka": 0}


def test_what_warms_up_is_passed_over():
    """With `skip`, the first step that reaches it is where the lap begins."""
    code = "import time\nfor n in (100, 200, 300):\n    print('{\"done\": %d}' % n); time.sleep(0.2)\ntime.sleep(9)"
    assert measure_program(program(code), this_process, 300, skip=150, timeout_s=60).records == 100


def test_a_batch_that_is_a_little_short_has_warmed_up_too():
    """Spark asks each partition for its part, and rounds it."""
    code = "import time\nfor n in (999, 2000):\n    print('{\"done\": %d}' % n); time.sleep(0.2)\ntime.sleep(9)"
    assert measure_program(program(code), this_process, 2000, skip=1000, timeout_s=60).records == 1001


@pytest.mark.parametrize("skip", [0, 3])
def test_what_is_told_at_once_is_measured_from_the_start(skip: int):
    """So few records that a program tells of them in one step have a rate and a cost too: its start is in them."""
    code = "import time\nwhile time.process_time() < 0.3: pass\nprint('{\"done\": 5}'); time.sleep(9)"
    found = measure_program(program(code), this_process, 5, skip=skip, timeout_s=60)
    assert found.records == 5
    assert found.cold_s > found.seconds > 0.2
    assert found.rows_per_s == 5 / found.seconds
    assert found.cpu_us_per_row["Python"] > 0.05 * 1e6 / 5  # what it used before the first look is not seen


def test_the_environment_of_a_program_is_its_own_on_top():
    """It sees what it was given, and what everybody sees."""
    before = {**os.environ}
    one = program("import os; print('{\"done\": %d}' % (os.environ['N'] == '7')); import time; time.sleep(9)")
    with Running(Program(one.command, track_done_lines, env={"N": "7"})) as running:
        assert next(running.steps(20)) == 1
    assert dict(os.environ) == before
    assert time.monotonic() > running.started_s
