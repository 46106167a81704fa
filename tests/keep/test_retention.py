"""What goes and what stays: the rules of lab.toml on labs of all kinds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from labd.config import Keep, KeepRule
from labd.keep.retention import Going, Way, age_limits, due, reclaim, rule_of
from labd.keep.space import GB
from labd.model.kept import Kept
from labd.model.states import RunState

NOW = datetime(2025, 3, 1, 12, 0, tzinfo=UTC)


def trace(
    trace_id: str = "t",
    *,
    days: float = 0.0,
    gb: float = 1.0,
    outcome: RunState = RunState.COMPLETED,
    labels: dict[str, str] | None = None,
    pinned: bool = False,
    archived: bool = False,
    local: bool = True,
) -> Kept:
    """A trace whose run ended so many days ago."""
    ended_at = NOW - timedelta(days=days)
    return Kept(trace_id, int(gb * GB), ended_at, outcome, labels or {}, pinned, archived, local)


def ids(going: list[Going], way: Way | None = None) -> list[str]:
    return [each.trace.id for each in going if way in (None, each.way)]


def test_nothing_goes_unless_lab_toml_says_so() -> None:
    everything = [trace(f"t{n}", days=10_000, gb=1000, outcome=outcome) for n, outcome in enumerate(RunState)]
    assert due(everything, Keep(), archive=False, now=NOW) == []
    assert reclaim(everything, Keep(), 10**15, archive=False) == []


def test_what_is_too_old_goes_with_the_oldest_first() -> None:
    traces = [trace("young", days=29), trace("old", days=31), trace("older", days=400)]
    going = due(traces, Keep(max_age_days=30), archive=False, now=NOW)
    assert ids(going) == ["older", "old"]
    assert going[1].reason == "it ended 31 days ago, more than 30"


def test_the_first_rule_that_is_met_holds() -> None:
    paper = KeepRule(label={"campaign": "paper"}, keep=True)
    failed = KeepRule(outcome=("failed", "cancelled"), max_age_days=7)
    debug = KeepRule(outcome=("failed",), label={"why": "debug"}, max_age_days=1)
    keep = Keep(max_age_days=100, rule=(paper, failed, debug))
    traces = [
        trace("paper", days=1000, outcome=RunState.FAILED, labels={"campaign": "paper", "x": "y"}),
        trace("failed", days=8, outcome=RunState.FAILED),
        trace("debug", days=2, outcome=RunState.FAILED, labels={"why": "debug"}),  # meets `failed` before its own
        trace("completed", days=99),
        trace("forgotten", days=101),
    ]
    going = due(traces, keep, archive=False, now=NOW)
    assert ids(going) == ["forgotten", "failed"]
    assert going[1].reason == "it ended 8 days ago, more than 7, the limit of failed or cancelled runs"
    assert rule_of(traces[2], keep.rule) is failed


def test_a_pinned_trace_and_one_whose_run_still_goes_on_stay_where_they_are() -> None:
    keep = Keep(max_age_days=1, max_size_gb=0.001, reclaim=True)
    for held in (trace(days=500, pinned=True), trace(days=500, outcome=RunState.RUNNING)):
        for archived in (False, True):
            one = [Kept(**{name: getattr(held, name) for name in held.__slots__} | {"archived": archived})]
            assert due(one, keep, archive=archived, now=NOW) == []
            assert reclaim(one, keep, 10**15, archive=archived) == []


def test_too_much_here_takes_the_oldest_until_it_fits() -> None:
    traces = [trace("a", days=4), trace("b", days=3), trace("c", days=2), trace("d", days=1)]
    going = due(traces, Keep(max_size_gb=2.5), archive=False, now=NOW)
    assert ids(going) == ["a", "b"]
    assert going[0].reason == "the traces here take more than 2.5 GB"


def test_with_an_archive_only_copies_go_for_want_of_room() -> None:
    traces = [trace("a", days=4), trace("b", days=3, archived=True), trace("c", days=2, archived=True, local=False)]
    going = due(traces, Keep(max_size_gb=0.5), archive=True, now=NOW)
    assert (ids(going), going[0].way) == (["b"], Way.DROP_LOCAL)
    assert "the archive has a copy" in going[0].reason


def test_what_goes_by_age_counts_as_room_that_was_made() -> None:
    traces = [trace("old", days=40), trace("a", days=4), trace("b", days=3)]
    assert ids(due(traces, Keep(max_age_days=30, max_size_gb=2), archive=False, now=NOW)) == ["old"]
    gone = due(traces, Keep(max_age_days=30), archive=False, now=NOW)
    assert reclaim(traces, Keep(reclaim=True), GB, archive=False, gone=gone) == []


def test_a_disk_that_is_nearly_full_takes_copies_first_and_others_only_if_allowed() -> None:
    traces = [trace("a", days=4), trace("b", days=3, archived=True), trace("c", days=2)]
    assert ids(reclaim(traces, Keep(), 3 * GB, archive=True)) == ["b"]
    assert ids(reclaim(traces, Keep(reclaim=True), 3 * GB, archive=True)) == ["b"]
    assert ids(reclaim(traces, Keep(), 3 * GB, archive=False)) == []
    assert ids(reclaim(traces, Keep(reclaim=True), 3 * GB, archive=False), Way.REMOVE) == ["a", "c"]


def test_a_copy_in_an_archive_that_the_lab_no_longer_has_lets_no_trace_go() -> None:
    """Its local copy is the only one within reach."""
    keep = Keep(max_size_gb=0.001, reclaim=True)
    assert due([trace(archived=True)], keep, archive=False, now=NOW) == []
    assert reclaim([trace(archived=True)], keep, GB, archive=False) == []


def test_what_is_kept_for_ever_may_leave_the_disk_once_it_is_archived() -> None:
    keep = Keep(reclaim=True, rule=(KeepRule(label={"campaign": "paper"}, keep=True),))
    labels = {"campaign": "paper"}
    assert reclaim([trace(labels=labels)], keep, GB, archive=False) == []
    (going,) = reclaim([trace(labels=labels, archived=True)], keep, GB, archive=True)
    assert going.way is Way.DROP_LOCAL


RULES = st.builds(
    lambda outcome, label, days: KeepRule(outcome=tuple(outcome), label=label, max_age_days=days, keep=days is None),
    st.lists(st.sampled_from(["completed", "failed", "invalid"]), max_size=2, unique=True),
    st.dictionaries(st.sampled_from("ab"), st.sampled_from("xy"), max_size=2),
    st.none() | st.floats(1, 100),
)
POLICIES = st.builds(
    Keep,
    max_age_days=st.none() | st.floats(0.1, 1e6),
    max_size_gb=st.none() | st.floats(0.001, 20),
    reclaim=st.booleans(),
    rule=st.lists(RULES, max_size=3).map(tuple),
)
TRACES = st.lists(
    st.builds(
        trace,
        st.integers(0, 10**6).map(str),
        days=st.floats(-1, 200),
        gb=st.floats(0, 5),
        outcome=st.sampled_from(RunState),
        labels=st.dictionaries(st.sampled_from("ab"), st.sampled_from("xy")),
        pinned=st.booleans(),
        archived=st.booleans(),
    ),
    max_size=12,
    unique_by=lambda each: each.id,
)


@given(TRACES, POLICIES, st.booleans(), st.integers(0, 10 * GB))
def test_whatever_is_decided_keeps_its_promises(traces: list[Kept], keep: Keep, archive: bool, short: int) -> None:
    aged = due(traces, keep, archive=archive, now=NOW)
    going = aged + reclaim(traces, keep, short, archive=archive, gone=aged)
    assert len(set(ids(going))) == len(going)
    assert ids(aged) == [each.trace.id for each in sorted(aged, key=lambda g: (g.trace.ended_at, g.trace.id))]
    for each in going:
        rule = rule_of(each.trace, keep.rule)
        assert not each.trace.pinned
        assert each.trace.outcome is not RunState.RUNNING
        assert each.reason
        assert each.way is not Way.REMOVE or rule is None or not rule.keep
        assert each.way is not Way.DROP_LOCAL or (archive and each.trace.archived)
    if keep.max_age_days is None and keep.max_size_gb is None and not keep.reclaim:
        assert all(each.way is Way.DROP_LOCAL or rule_of(each.trace, keep.rule) is not None for each in going)


@given(TRACES, POLICIES, st.booleans())
def test_deciding_again_after_it_was_done_finds_nothing(traces: list[Kept], keep: Keep, archive: bool) -> None:
    going = {each.trace.id: each.way for each in due(traces, keep, archive=archive, now=NOW)}
    left = []
    for each in traces:
        match going.get(each.id):
            case None:
                left.append(each)
            case Way.DROP_LOCAL:
                facts = {name: getattr(each, name) for name in each.__slots__}
                left.append(Kept(**facts | {"local": False}))
            case Way.REMOVE:
                pass
    assert due(left, keep, archive=archive, now=NOW) == []


@given(TRACES, POLICIES, st.booleans())
def test_the_order_in_which_traces_are_told_does_not_matter(traces: list[Kept], keep: Keep, archive: bool) -> None:
    assert due(traces, keep, archive=archive, now=NOW) == due(traces[::-1], keep, archive=archive, now=NOW)


@given(TRACES, POLICIES, st.booleans())
def test_no_trace_goes_by_age_that_is_within_all_limits(traces: list[Kept], keep: Keep, archive: bool) -> None:
    """So a lab need only look at those that are past one."""
    limits = age_limits(keep, NOW)
    by_age = keep.model_copy(update={"max_size_gb": None})
    for each in due(traces, by_age, archive=archive, now=NOW):
        assert any(
            each.trace.ended_at < limit.before and (not limit.outcomes or each.trace.outcome in limit.outcomes)
            for limit in limits
        )


def test_an_age_that_no_calendar_holds_is_no_limit() -> None:
    assert age_limits(Keep(max_age_days=1e9), NOW) == []
