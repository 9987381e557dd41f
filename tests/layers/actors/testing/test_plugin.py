"""The pytest plugin, as its users see it: crashes everywhere, replays, and golden histories."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from persistasaurus import FlowSystem
from persistasaurus.store.tools.export import export_file
from testing.shop import LotteryFlow, OrderFlow

pytest_plugins = ["pytester"]

HEAD = """
import pytest
from datetime import timedelta
from testing.shop import *
"""
ORDER = """
@pytest.mark.crash_everywhere
def test_order(flows):
    charge = flows.double(OrderFlow.charge).returns("p").then_raises(OSError)
    order = flows.start(OrderFlow.fulfil, "x")
    flows.clock.advance(days=3)
    order.pause()
    order.resume()
    receipt = order.signal(OrderFlow.approve, "eve")
    assert not receipt.duplicate
    assert order.result() == "x, p, eve, 1, X"
    assert len(charge.calls) == 1
    ran.append(len(charge.runs))

ran = []

def test_it_was_run_many_times():
    assert len(ran) > 20
    assert 2 in ran
    assert 3 in ran
"""
GREEDY = """
@pytest.mark.crash_everywhere
def test_greedy(flows):
    charged.clear()
    print("this run only")
    flows.run(GreedyFlow.go, flow_id="g")
    assert len(charged) == 1
"""


@pytest.fixture(name="users")
def _users(pytester: pytest.Pytester) -> pytest.Pytester:
    # Runs within this process find what other tests have imported.
    imported = "ignore:Module already imported:pytest.PytestAssertRewriteWarning"
    # One flow of the shop is wrong on purpose, and whoever registers it first is warned.
    wrong = "ignore:flow 'hasty' calls"
    pytester.makeini(f"[pytest]\nfilterwarnings =\n    error\n    {imported}\n    {wrong}\n")
    return pytester


def run(users: pytest.Pytester, text: str, *words: str) -> pytest.RunResult:
    users.makepyfile(HEAD + text)
    return users.runpytest_inprocess("-p", "no:cacheprovider", *words)


def test_a_flow_that_bears_every_crash_passes(users: pytest.Pytester) -> None:
    run(users, ORDER).assert_outcomes(passed=2)


def test_chance_is_the_same_however_often_a_start_is_repeated(users: pytest.Pytester) -> None:
    text = "@pytest.mark.crash_everywhere\ndef test_draw(flows):\n    flows.run(LotteryFlow.draw)\n"

    run(users, text).assert_outcomes(passed=1)


def test_a_failure_names_the_event_the_line_and_how_to_see_it_alone(users: pytest.Pytester) -> None:
    told = run(users, GREEDY)

    told.assert_outcomes(failed=1)
    told.stdout.fnmatch_lines(
        [
            "*assert 2 == 1",
            "*At crash 3 of 4 the process died right before this was durable:",
            "  event 3 of flow 'g': step_completed 1 'take' at shop.py:*",
            "  event 4 of flow 'g': flow_completed",
            "*--crash-at 3",
        ]
    )
    assert told.stdout.str().count("this run only") == 2  # the line of the test, and what it has printed


def test_one_crash_alone_can_be_asked_for(users: pytest.Pytester) -> None:
    run(users, GREEDY, "--crash-at", "3").assert_outcomes(failed=1)
    run(users, GREEDY, "--crash-at", "4").assert_outcomes(passed=1)
    run(users, GREEDY, "--crash-at", "5").stderr.fnmatch_lines(["*has crashes 1 to 4, and no 5*"])


def test_a_flow_that_ends_otherwise_is_a_failure_even_if_nothing_is_asserted(users: pytest.Pytester) -> None:
    told = run(users, GREEDY.replace("    assert len(charged) == 1\n", ""))

    told.assert_outcomes(failed=1)
    told.stdout.fnmatch_lines(
        ["flow 'g' ended otherwise:", "*without a crash: completed 1", "*with this one:   completed 2"]
    )


def test_it_works_with_classes_parameters_and_other_fixtures(users: pytest.Pytester) -> None:
    text = """
made = []

@pytest.fixture(scope="module")
def shared():
    made.append("up")
    yield
    made.append("down")

@pytest.fixture
def fresh():
    made.append("fresh")
    return []

@pytest.mark.crash_everywhere
class TestIt:
    @pytest.mark.parametrize("item", ["x", "y"])
    def test_order(self, flows, shared, fresh, tmp_path, monkeypatch, item):
        assert not fresh and not hasattr(self, "dirty") and not list(tmp_path.iterdir())
        fresh.append(1)
        self.dirty = True
        (tmp_path / "file").touch()
        flows.answer(OrderFlow.approve, "eve")
        assert flows.run(OrderFlow.fulfil, item).startswith(item)

def test_shared_fixtures_were_kept(shared):
    assert made.count("up") == 1 and "down" not in made
    assert made.count("fresh") > 20
"""

    run(users, text).assert_outcomes(passed=3)


def test_what_is_skipped_expected_to_fail_or_fails_anyway_is_so_once(users: pytest.Pytester) -> None:
    text = """
pytestmark = pytest.mark.crash_everywhere

@pytest.mark.skip
def test_skipped(flows): ...

@pytest.mark.xfail
def test_expected(flows): assert 0

def test_broken(flows): assert 0

def test_without_a_world(): ...

def test_never_reached(flows): ...
"""

    told = run(users, text, "--maxfail=2")

    told.assert_outcomes(skipped=1, xfailed=1, failed=2)
    told.stdout.fnmatch_lines(["*needs a test that takes the fixture `flows`*"])


def test_a_fixture_that_ends_badly_is_told(users: pytest.Pytester) -> None:
    text = """
