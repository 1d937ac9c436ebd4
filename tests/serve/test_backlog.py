"""Messages wait in order, within two limits."""

import threading

from skip2lora.serve.backlog import Backlog


def taken(backlog):
    """All that wait."""
    return [payload for _, payload in iter(lambda: backlog.take(0), None)]


def test_they_are_taken_in_the_order_in_which_they_came():
    backlog = Backlog(10, 100)
    for payload in (b"1", b"2", b"3"):
        backlog.put("t", payload)
    assert len(backlog) == 3
    assert taken(backlog) == [b"1", b"2", b"3"]
    assert (len(backlog), backlog.n_bytes, backlog.n_dropped) == (0, 0, 0)


def test_of_too_many_the_oldest_go():
    backlog = Backlog(2, 100)
    for payload in (b"1", b"2", b"3"):
        backlog.put("t", payload)
    assert backlog.n_dropped == 1
    assert taken(backlog) == [b"2", b"3"]


def test_of_too_many_bytes_as_many_go_as_the_new_one_needs():
    backlog = Backlog(100, 20)
    for payload in (b"a" * 5, b"b" * 5, b"c" * 5):  # with their topics 18
        backlog.put("t", payload)
    assert (len(backlog), backlog.n_bytes) == (3, 18)
    backlog.put("t", b"d" * 7)
    assert (backlog.n_dropped, backlog.n_bytes) == (1, 20)
    backlog.put("t", b"e" * 10)
    assert taken(backlog) == [b"d" * 7, b"e" * 10]
    assert (backlog.n_dropped, backlog.n_bytes) == (3, 0)


def test_who_waits_is_woken_by_a_message_and_by_time():
    backlog, got = Backlog(2, 100), []
    assert backlog.take(0.01) is None
    thread = threading.Thread(target=lambda: got.append(backlog.take(30)))
    thread.start()
    backlog.put("t", b"1")
    thread.join(30)
    assert got == [("t", b"1")]
