"""The worker: batches, their order, and the cost of a failure."""

import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from processes import LIMIT
from serve_fakes import FakeNet, answer, pairs_of, started

from bertnli.errors import CheckpointError, ConfigError
from bertnli.serve.limits import Limits
from bertnli.serve.metrics import Metrics
from bertnli.serve.worker import DEAD, LOADING, READY, STOPPED, Unavailable, Worker


@pytest.fixture
def net():
    return FakeNet()


@pytest.fixture
def start(net):
    """A function that starts a worker with given limits."""
    workers = []

    def start(**limits):
        workers.append(started(net, **limits))
        return workers[-1]

    yield start
    net.gate.set()
    for worker in workers:
        worker.stop(LIMIT)


@contextmanager
def busy(net, worker):
    """Keep the worker computing a first pair until the end of the context."""
    with net.held():
        worker.predict([("first", "It is so.")])
        assert net.entered.acquire(timeout=LIMIT)
        yield


def sizes(net):
    return [len(batch) for batch in net.batches]


def assert_answers(future, name, count):
    assert future.result(LIMIT) == [answer(pair) for pair in pairs_of(name, count)]


@pytest.mark.parametrize("batching", [True, False])
def test_all_answers_come_from_one_thread(net, start, batching):
    worker = start(max_batch=8, batching=batching)

    def ask(i):
        assert_answers(worker.predict(pairs_of(f"{i}", 1 + i % 11)), f"{i}", 1 + i % 11)

    with ThreadPoolExecutor(16) as clients:
        list(clients.map(ask, range(200)))
    assert len(net.threads) == 1 and threading.get_ident() not in net.threads
    assert max(sizes(net)) <= 8


def test_a_batch_has_a_share_of_each_request(net, start):
    worker = start(max_batch=8)
    with busy(net, worker):
        long = worker.predict(pairs_of("long", 40))
        short = [worker.predict(pairs_of(f"short {i}", 1)) for i in range(3)]
        assert worker.waiting == 43
    for i in range(3):
        assert_answers(short[i], f"short {i}", 1)
    assert_answers(long, "long", 40)
    premises = [premise for premise, _ in net.batches[1]]
    assert sorted(premises) == [f"long {i}" for i in range(5)] + [f"short {i} 0" for i in range(3)]
    assert sizes(net) == [1, 8, 8, 8, 8, 8, 3]


def test_a_batch_has_room_for_the_oldest_requests(net, start):
    worker = start(max_batch=4)
    with busy(net, worker):
        futures = [worker.predict(pairs_of(str(i), 2)) for i in range(6)]
    for i, future in enumerate(futures):
        assert_answers(future, str(i), 2)
    assert [premise for premise, _ in net.batches[1]] == ["0 0", "1 0", "2 0", "3 0"]


def test_without_batching_requests_are_computed_alone(net, start):
    worker = start(max_batch=4, batching=False)
    with busy(net, worker):
        long = worker.predict(pairs_of("long", 6))
        short = worker.predict(pairs_of("short", 1))
    assert_answers(long, "long", 6)
    assert_answers(short, "short", 1)
    assert sizes(net) == [1, 4, 1, 2]


def test_a_full_batch_does_not_wait_for_more(net, start):
    worker = start(max_batch=3, max_wait=LIMIT, timeout=2 * LIMIT)
    futures = [worker.predict(pairs_of(str(i), 1)) for i in range(3)]
    for future in futures:
        future.result(LIMIT / 2)
    assert sizes(net) == [3]


def test_a_full_queue_refuses_and_a_cancelled_request_makes_room(net, start):
    worker = start(max_batch=4, max_queue=10, max_pairs=10)
    with busy(net, worker):
        cancelled = worker.predict(pairs_of("cancelled", 8))
        with pytest.raises(Unavailable, match="8 pairs are waiting, and the queue has room for 10"):
            worker.predict(pairs_of("more", 3))
        fits = worker.predict(pairs_of("fits", 2))
        assert cancelled.cancel()
        again = worker.predict(pairs_of("again", 8))
    assert_answers(fits, "fits", 2)
    assert_answers(again, "again", 8)
    assert not any("cancelled" in premise for batch in net.batches for premise, _ in batch)
    with pytest.raises(CancelledError):
        cancelled.result()


def test_a_pair_that_fails_costs_only_its_own_request(net, start):
    worker = start(max_batch=16)
    with busy(net, worker):
        good = [worker.predict(pairs_of(str(i), 3)) for i in range(3)]
        bad = worker.predict([*pairs_of("fine", 1), ("poison", "It is so."), *pairs_of("rest", 40)])
    for i, future in enumerate(good):
        assert_answers(future, str(i), 3)
    with pytest.raises(RuntimeError, match="cannot bear"):
        bad.result(LIMIT)
    assert_answers(worker.predict(pairs_of("next", 1)), "next", 1)
    assert worker.waiting == 0 and len(net.batches) <= 7  # the rest was not computed


def test_calls_take_turns_with_batches(net, start):
    worker, batches_before = start(max_batch=2), []
    with busy(net, worker):
        long = worker.predict(pairs_of("long", 6))
        calls = [worker.call(lambda net: batches_before.append(len(net.batches))) for _ in "ab"]
        assert worker.waiting == 6 + 2 * 2
    for future in calls:
        future.result(LIMIT)
    assert_answers(long, "long", 6)
    assert batches_before == [2, 3]
    with pytest.raises(ZeroDivisionError):
        worker.call(lambda _: 1 / 0).result(LIMIT)
    assert worker.state == READY


def test_queued_requests_are_answered_before_the_end(net, start):
    worker = start(max_batch=4)
    with busy(net, worker):
        futures = [worker.predict(pairs_of(str(i), 3)) for i in range(20)]
        ending = threading.Thread(target=worker.stop)
        ending.start()
    ending.join(LIMIT)
    for i, future in enumerate(futures):
        assert_answers(future, str(i), 3)
    assert worker.state == STOPPED
    with pytest.raises(Unavailable, match="stopped"):
        worker.predict(pairs_of("late", 1))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_worker_that_dies_answers_all(net, start):
    worker = start(max_batch=1)
    with busy(net, worker):
        futures = [worker.predict([(name, "It is so.")]) for name in ("death", "waits")]
    for future in futures:
        with pytest.raises(Unavailable, match="dead"):
            future.result(LIMIT)
    assert worker.state == DEAD
    with pytest.raises(Unavailable, match="dead"):
        worker.predict(pairs_of("late", 1))


def test_a_model_that_cannot_be_loaded():
    def load():
        raise CheckpointError("there is none")

    worker = Worker("torch", load, Limits(), Metrics())
    assert worker.state == LOADING
    with pytest.raises(Unavailable, match="loading"):
        worker.predict(pairs_of("early", 1))
    with pytest.raises(CheckpointError, match="there is none"):
        worker.start()


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"timeout": 0.0}, "timeout is 0.0; give seconds above 0"),
        ({"read_timeout": float("nan")}, "read_timeout is nan"),
        ({"max_wait": 30.0}, "less than the timeout of 30"),
        ({"max_pairs": 2000}, "2000 pairs, and the queue has room for 1024"),
    ],
)
def test_wrong_limits_are_refused(limits, message):
    with pytest.raises(ConfigError, match=message):
        Limits(**limits)
