"""Messages per second through a queue of Python: queue.py QUEUE SIZE SIDE SECONDS."""
import importlib
import multiprocessing
import sys
import time


def produce(queue, size, seconds):
    message = bytes(size)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in range(16):
            queue.put(message)
    queue.put(None)


def consume(queue, counts):
    count = 0
    while queue.get() is not None:
        count += 1
    counts.put(count)


if __name__ == "__main__":
    module, name = sys.argv[1].rsplit(".", 1)
    size, side, seconds = int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    make = getattr(importlib.import_module(module), name)
    multiprocessing.set_start_method("fork")
    queue, counts = make(256), multiprocessing.SimpleQueue()
    if module == "faster_fifo":
        queue = make(max_size_bytes=256 * (size + 128))
    jobs = [multiprocessing.Process(target=produce, args=(queue, size, seconds)) for _ in range(side)]
    jobs += [multiprocessing.Process(target=consume, args=(queue, counts)) for _ in range(side)]
    began = time.monotonic()
    for job in jobs:
        job.start()
    total = sum(counts.get() for _ in range(side))
    print(total / (time.monotonic() - began))
    for job in jobs:
        job.join()
