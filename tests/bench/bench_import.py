"""Seconds that `import robustfm.all` takes beyond torch and torchvision, each time in a fresh interpreter

    python tests/bench/bench_import.py [--rounds 5]"""
import argparse, statistics, subprocess, sys

code = "import robustfm, torch, torchvision, time; t = time.perf_counter(); import robustfm.all; print(time.perf_counter()-t)"

def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--rounds', type=int, default=5); p.add_argument('--record', action='store_true', help='for `make bench ARGS=--record`: the floor is the same everywhere')
    seconds = sorted(float(subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout) for _ in range(p.parse_args().rounds))
    print(f'import robustfm.all over torch and torchvision: {statistics.median(seconds):.2f} s [{seconds[0]:.2f} … {seconds[-1]:.2f}]    floor 1.0, aim 0.3')
    return statistics.median(seconds)>1

if __name__=='__main__': sys.exit(main())
