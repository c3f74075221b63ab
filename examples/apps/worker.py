"""A worker that takes one job after another and says how it goes, in every way that a log line can."""

import json
import os
import random
import sys
import time

me = os.environ.get("NODE_APP_INSTANCE", "0")
pace = float(os.environ.get("PACE", "1"))  # seconds between two jobs, about
seed = random.Random(int(me))
print(f"info worker {me} is ready")

for job in range(1, sys.maxsize):
    began = time.monotonic()
    primes = sum(all(n % d for d in range(2, int(n**0.5) + 1)) for n in range(2, seed.randrange(20_000, 60_000)))
    spent = round((time.monotonic() - began) * 1000)
    print(f"info job {job}: {primes} primes in {spent} ms")
    if job % 4 == 0:
        print(json.dumps({"level": "debug", "message": "queue looked at", "job": job, "waiting": seed.randrange(20)}))
    if job % 6 == 0:
        print(f"warning job {job} was slower than promised")
    if job % 9 == 0:
        print(f"job {job} asked for a file that is not there; skipped", file=sys.stderr)
    time.sleep(pace * seed.uniform(0.5, 2))
