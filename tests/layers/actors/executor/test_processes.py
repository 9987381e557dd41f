from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from executor.doubles import DEAD_MAN_S, MakeExecutor, Reports, Submit
from persistasaurus.actors.steps import processes as steps_processes
from persistasaurus.actors.steps.executor import (
    RemoteStepError,
    StepCrashed,
    StepExecutor,
    StepTask,
    StepTimeout,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from persistasaurus.actors.runtime.environment import Environment


@pytest.fixture
def executor(make_executor: MakeExecutor) -> StepExecutor:
    return make_executor(max_processes=1)


@pytest.fixture
def isolated(submit: Submit) -> Submit:
    def isolated(name: str, payload: bytes = b"", **options: Any) -> Any:
        return submit(mode="process", target=("executor.isolated_targets", name), payload=payload, **options)

    return isolated


def test_the_payload_goes_there_and_the_result_comes_back_whatever_the_size(
    isolated: Submit, done: Reports
) -> None:
    for size in (0, 1, 70_000, 5_000_000):
        payload = os.urandom(size)
        assert done.wait_for(isolated("Echo", payload)).value == payload


def test_a_worker_process_is_another_one_and_is_used_again(isolated: Submit, done: Reports) -> None:
    pids = [int(done.wait_for(isolated("Pid")).value) for _ in range(5)]

    assert len(set(pids)) == 1
    assert pids[0] != os.getpid()


@pytest.mark.parametrize(
    ("name", "payload", "told"),
    [
        ("Segfault", b"", "killed by SIGSEGV"),
        ("Exit", b"7", "exit code 7"),
        ("Exit", b"0", "exit code 0"),
        ("KillMyself", b"", "killed by SIGKILL"),
    ],
)
def test_the_death_of_a_worker_is_the_error_of_its_step_only(
    name: str, payload: bytes, told: str, isolated: Submit, done: Reports
) -> None:
    error = done.wait_for(isolated(name, payload)).error

    assert isinstance(error, StepCrashed)
    assert str(error) == f"the process of step 'a step' died: {told}"
    assert done.wait_for(isolated("Echo", b"next")).value == b"next"


def test_many_deaths_each_tell_how(make_executor: MakeExecutor, submit: Submit, done: Reports) -> None:
    executor = make_executor(max_processes=3)
    keys = [
        submit(mode="process", target=("executor.isolated_targets", "Exit"), payload=b"%d" % n, to=executor)
        for n in range(1, 13)
    ]

    told = [str(done.wait_for(key).error) for key in keys]

    assert told == [f"the process of step 'a step' died: exit code {n}" for n in range(1, 13)]


def test_what_is_raised_there_comes_back_as_text(isolated: Submit, done: Reports) -> None:
    outcome = done.wait_for(isolated("Raise", b"card"))

    assert isinstance(outcome.error, RemoteStepError)
    assert outcome.error.type_name == "LookupError"
    assert outcome.error.message == "no card \\udc80"
    assert "in call_encoded" in outcome.traceback
    assert "actors/steps/" not in outcome.traceback


@pytest.mark.parametrize(
    ("name", "type_name"),
    [
        ("RaiseSystemExit", "SystemExit"),
        ("RaiseUnreadable", "Unreadable"),
        ("NoBytes", "TypeError"),
        ("IsNotThere", "AttributeError"),
    ],
)
def test_a_worker_survives_what_a_step_raises(
    name: str, type_name: str, isolated: Submit, done: Reports
) -> None:
    before = done.wait_for(isolated("Pid")).value

    error = done.wait_for(isolated(name)).error

    assert isinstance(error, RemoteStepError)
    assert error.type_name == type_name
    assert done.wait_for(isolated("Pid")).value == before


def test_a_module_that_is_not_there_is_that_steps_error(submit: Submit, done: Reports) -> None:
    error = done.wait_for(submit(mode="process", target=("no_such_module", "x"))).error

    assert isinstance(error, RemoteStepError)
    assert error.type_name == "ModuleNotFoundError"


def test_a_task_without_target_is_its_own_error(submit: Submit, isolated: Submit, done: Reports) -> None:
    assert isinstance(done.wait_for(submit(mode="process")).error, TypeError)
    assert done.wait_for(isolated("Echo", b"next")).value == b"next"


def test_an_endless_loop_is_killed_and_its_worker_replaced(
    isolated: Submit, done: Reports, executor: StepExecutor, tmp_path: Path
) -> None:
    key = isolated("LoopForEver", bytes(tmp_path / "told"), timeout_s=0.2)

    error = done.wait_for(key).error

    assert isinstance(error, StepTimeout)
    assert str(error) == "step 'a step' ran longer than 0.2 s; its process was killed"
    assert done.wait_for(isolated("Echo", b"next")).value == b"next"
    assert executor.leaked == 0
    assert len(done.outcomes[key]) == 1
    wait_until_gone(told(tmp_path / "told")["pid"])


def test_what_a_step_has_started_is_killed_with_it(isolated: Submit, done: Reports, tmp_path: Path) -> None:
    key = isolated("LeaveAProcess", bytes(tmp_path / "told"), timeout_s=1)

    assert isinstance(done.wait_for(key).error, StepTimeout)
    assert done.wait_for(isolated("Echo", b"next")).value == b"next"
    for pid in told(tmp_path / "told").values():
        wait_until_gone(pid)


def test_a_killed_worker_is_noticed_though_its_children_hold_the_pipe(
    isolated: Submit, done: Reports, tmp_path: Path
) -> None:
    key = isolated("LeaveAProcess", bytes(tmp_path / "told"))
    pids = wait_until_told(tmp_path / "told")
    os.kill(pids["pid"], signal.SIGKILL)

    assert str(done.wait_for(key).error).endswith("killed by SIGKILL")
    os.kill(pids["other"], signal.SIGKILL)


def test_a_worker_that_dies_while_idle_is_replaced_unnoticed(isolated: Submit, done: Reports) -> None:
    first = int(done.wait_for(isolated("DieWhenIdle")).value)
    wait_until_gone(first)

    assert int(done.wait_for(isolated("Pid")).value) != first


def test_workers_ignore_the_terminals_interrupt(isolated: Submit, done: Reports) -> None:
    assert done.wait_for(isolated("Interrupt")).value == b"still here"


def test_workers_do_not_hold_files_of_their_parent(isolated: Submit, done: Reports, tmp_path: Path) -> None:
    lock = tmp_path / "flows.db.lock"
    with lock.open("w") as held:
        os.set_inheritable(held.fileno(), True)
        fcntl.flock(held, fcntl.LOCK_EX)
        names = msgspec.json.decode(done.wait_for(isolated("OpenFiles")).value)
    with lock.open("w") as again:
        fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)

    assert str(lock) not in names