@pytest.fixture(scope="module")
def shared():
    yield
    raise OSError("the shared one")

@pytest.mark.crash_everywhere
def test_it(flows, shared):
    flows.run(LotteryFlow.draw)
"""

    run(users, text).assert_outcomes(passed=1, errors=1)


@pytest.mark.parametrize(
    ("mark", "ini"),
    [("@pytest.mark.flows(always_replay=True)", ""), ("", "persistasaurus_always_replay = true")],
)
def test_each_step_can_be_followed_by_a_rebuild(users: pytest.Pytester, mark: str, ini: str) -> None:
    users.makeini(f"[pytest]\n{ini}\n")

    text = (
        f"{mark}\ndef test_what_it_does(flows):\n    flows.run(ForgetfulFlow.go)\n"
        f"{mark}\ndef test_what_it_keeps(flows):\n    flows.run(HastyFlow.go)\n"
    )

    told = run(users, text)

    told.assert_outcomes(failed=2)
    told.stdout.fnmatch_lines(["*always_replay*", "*recorded:*shop.py*", "*attempted:*shop.py*"])
    told.stdout.fnmatch_lines(["*always_replay*", "*after event 2: self.began", "*live:*", "*rebuilt:*"])


# ------------------------------------------------------------------------------- golden histories
@pytest.fixture(name="golden")
def _golden(users: pytest.Pytester) -> pytest.Pytester:
    """Lay down histories in `golden`, and code that has changed since as `changed.py`."""
    folder = users.mkdir("golden")
    store = users.path / "orders.db"
    with FlowSystem(store, flows=[OrderFlow, LotteryFlow]) as system:
        for n in range(2):
            system.start(OrderFlow.fulfil, "a book", flow_id=f"order-{n}")
        system.run(LotteryFlow.draw, flow_id="lottery")
    export_file(store, folder / "orders.jsonl")
    changed = """
        from persistasaurus import Flow, flow, step

        class OrderFlow(Flow):
            @flow(name="order")
            async def fulfil(self, item: str) -> str:
                return await self.pack(item)

            @step
            def pack(self, item: str) -> str:
                return item
    """
    users.makepyfile(changed=changed, test_other="def test_other(): ...")
    return users


def test_histories_replay_with_the_code_that_wrote_them(golden: pytest.Pytester) -> None:
    golden.runpytest_inprocess("--replay-histories", "golden", "--flows", "testing.shop").assert_outcomes(
        passed=3
    )
    golden.makeini("[pytest]\npersistasaurus_flows = testing.shop\n")
    golden.runpytest_inprocess("--replay-histories", "golden").assert_outcomes(passed=3)
    golden.runpytest_inprocess("--replay-histories", "golden", "test_other.py").assert_outcomes(passed=4)
    golden.runpytest_inprocess().assert_outcomes(passed=1)


def test_code_that_has_changed_is_told_with_both_lines_and_what_to_do(golden: pytest.Pytester) -> None:
    told = golden.runpytest_inprocess("--replay-histories", "golden", "--flows", "changed")

    told.assert_outcomes(failed=3)
    told.stdout.fnmatch_lines(
        [
            "*history of order-0*",
            "*at event 2:",
            "*recorded:  step 1 'charge' at shop.py:*",
            "*attempted: step 1 'pack' at changed.py:*",
            "What to do: *",
            "no flow named 'lottery' is among those of --flows, which are 'order'*",
        ]
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["golden"], "needs the flows: --flows MODULE"),
        (["nowhere", "--flows", "testing.shop"], "there is no nowhere"),
        (["golden", "--flows", "nonsense"], "there is no module 'nonsense'"),
    ],
)
def test_what_cannot_be_replayed_is_wrong_usage(golden: pytest.Pytester, words: list[str], said: str) -> None:
    told = golden.runpytest_inprocess("--replay-histories", *words)

    assert told.ret == pytest.ExitCode.USAGE_ERROR
    assert said in told.stderr.str()


def test_a_warning_of_a_flow_that_counts_as_an_error_is_wrong_usage(golden: pytest.Pytester) -> None:
    golden.makepyfile(
        rash="""
        import time
        from persistasaurus import flow

        @flow
        async def rash() -> float:
            return time.time()
        """
    )

    told = golden.runpytest_inprocess("--replay-histories", "golden", "--flows", "rash")

    assert told.ret == pytest.ExitCode.USAGE_ERROR
    assert "flow 'rash' calls time.time() at rash.py:" in told.stderr.str()


def test_a_file_that_was_changed_is_an_error(golden: pytest.Pytester) -> None:
    path = golden.path / "golden" / "orders.jsonl"
    path.write_text(path.read_text().replace("a book", "a nook"))

    golden.runpytest_inprocess("--replay-histories", "golden", "--flows", "testing.shop").assert_outcomes(
        errors=1
    )


def test_a_run_without_flows_does_not_import_the_engine(users: pytest.Pytester) -> None:
    users.makepyfile("def test_it(): ...")
    program = (
        "import sys, pytest\n"
        "assert pytest.main(['-q', '--collect-only', '-p', 'persistasaurus_pytest']) == 0\n"
        "assert 'persistasaurus_pytest' in sys.modules\n"
        "print('ENGINE', *({'persistasaurus', 'apsw', 'pykka', 'msgspec'} & sys.modules.keys()))"
    )

    alone = os.environ | {
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"
    }  # whatever else is installed imports what it likes
    told = subprocess.run(
        [sys.executable, "-c", program], cwd=users.path, env=alone, capture_output=True, text=True, check=True
    )

    assert told.stdout.splitlines()[-1].strip() == "ENGINE"
