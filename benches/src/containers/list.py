"""Calls per second to a list of Python's manager with texts of 64 bytes: list.py CALL SECONDS."""
import multiprocessing
import sys
import time

ELEMENTS = 1000

if __name__ == "__main__":
    call, seconds = sys.argv[1], float(sys.argv[2])
    manager = multiprocessing.Manager()
    shared = manager.list([bytes(64)] * ELEMENTS)
    count, began = 0, time.monotonic()
    while time.monotonic() < began + seconds:
        for index in range(20):
            if call == "get":
                assert len(shared[index]) == 64
            else:
                shared.append(bytes(64))
            count += 1
    print(count / (time.monotonic() - began))
    manager.shutdown()