def test_no_more_processes_run_than_allowed(isolated: Submit, done: Reports, executor: StepExecutor) -> None:
    keys = [isolated("Pid") for _ in range(6)]

    assert len({done.wait_for(key).value for key in keys}) == 1


def test_a_run_that_is_given_up_before_its_process_is_there_is_not_run(
    isolated: Submit,
    executor: StepExecutor,
    environment: Environment,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    starting, go_on = threading.Event(), threading.Event()
    find = steps_processes.ProcessRunner._living_child

    def slowly(runner: Any, run: Any) -> Any:
        starting.set()
        go_on.wait(DEAD_MAN_S)
        return find(runner, run)

    monkeypatch.setattr(steps_processes.ProcessRunner, "_living_child", slowly)
    key = isolated("LoopForEver", bytes(tmp_path / "told"))
    assert starting.wait(DEAD_MAN_S)
    closing: list[Any] = []
    closer = threading.Thread(target=lambda: closing.append(executor.close(environment.clock.elapsed())))
    closer.start()
    while executor.running():
        pass
    go_on.set()
    closer.join(DEAD_MAN_S)

    assert closing == [(key,)]
    assert not (tmp_path / "told").exists()


def test_a_worker_that_was_killed_too_late_for_its_step_does_not_fail_the_next(
    isolated: Submit, done: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    converse = steps_processes.ProcessRunner._converse

    def then_kill(runner: Any, run: Any, child: Any) -> Any:
        outcome = converse(runner, run, child)
        runner.kill(run)
        return outcome

    monkeypatch.setattr(steps_processes.ProcessRunner, "_converse", then_kill)

    keys = [isolated("Echo", b"%d" % n) for n in range(8)]

    assert [done.wait_for(key).value for key in keys] == [b"%d" % n for n in range(8)]


PROGRAM = """
    import os, sys, threading
    from persistasaurus.actors.steps.executor import StepExecutor, StepTask
    from persistasaurus.actors.runtime.environment import Environment

    class Double:
        class Inner:
            @staticmethod
            def call_encoded(payload, find):
                return payload * 2

    class Hang:
        @staticmethod
        def call_encoded(payload, find):
            print(os.getpid(), flush=True)
            while True:
                pass

    def main():
        environment = Environment.system()
        executor = StepExecutor(environment)
        told = threading.Event()
        def done(task, outcome):
            print(outcome.value or outcome.error, flush=True)
            told.set()
        target = ("__main__", sys.argv[1])
        executor.submit(StepTask(key=1, mode="process", name="x", target=target, payload=b"ab"), done)
        told.wait(60)
        executor.close(environment.clock.elapsed() + 5)

"""


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], str]:
    def script(ending: str) -> str:
        path = tmp_path / "program.py"
        path.write_text(textwrap.dedent(PROGRAM) + ending)
        return str(path)

    return script


