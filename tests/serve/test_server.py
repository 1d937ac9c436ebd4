import gc
import logging
import signal
import socket
import threading

import pytest

from skip2lora.errors import ParameterError
from skip2lora.serve.server import Stop, listening, run


def test_any_free_port_is_taken():
    with listening("127.0.0.1", 0) as at:
        assert at.getsockname()[1] > 0
        with socket.create_connection(at.getsockname()):
            pass


def test_a_port_that_is_taken_is_refused():
    with listening("127.0.0.1", 0) as at, pytest.raises(ParameterError, match="already in use"):
        listening("127.0.0.1", at.getsockname()[1])


@pytest.mark.parametrize(("host", "port"), [
    ("203.0.113.1", 0), ("no such host.invalid", 0), ("\0", 0),
])  # fmt: skip
def test_other_addresses_are_refused(host, port):
    with pytest.raises(ParameterError, match="cannot listen at"):
        listening(host, port)


def test_a_stop_is_said_once_for_all():
    stop = Stop()
    assert not stop()
    stop.say()
    assert stop()
    assert stop.signal is None
    stop.say(15)
    stop.say(2)
    assert (stop(), stop.signal) == (True, 15)


def test_another_thread_stops_it():
    pytest.importorskip("uvicorn")
    stop, heard = Stop(), []

    async def app(scope, receive, send):
        heard.append(scope)

    with listening("127.0.0.1", 0) as at:
        run(app, at, stop, lambda: threading.Thread(target=stop.say).start())
    assert (stop(), stop.signal, heard) == (True, None, [])


def test_cycles_are_looked_for_seldom_while_it_runs_and_as_before_then():
    pytest.importorskip("uvicorn")
    stop, seen, before = Stop(), [], gc.get_threshold()

    def started():
        seen.append((gc.get_threshold(), gc.get_freeze_count() > 0, gc.isenabled()))
        stop.say()

    with listening("127.0.0.1", 0) as at:
        run(None, at, stop, started)
    assert seen == [((20_000, *before[1:]), True, True)]
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0


def test_a_port_out_of_range_is_refused():
    with pytest.raises(ParameterError, match="port is 70000"):
        listening("127.0.0.1", 70000)


def test_in_another_thread_signals_stay_as_they_are():
    pytest.importorskip("uvicorn")
    stop, before = Stop(), [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    during = []

    def started():
        during.extend(signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM))
        stop.say()

    with listening("127.0.0.1", 0) as at:
        thread = threading.Thread(target=run, args=(None, at, stop, started))
        thread.start()
        thread.join(30)
    assert not thread.is_alive()
    assert during == before


def test_log_handlers_of_other_programs_stay_open():
    """Some close what they write to, which may be the standard error of before."""
    pytest.importorskip("uvicorn")
    stop, closed = Stop(), []

    class Handler(logging.Handler):
        def close(self):
            closed.append(self)
            super().close()

    handler = Handler()

    async def app(scope, receive, send):
        raise NotImplementedError

    with listening("127.0.0.1", 0) as at:
        run(app, at, stop, stop.say)
    assert not closed
    handler.close()


def test_signals_are_as_before_once_it_has_stopped():
    pytest.importorskip("uvicorn")
    stop, both = Stop(), (signal.SIGINT, signal.SIGTERM)
    before, during = [signal.getsignal(each) for each in both], []

    def started():
        during.extend(signal.getsignal(each) for each in both)
        stop.say()

    with listening("127.0.0.1", 0) as at:
        run(None, at, stop, started)
    assert not set(during) & set(before)
    assert [signal.getsignal(each) for each in both] == before
