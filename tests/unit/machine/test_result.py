from propolis.machine.result import Result


def test_text_is_standard_output_whatever_its_bytes():
    assert Result(exit_code=0, stdout=b"a\xffb\n", stderr=b"").text == "a\ufffdb\n"
