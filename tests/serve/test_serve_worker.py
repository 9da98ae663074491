"""The worker: batches, their order, and what a failure costs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import Any

import pytest
from processes import LIMIT
from serve_fakes import FakeNet, answer, pairs_of, started

from bertnli.errors import CheckpointError, ConfigError
from bertnli.serve.limits import Limits
from bertnli.serve.metrics import Metrics
from bertnli.serve.worker import DEAD, LOADING, READY, STOPPED, Unavailable, Worker

Start = Callable[..., Worker]


@pytest.fixture
def net() -> FakeNet:
    return FakeNet()


@pytest.fixture
def start(net: FakeNet) -> Iterator[Start]:
    workers = []

    def begun(**limits: Any) -> Worker:
        workers.append(started(net, **limits))
        return workers[-1]

    yield begun
    net.gate.set()
    for worker in workers:
        worker.stop(LIMIT)


def sizes(net: FakeNet) -> list[int]:
    return [len(batch) for batch in net.batches]


def occupied(net: FakeNet, worker: Worker) -> Any:
    """Give the worker a pair on which it works while the net is held; return the future."""
    future = worker.predict([("first", "It is so.")])
    assert net.entered.acquire(timeout=LIMIT)
    return future


def test_all_get_their_answers_from_one_thread(net: FakeNet, start: Start) -> None:
    worker = start(max_batch=8)

    def ask(i: int) -> bool:
        pairs = pairs_of(f"client {i}", 1 + i % 11)
        return worker.predict(pairs).result(LIMIT) == [answer(pair) for pair in pairs]

    with ThreadPoolExecutor(16) as clients:
        assert all(clients.map(ask, range(300)))
    assert len(net.threads) == 1 and threading.get_ident() not in net.threads
    assert max(map(len, net.batches)) <= 8


def test_what_waits_is_computed_together(net: FakeNet, start: Start) -> None:
    worker = start(max_batch=16)
    with net.held():
        occupied(net, worker)
        futures = [worker.predict(pairs_of(str(i), 1)) for i in range(10)]
        assert worker.waiting == 10
    for future in futures:
        future.result(LIMIT)
    assert sizes(net) == [1, 10]


def test_a_long_request_leaves_room_for_short_ones(net: FakeNet, start: Start) -> None:
    worker = start(max_batch=8)
    with net.held():
        occupied(net, worker)
        long = worker.predict(pairs_of("long", 40))
        short = [worker.predict(pairs_of(f"short {i}", 1)) for i in range(3)]
    assert [len(future.result(LIMIT)) for future in short] == [1, 1, 1]
    assert long.result(LIMIT) == [answer(pair) for pair in pairs_of("long", 40)]
    premises = [premise for premise, _ in net.batches[1]]
    assert sorted(premises) == [f"long {i}" for i in range(5)] + [f"short {i} 0" for i in range(3)]
    assert sizes(net)[2:] == [8, 8, 8, 8, 3]


def test_more_requests_than_a_batch_has_room_for(net: FakeNet, start: Start) -> None:
    worker = start(max_batch=4)
    with net.held():
        occupied(net, worker)
        futures = [worker.predict(pairs_of(str(i), 2)) for i in range(6)]
    for i, future in enumerate(futures):
        assert future.result(LIMIT) == [answer(pair) for pair in pairs_of(str(i), 2)]
    assert [premise for premise, _ in net.batches[1]] == ["0 0", "1 0", "2 0", "3 0"]


def test_without_batching_requests_are_computed_alone(net: FakeNet, start: Start) -> None:
    worker = start(max_batch=4, batching=False)
    with net.held():
        occupied(net, worker)
        long = worker.predict(pairs_of("long", 6))
        short = worker.predict(pairs_of("short", 1))
    assert len(long.result(LIMIT)) == 6 and len(short.result(LIMIT)) == 1
    assert sizes(net) == [1, 4, 1, 2]


def test_a_batch_may_wait_for_more(net: FakeNet, start: Start) -> None:
    worker = start(max_batch=3, max_wait=LIMIT, timeout=2 * LIMIT)
    futures = [worker.predict(pairs_of(str(i), 1)) for i in range(3)]
    for future in futures:
        future.result(LIMIT / 2)  # a full batch waits no longer
    assert sizes(net) == [3]


def test_what_was_cancelled_is_not_computed(net: FakeNet, start: Start) -> None:
    worker = start(max_batch=4)
    with net.held():
        occupied(net, worker)
        gone, stays = worker.predict(pairs_of("gone", 9)), worker.predict(pairs_of("stays", 1))
        assert gone.cancel()
    assert len(stays.result(LIMIT)) == 1
    assert all(not premise.startswith("gone") for batch in net.batches for premise, _ in batch)
    with pytest.raises(CancelledError):
        gone.result()


def test_a_full_queue_refuses(net: FakeNet, start: Start) -> None:
    worker = start(max_batch=4, max_queue=10, max_pairs=10)
    with net.held():
        occupied(net, worker)
        waits = worker.predict(pairs_of("waits", 8))
        with pytest.raises(Unavailable, match="8 pairs are waiting, and the queue has room for 10"):
            worker.predict(pairs_of("more", 3))
        fits = worker.predict(pairs_of("fits", 2))
        waits.cancel()  # and makes room
        again = worker.predict(pairs_of("again", 8))
    assert len(fits.result(LIMIT)) == 2 and len(again.result(LIMIT)) == 8


def test_a_pair_that_fails_costs_its_own_request_alone(net: FakeNet, start: Start) -> None:
    worker = start(max_batch=16)
    with net.held():
        occupied(net, worker)
        good = [worker.predict(pairs_of(str(i), 3)) for i in range(3)]
        bad = worker.predict([("fine", "It is so."), ("poison", "It is so.")])
        late = worker.predict(pairs_of("late", 1))
    for i, future in enumerate(good):
        assert future.result(LIMIT) == [answer(pair) for pair in pairs_of(str(i), 3)]
    assert len(late.result(LIMIT)) == 1
    with pytest.raises(RuntimeError, match="cannot bear"):
        bad.result(LIMIT)
    assert worker.state == READY


def test_the_rest_of_a_long_request_that_failed_is_left(net: FakeNet, start: Start) -> None:
    worker = start(max_batch=2)
    bad = worker.predict([("poison", "It is so."), *pairs_of("rest", 20)])
    with pytest.raises(RuntimeError):
        bad.result(LIMIT)
    assert len(worker.predict(pairs_of("next", 1)).result(LIMIT)) == 1
    assert worker.waiting == 0 and sizes(net) == [2, 1]


def test_calls_take_turns_with_batches(net: FakeNet, start: Start) -> None:
    worker = start(max_batch=2)
    batches_before = []

    def call(net: FakeNet) -> None:
        batches_before.append(len(net.batches))

    with net.held():
        occupied(net, worker)
        long = worker.predict(pairs_of("long", 6))
        calls = [worker.call(call) for _ in range(2)]
        assert worker.waiting == 6 + 2 * 2
    for future in calls:
        future.result(LIMIT)
    assert len(long.result(LIMIT)) == 6
    assert batches_before == [2, 3]


def test_a_call_that_fails_is_an_answer_too(start: Start) -> None:
    worker = start()

    def fails(_: Any) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        worker.call(fails).result(LIMIT)
    assert worker.state == READY


def test_its_end_computes_what_waits(net: FakeNet, start: Start) -> None:
    worker = start(max_batch=4)
    with net.held():
        occupied(net, worker)
        futures = [worker.predict(pairs_of(str(i), 3)) for i in range(20)]
        ending = threading.Thread(target=worker.stop)
        ending.start()
    ending.join(LIMIT)
    assert all(len(future.result(0)) == 3 for future in futures)
    assert worker.state == STOPPED
    with pytest.raises(Unavailable, match="stopped"):
        worker.predict(pairs_of("late", 1))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_one_that_dies_answers_all(net: FakeNet, start: Start) -> None:
    worker = start(max_batch=1)
    with net.held():
        occupied(net, worker)
        fatal = worker.predict([("death", "It is so.")])
        waits = worker.predict(pairs_of("waits", 1))
    for future in (fatal, waits):
        with pytest.raises(Unavailable, match="dead"):
            future.result(LIMIT)
    assert worker.state == DEAD
    with pytest.raises(Unavailable, match="dead"):
        worker.predict(pairs_of("late", 1))


def test_a_model_that_cannot_be_loaded() -> None:
    def load() -> None:
        raise CheckpointError("there is none")

    worker = Worker("torch", load, Limits(), Metrics())
    assert worker.state == LOADING
    with pytest.raises(Unavailable, match="loading"):
        worker.predict(pairs_of("early", 1))
    with pytest.raises(CheckpointError, match="there is none"):
        worker.start()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"timeout": 0.0}, "timeout is 0.0; give seconds above 0"),
        ({"read_timeout": float("nan")}, "read_timeout is nan"),
        ({"max_wait": 30.0}, "less than the timeout of 30"),
        ({"max_pairs": 2000}, "2000 pairs, and the queue has room for 1024"),
    ],
)
def test_limits_that_cannot_be(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Limits(**wrong)
