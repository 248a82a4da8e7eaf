"""The guide's commands: a simulated OAI release becomes a stack that scores a simulated MOST release."""

from pathlib import Path

import polars as pl
from typer.testing import CliRunner

from kneerisk.cli.app import app
from kneerisk.stack.stack import Stack

runner = CliRunner()


def run(*arguments: object, accept: tuple[int, ...] = (0,)) -> str:
    result = runner.invoke(app, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code in accept, result.output
    return result.output


def test_a_release_becomes_a_stack_that_scores_another_release(tmp_path: Path) -> None:
    oai, prepared, out, stack = (tmp_path / name for name in ("oai", "prepared", "run", "mine"))
    coarse = ("--spacing-mm", 0.8, "--no-progress")
    run("simulate", oai, "--participants", 24, "--visits", "0,12", "--layout", "oai", *coarse)
    run("prepare", "oai", oai, "--out", prepared, "--workers", 1, "--no-progress")
    run("train", "all", "--recipe", "debug", "--data", prepared, "--out", out)
    # So small a rehearsal grades at chance, which nobody publishes unasked.
    run("train", "publish", "--data", prepared, "--out", out, "--stack", stack, "--steps", 2, "--force")

    most, table = tmp_path / "most", tmp_path / "risks.parquet"
    run("simulate", most, "--participants", 3, "--visits", "0", "--layout", "most", "--seed", 4, *coarse)
    # 3: some of a release's radiographs are no knees, and are refused.
    run("score", most, "--stack", stack, "--out", table, "--no-progress", accept=(0, 3))

    rows = pl.read_parquet(table)
    scored = rows.filter(pl.col("status") == "ok")
    truth = pl.read_parquet(most / "truth.parquet").filter(pl.col("image_path").is_not_null())
    knees = set(truth.filter(~pl.col("simulated_replaced")).select("image_path", "side").iter_rows())
    assert set(scored.select("source_path", "side").iter_rows()) <= set(
        truth.select("image_path", "side").iter_rows()
    )
    assert len(scored) >= 0.8 * len(knees) > 0
    assert set(scored["stack"]) == {Stack.load(stack).name}
    assert scored["risk_12m"].is_between(0, 1).all()
    assert rows.filter(pl.col("status") != "ok")["reason"].null_count() == 0
