"""Imports modules, then forks a program for each request: see tests/programs.py, which starts it.

No thread runs here and no tensor is made, so that what a fork inherits is whole.
"""

import contextlib
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import sys

MOST = 2**20


def next_program(control):
    """The request of a program, in the process that is to run it; SystemExit, here, where no more come."""
    while True:
        data, fds, _, _ = socket.recv_fds(control, MOST, 3)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not data:
            sys.exit()
        if os.fork() == 0:
            control.close()
            break
        for fd in fds:
            os.close(fd)
    answer, *streams = fds
    if pid := os.fork():  # between the two: it can wait for the program while more requests come
        os.write(answer, b"%d\n" % pid)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with contextlib.suppress(BrokenPipeError):
            os.write(answer, b"%d\n" % code)
        os._exit(0)
    for fd, stream in zip(streams, (1, 2), strict=True):
        os.dup2(fd, stream)
    for fd in fds:
        os.close(fd)
    return json.loads(data)


def main():
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is pytest's
    control = socket.socket(fileno=int(sys.argv[1]))
    for name in sys.argv[2:]:
        importlib.import_module(name)
    gc.freeze()  # or a collection writes to, and so copies, every page that a fork shares
    request = next_program(control)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    sys.argv = [request["module"], *request["words"]]
    sys.modules.pop(request["module"], None)  # an import of its own would be warned of
    runpy.run_module(request["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
