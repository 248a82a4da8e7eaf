"""``--run-report``: what a run was asked, what it ran on, what it came to, where the time went."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kneerisk_engines.files import written_whole

from kneerisk.machine import machine, peak_memory, versions
from kneerisk.scoring.outputs.summary import Summary
from kneerisk.storage import writing


def write_run_report(
    path: Path, settings: Mapping[str, Any], summary: Summary, rates: Sequence[float] = ()
) -> None:
    """Write the report; it is complete or absent. ``rates``: images a second, minute by minute."""
    report = {
        "alarms": [asdict(alarm) for alarm in summary.alarms],
        "settings": settings,
        "summary": summary.to_json(),
        "knees_per_second": round(summary.ok / summary.seconds, 3) if summary.seconds else None,
        "throughput": {
            "images_per_second": round(summary.images / summary.seconds, 3) if summary.seconds else None,
            "by_minute": [round(rate, 3) for rate in rates],
        },
        "memory_peak_bytes": peak_memory(),
        "versions": versions(),
        "machine": machine(),
    }
    text = json.dumps(report, indent=2, ensure_ascii=False, default=str) + "\n"
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as aside:
            aside.write_text(text, "utf-8")
