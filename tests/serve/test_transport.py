"""What is written to a connection in a turn of the event loop leaves in one piece, in order."""

import asyncio

import pytest

from skip2lora.serve.transport import MOST_BYTES, Gathering, Turn


class Wire(asyncio.Transport):
    """A transport that remembers what was done to it."""

    def __init__(self, log, name=""):
        super().__init__({"peername": ("::1", 1)})
        self.log, self.name = log, name
        self.protocol = asyncio.Protocol()
        self.reading = True

    def write(self, data):
        self.log.append((self.name, data))

    def close(self):
        self.log.append((self.name, "closed"))

    def abort(self):
        self.log.append((self.name, "aborted"))

    def write_eof(self):
        self.log.append((self.name, "eof"))

    def get_write_buffer_size(self):
        return 100

    def can_write_eof(self):
        return True

    def is_closing(self):
        return (self.name, "closed") in self.log

    def get_protocol(self):
        return self.protocol

    def set_protocol(self, protocol):
        self.protocol = protocol

    def is_reading(self):
        return self.reading

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = True

    def get_write_buffer_limits(self):
        return self.limits

    def set_write_buffer_limits(self, high=None, low=None):
        self.limits = (low, high)


def after(work, turns=1):
    """What connections a and b had done to them by ``work`` and so many turns of the loop."""
    log = []

    async def run():
        turn = Turn()
        work(Gathering(Wire(log, "a"), turn), Gathering(Wire(log, "b"), turn))
        before = list(log)
        for _ in range(turns):
            await asyncio.sleep(0)
        return before

    return asyncio.run(run()), log


def test_head_and_body_leave_together_once_all_were_written():
    def work(a, b):
        a.write(b"head")
        b.write(bytearray(b"other"))
        a.writelines([b" and ", memoryview(b"body")])

    before, log = after(work)
    assert before == []
    assert log == [("a", b"head and body"), ("b", b"other")]


def test_what_is_written_later_leaves_later():
    log = []

    async def run():
        a = Gathering(Wire(log), Turn())
        for text in (b"1", b"2"):
            a.write(text)
            await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(run())
    assert log == [("", b"1"), ("", b"2")]


def test_a_buffer_that_is_reused_is_copied():
    def work(a, b):
        data = bytearray(b"was")
        a.write(data)
        data[:] = b"now"

    assert after(work)[1] == [("a", b"was")]


def test_much_leaves_at_once():
    def work(a, b):
        a.write(b"x")
        a.write(b"y" * MOST_BYTES)
        a.write(b"z")

    before, log = after(work)
    assert before == [("a", b"x" + b"y" * MOST_BYTES)]
    assert log[1:] == [("a", b"z")]


@pytest.mark.parametrize(("name", "said"), [("close", "closed"), ("write_eof", "eof")])
def test_who_ends_sends_what_waits_before(name, said):
    def work(a, b):
        a.write(b"last words")
        getattr(a, name)()

    before, log = after(work)
    assert before == log == [("a", b"last words"), ("a", said)]


def test_who_aborts_drops_what_waits():
    def work(a, b):
        a.write(b"never")
        a.abort()
        assert a.get_write_buffer_size() == 100

    assert after(work)[1] == [("a", "aborted")]


def test_what_waits_counts_as_not_sent():
    def work(a, b):
        a.write(b"12345")
        assert a.get_write_buffer_size() == 105

    after(work)


def test_all_else_is_that_of_the_transport():
    def work(a, b):
        other = asyncio.Protocol()
        a.set_protocol(other)
        assert a.get_protocol() is other
        assert a.can_write_eof()
        assert a.is_reading()
        a.pause_reading()
        assert not a.is_reading()
        a.resume_reading()
        assert a.is_reading()
        a.set_write_buffer_limits(high=9, low=3)
        assert a.get_write_buffer_limits() == (3, 9)
        assert a.get_extra_info("peername") == ("::1", 1)
        assert a.get_extra_info("sslcontext", "none") == "none"
        assert not a.is_closing()
        a.close()
        assert a.is_closing()

    after(work)
