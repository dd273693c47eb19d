import gc
import threading
import weakref

import pytest

from marserve_handlers.contract import Context
from marserve_handlers.micro_batching import MicroBatching


class Handler:
    """Adds 1, doubles, writes."""

    def __init__(self):
        self.threads = {}
        self.indexes = []

    def note(self, stage):
        self.threads.setdefault(stage, set()).add(threading.current_thread().name)
        self.indexes.append(self.handle.get_micro_batch_idx())

    def preprocess(self, data):
        self.note("preprocess")
        return [row + 1 for row in data]

    def inference(self, data):
        self.note("inference")
        if 100 in data:
            raise KeyError("one hundred")
        return [value * 2 for value in data]

    def postprocess(self, data):
        self.note("postprocess")
        return [str(value) for value in data]

    def explain_handle(self, preprocessed, data):
        return [f"explained {one} {row}" for one, row in zip(preprocessed, data, strict=True)]

    def describe_handle(self):
        return "described"


@pytest.fixture
def make():
    made = []

    def make_one(size=1, **parallelism):
        handler = Handler()
        handler.handle = MicroBatching(handler, size, parallelism or None)
        made.append(handler.handle)
        return handler

    before = threading.active_count()
    yield make_one
    for one in made:
        one.shutdown()
    assert threading.active_count() == before


def in_batch(count, **header):
    context = Context("m", "/d", {}, count)
    context.begin_batch([str(index) for index in range(count)], [header] * count)
    return context


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("threads", [1, 3])
def test_results_keep_the_order_of_the_requests(size, threads, make):
    handler = make(size, preprocess=threads, inference=threads, postprocess=threads)
    for count in (0, 1, 7, 50):
        rows = list(range(count))
        assert handler.handle.handle(rows) == [str((row + 1) * 2) for row in rows]


def test_stages_run_at_the_same_time_in_threads_of_their_own(make):
    handler = make(1)
    met = threading.Barrier(2, timeout=10)

    def preprocess(data):
        if data == [1]:
            met.wait()  # while the slice before is in inference
        return data

    def inference(data):
        if data == [0]:
            met.wait()
        return data

    handler.preprocess, handler.inference = preprocess, inference
    assert handler.handle.handle([0, 1]) == ["0", "1"]
    handler = make(1, preprocess=2)
    handler.handle.handle(list(range(20)))
    [inference_thread] = handler.threads["inference"]
    assert inference_thread not in handler.threads["preprocess"] | handler.threads["postprocess"]
    assert len(handler.threads["preprocess"]) <= 2


def test_each_stage_knows_which_slice_it_has(make):
    handler = make(2)
    handler.handle.handle(list(range(6)))
    assert sorted(handler.indexes) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert handler.handle.get_micro_batch_idx() is None


def test_what_a_stage_raises_is_raised_and_the_next_batch_is_served(make):
    handler = make(1)
    for _ in range(3):
        with pytest.raises(KeyError, match="one hundred"):
            handler.handle.handle([1, 99, 3])
        assert handler.handle.handle([1]) == ["4"]


def test_even_a_request_to_exit_reaches_the_caller(make):
    handler = make(1)

    def leave(data):
        raise SystemExit(3)

    handler.postprocess = leave
    with pytest.raises(SystemExit):
        handler.handle.handle([1])


def test_it_stands_in_the_place_of_handle_and_reports_the_time(make):
    handler = make(2)
    context = in_batch(3)
    assert handler.handle([1, 2, 3], context) == ["4", "6", "8"]
    assert handler.context is context
    [sample] = context.metrics.drain()
    assert (sample.name, sample.unit, sample.request_ids) == (
        "HandlerTime",
        "Milliseconds",
        ("0", "1", "2"),
    )
    assert handler.handle([1], in_batch(1, explain="True")) == ["explained 2 1"]
    assert handler.handle([{}], in_batch(1, describe="True")) == ["described"]


def test_figures_that_stages_report_are_kept(make):
    handler = make(1, inference=3)
    context = in_batch(20)
    handler.inference = lambda data: context.metrics.add_counter("Seen", len(data)) or data
    handler.handle(list(range(20)), context)
    assert sum(one.value for one in context.metrics.drain() if one.name == "Seen") == 20


def test_threads_come_and_go_with_the_parallelism(make):
    before = threading.active_count()
    handler = make(1)
    assert threading.active_count() == before + 3
    handler.handle.parallelism = {"preprocess": 3, "postprocess": 2}
    assert threading.active_count() == before + 6
    assert handler.handle.parallelism == {"preprocess": 3, "postprocess": 2}
    handler.handle.parallelism = {}
    assert threading.active_count() == before + 3
    assert handler.handle.handle([1]) == ["4"]


@pytest.mark.parametrize(
    ("parallelism", "says"),
    [
        ({"training": 1}, "'training' is not a stage; stages are preprocess, inference"),
        ({"inference": 0}, "one thread at least, not 0"),
        ({"inference": "2"}, "one thread at least, not '2'"),
    ],
)
def test_a_parallelism_that_cannot_be_is_refused_and_changes_nothing(parallelism, says, make):
    handler = make(1, inference=2)
    with pytest.raises(ValueError, match=says):
        handler.handle.parallelism = parallelism
    assert handler.handle.parallelism == {"inference": 2}
    with pytest.raises(ValueError, match=says):
        MicroBatching(handler, 1, parallelism)


@pytest.mark.parametrize("size", [0, -1, "2", None])
def test_a_slice_has_one_request_at_least(size, make):
    with pytest.raises(ValueError, match="one request at least"):
        MicroBatching(Handler(), size)
    handler = make(1)
    handler.handle.micro_batch_size = size
    with pytest.raises(ValueError, match="one request at least"):
        handler.handle.handle([1])


def test_after_a_shutdown_it_says_so(make):
    handler = make(1)
    handler.handle.shutdown()
    handler.handle.shutdown()
    with pytest.raises(RuntimeError, match="was shut down"):
        handler.handle.handle([1])


def test_threads_of_a_handler_that_nobody_uses_end():
    before = set(threading.enumerate())
    handler = Handler()
    handler.handle = MicroBatching(handler, 1)
    assert handler.handle.handle([1]) == ["4"]
    threads = set(threading.enumerate()) - before
    gone = weakref.ref(handler)
    del handler
    gc.collect()
    for thread in threads:
        thread.join(10)
    assert gone() is None
    assert not any(thread.is_alive() for thread in threads)
