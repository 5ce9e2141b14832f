"""Points of one host take turns, and say so where they did not."""

import os
import threading
import time

from llada_exp.bench.turn import turn


def test_an_exclusive_point_waits_for_the_one_before(tmp_path):
    order = []

    def other():
        with turn(True, tmp_path) as presence:
            order.append("second")
            assert not presence.overlapped()

    with turn(True, tmp_path) as presence:
        thread = threading.Thread(target=other)
        thread.start()
        time.sleep(0.3)
        order.append("first")
        assert not presence.overlapped()
    thread.join(20)
    assert order == ["first", "second"]


def test_both_learn_of_an_overlap_whoever_began(tmp_path):
    with turn(False, tmp_path) as long:
        assert not long.overlapped()
        time.sleep(0.05)
        with turn(False, tmp_path) as short:
            assert short.overlapped()
        assert long.overlapped(), "the other one is over, and yet has spoilt our timings"


def test_points_after_one_another_do_not_overlap(tmp_path):
    with turn(False, tmp_path):
        pass
    time.sleep(0.05)
    with turn(False, tmp_path) as presence:
        assert not presence.overlapped()


def test_who_waits_is_told_for_whom_and_what_would_not_wait(tmp_path, capfd):
    def other():
        with turn(True, tmp_path):
            pass

    with turn(True, tmp_path, point=tmp_path / "sweep" / "000"):
        thread = threading.Thread(target=other)
        thread.start()
        time.sleep(0.3)
    thread.join(20)
    told = capfd.readouterr().err
    assert f"process {os.getpid()} of " in told
    assert f", {tmp_path}/sweep/000, since 20" in told
    assert "exclusive=false" in told
