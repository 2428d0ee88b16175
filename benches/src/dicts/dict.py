"""Gets per second of a dictionary of Python with values of 64 bytes: dict.py DICTIONARY SECONDS."""
import importlib
import sys
import time

KEYS = 1000

if __name__ == "__main__":
    module, name = sys.argv[1].rsplit(".", 1)
    seconds = float(sys.argv[2])
    made = getattr(importlib.import_module(module), name)()
    shared = made.dict() if name == "Manager" else made
    keys = [number.to_bytes(16, "little") for number in range(KEYS)]
    for key in keys:
        shared[key] = bytes(64)
    count, began = 0, time.monotonic()
    while time.monotonic() < began + seconds:
        for key in keys[count % KEYS:][:20]:
            assert len(shared[key]) == 64
            count += 1
    print(count / (time.monotonic() - began))
    if name == "Manager":
        made.shutdown()
