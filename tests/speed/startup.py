"""How fast the command line answers, beside importing torch: `python tests/speed/startup.py`.

Claim: `sslbench --help` answers in under 0.5 s and imports neither torch nor timm.
"""

import statistics
import subprocess
import sys
import time

ROUNDS = 7
HELP = "import sys; sys.argv = ['sslbench', '--help']; from bench.cli import main; main()"
LIST = "import sys; sys.argv = ['sslbench', 'ls']; from bench.cli import main; main()"
LOADED = """
import contextlib, io, sys
sys.argv = ["sslbench", "ls"]
from bench.cli import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main()
print([name for name in ("torch", "timm", "pandas", "matplotlib") if name in sys.modules])
"""


def seconds(code: str) -> float:
    """Median wall time of a fresh interpreter running ``code``."""
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    """Print the medians and the ratio to `import torch`."""
    reference = seconds("import torch")
    for name, code in (("--help", HELP), ("ls", LIST)):
        took = seconds(code)
        ratio = f"{reference / took:.1f}x faster than import torch ({reference:.2f} s)"
        print(f"sslbench {name:<7} {took:.2f} s; {ratio}")
    loaded = subprocess.run(
        [sys.executable, "-c", LOADED], check=True, capture_output=True, text=True
    )
    print(f"heavy packages imported by `ls`: {loaded.stdout.strip()}")


if __name__ == "__main__":
    main()
