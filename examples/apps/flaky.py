"""A process that crashes after 20 to 40 seconds (or CRASH_AFTER), so that there is a restart to watch."""

import os
import random
import sys
import time

end = int(os.environ.get("CRASH_AFTER") or random.randrange(20, 41))
print("info connected to the weather service")
for second in range(0, end, 5):
    print(f"info fair so far, {second} s")
    time.sleep(min(5, end - second))
sys.exit(f"fatal lost the weather service after {end} s")
