"""Makes the warm starts of `tiny` that are not in the cache yet, and says how often each of them succeeds.

    make warm-starts                                     all of them, one to five minutes each on a core
    python scripts/make_warm_starts.py ledger-8 late-8   some

Runs make those they need by themselves (`model.policy.base: tiny:ledger-8`).
"""

import argparse

from gpo_lightning.evaluation.exact import exact_success
from gpo_lightning.policy import Policy, PolicyConfig
from gpo_lightning.policy.embedded.warm_start import lessons, warm_start_names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=warm_start_names())
    parser.add_argument("--problems", type=int, default=512, help="held-out problems that success is measured on")
    options = parser.parse_args()
    print(f"{'warm start':16} {'steps':>5} {'success':>8} {'a quarter longer':>17}")
    for name in options.names:
        policy = Policy(PolicyConfig(base=f"tiny:{name}", dtype="float32"))
        source = lessons()[name.rpartition("-")[0]].source
        longer = source.resized(source.steps + source.steps // 4)
        found = [
            float(exact_success(policy, its, its.heldout()[: options.problems]).mean()) for its in (source, longer)
        ]
        print(f"{name:16} {source.steps:5} {found[0]:8.1%} {found[1]:17.1%}", flush=True)


if __name__ == "__main__":
    main()
