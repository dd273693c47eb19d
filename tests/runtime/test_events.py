"""The bus tells those who listen, in order, and survives those who fail."""

from marserve.events import Bus, Event, QueueChanged, RequestRefused, VersionGone
from marserve.refs import ModelRef

GONE = VersionGone(ModelRef("m", "1"))


def test_subscribers_are_told_in_the_order_in_which_they_subscribed():
    bus, told = Bus(), []
    bus.subscribe(VersionGone, lambda event: told.append(("first", event)))
    bus.subscribe(VersionGone, lambda event: told.append(("second", event)))

    bus.publish(GONE)

    assert told == [("first", GONE), ("second", GONE)]


def test_a_subscriber_hears_only_the_type_it_asked_for():
    bus, told = Bus(), []
    bus.subscribe(VersionGone, told.append)
    bus.subscribe(Event, told.append)

    bus.publish(QueueChanged(ModelRef("m", "1"), 3))
    bus.publish(RequestRefused("m", "queue_full"))

    assert told == []


def test_an_event_that_nobody_listens_to_is_no_error():
    Bus().publish(GONE)


def test_a_subscriber_that_raises_is_logged_and_the_others_are_told(caplog):
    bus, told = Bus(), []

    def broken(event):
        raise ZeroDivisionError

    bus.subscribe(VersionGone, broken)
    bus.subscribe(VersionGone, told.append)

    bus.publish(GONE)

    assert told == [GONE]
    [record] = caplog.records
    assert record.name == "marserve.events"
    assert record.message == "a subscriber of VersionGone failed"
    assert record.exc_info[0] is ZeroDivisionError
