import threading

from propolis.hypervisor.console import Tail


def test_a_tail_keeps_the_last_bytes_only():
    tail = Tail(10)
    for number in range(1000):
        tail.append(b"%d " % number)
    assert tail.text() == "7 998 999 "[-10:]
    tail.append(b"x" * 100)
    assert tail.text() == "x" * 10


def test_a_tail_is_text_whatever_was_printed():
    tail = Tail()
    tail.append(b"a\r\nb\xff\xfe\xc3")
    tail.append(b"\xa9\n")
    assert tail.text() == "a\nb\ufffd\ufffd\xe9\n"


def test_a_tail_may_be_read_while_it_grows():
    tail = Tail(100)
    writer = threading.Thread(target=lambda: [tail.append(b"abc") for _ in range(20_000)])
    writer.start()
    while writer.is_alive():
        assert len(tail.text()) <= 100
    writer.join()