def test_a_target_in_the_script_that_is_run_is_found(script: Callable[[str], str]) -> None:
    path = script('if __name__ == "__main__":\n    main()\n')

    ran = subprocess.run(
        [sys.executable, path, "Double.Inner"], capture_output=True, check=True, timeout=60, text=True
    )

    assert ran.stdout.strip() == "b'abab'"
    assert ran.stderr == ""


def test_a_script_that_cannot_be_imported_again_is_told_what_may_be_missing(
    script: Callable[[str], str],
) -> None:
    path = script('if __name__ != "__main__":\n    sys.exit("the store is owned by another")\nmain()\n')

    ran = subprocess.run(
        [sys.executable, path, "Double.Inner"], capture_output=True, check=False, timeout=60, text=True
    )

    assert "died: exit code 1 while it started" in ran.stdout
    assert 'guard what it does with if __name__ == "__main__"' in ran.stdout


def test_a_busy_worker_dies_with_its_parent(script: Callable[[str], str]) -> None:
    path = script('if __name__ == "__main__":\n    main()\n')
    with subprocess.Popen([sys.executable, path, "Hang"], stdout=subprocess.PIPE, text=True) as parent:
        worker = int(parent.stdout.readline())
        parent.kill()

        wait_until_gone(worker)


def test_an_idle_worker_dies_with_its_parent(script: Callable[[str], str]) -> None:
    path = script('if __name__ == "__main__":\n    main()\n')
    program = Path(path)
    program.write_text(program.read_text().replace("told.wait(60)", "told.wait(60); input()"))
    with subprocess.Popen(
        [sys.executable, path, "Double.Inner"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout.readline() == "b'abab'\n"
        workers = children_of(parent.pid)
        assert workers
        parent.kill()

        for worker in workers:
            wait_until_gone(worker)


def children_of(pid: int) -> list[int]:
    return [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]


def wait_until_gone(pid: int) -> None:
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([process], [], [], DEAD_MAN_S)[0], f"process {pid} is still there"
    finally:
        os.close(process)


def told(path: Path) -> dict[str, int]:
    return msgspec.json.decode(path.read_bytes(), type=dict[str, int])


def wait_until_told(path: Path) -> dict[str, int]:
    waiting = threading.Event()
    for _ in range(2000):
        if path.exists():
            return told(path)
        waiting.wait(0.01)
    raise AssertionError("the step has not begun")


def test_a_done_of_a_process_step_may_submit_the_next(executor: StepExecutor, done: Reports) -> None:
    def again(task: StepTask, outcome: Any) -> None:
        done(task, outcome)
        if task.key < 3:
            executor.submit(
                StepTask(
                    key=task.key + 1, mode="process", name="x", target=task.target, payload=outcome.value
                ),
                again,
            )

    target = ("executor.isolated_targets", "Echo")
    executor.submit(StepTask(key=0, mode="process", name="x", target=target, payload=b"x"), again)

    assert done.wait_for(3).value == b"x"
