import os
import time

from benchmarks.pool import run_jobs

THREADS = os.environ.get("OMP_NUM_THREADS")


def work(job):
    if job == "die":
        os._exit(3)
    if job == "sleep":
        time.sleep(60)
    if job == "raise":
        raise KeyError("a reason")
    return job, os.getpid(), os.environ["OMP_NUM_THREADS"]


def test_every_job_has_an_outcome_whatever_the_others_do():
    jobs = ["die", 1, "sleep", "raise", 2, 3, "die", 4]
    outcomes = dict(run_jobs(work, jobs, processes=2, timeout_s=2.0))
    assert sorted(outcomes) == list(range(8))
    for index, job in enumerate(jobs):
        outcome = outcomes[index]
        if isinstance(job, int):
            assert outcome.error is None
            assert outcome.value[0] == job
            assert outcome.value[2] == "1"  # one thread, whatever this process has
        else:
            assert outcome.value is None
    assert "exit code 3" in outcomes[0].error
    assert "no answer after 2 s" in outcomes[2].error
    assert 2 <= outcomes[2].wall_s < 20
    assert "KeyError: 'a reason'" in outcomes[3].error
    assert os.environ.get("OMP_NUM_THREADS") == THREADS


def test_workers_are_kept():
    outcomes = dict(run_jobs(work, list(range(6)), processes=1, timeout_s=30))
    assert [outcomes[i].value[0] for i in range(6)] == list(range(6))
    assert len({outcome.value[1] for outcome in outcomes.values()}) == 1


def test_no_jobs():
    assert list(run_jobs(work, [], processes=2, timeout_s=1)) == []
