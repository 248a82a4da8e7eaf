"""A Ray cluster of several nodes on this machine, led by words on standard input; prints its address.

    python tests/cluster/ray_nodes.py CPUS_OF_HEAD CPUS_OF_NODE…

``kill 1`` ends the first node after the head without a farewell, ``kill 0`` the head; ``end`` all.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_raylet_start_wait_time_s"] = "240"  # noqa: SIM112 (a busy machine needs more than 30 s)
    from ray.cluster_utils import Cluster

    head, *others = (float(cpus) for cpus in sys.argv[1:])
    small = {"object_store_memory": 80 << 20}
    cluster = Cluster(True, head_node_args={"num_cpus": head, "include_dashboard": False, **small})
    nodes = [cluster.head_node, *(cluster.add_node(wait=False, num_cpus=cpus, **small) for cpus in others)]
    sys.stdout.write(f"address {cluster.address}\n")
    sys.stdout.flush()
    for line in sys.stdin:
        word, *which = line.split()
        if word == "end":
            break
        nodes[int(which[0])].kill_all_processes(check_alive=False, allow_graceful=False)
        sys.stdout.write("killed\n")
        sys.stdout.flush()
    cluster.shutdown()
