"""``kneerisk columns``: the data dictionary for a person, and for a program."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kneerisk.cli.app import app
from kneerisk.errors import UsageError
from kneerisk.method.predict import UNUSUAL_APPEARANCE
from kneerisk.radiograph import flags
from kneerisk.scoring.outputs import table
from kneerisk.scoring.outputs.columns import COLUMNS, dictionary


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["columns", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_every_column_is_there_and_every_flag_has_its_meaning() -> None:
    found = json.loads(run("--json"))
    assert list(found) == [column.name for column in COLUMNS]
    assert set(found["qc_flags"]["values"]) == {*flags.MEANINGS, UNUSUAL_APPEARANCE}
    printed = run()
    assert all(word in printed for word in ("kl_12m_p4", "mm/px", flags.NEAR_BORDER))


def test_a_files_own_dictionary_is_shown(tmp_path: Path) -> None:
    documents = table.metadata({"stack": "s"}, {}, extra={"clinic": "text"})
    out = tmp_path / "t.parquet"
    table.write([], out, lambda: documents, {"clinic": "text"}, tmp_path)
    found = json.loads(run(out, "--json"))
    assert found == dictionary({"clinic": "text"})
    assert found["clinic"]["meaning"] == "carried through from the manifest"
    with pytest.raises(UsageError, match="metadata cannot be read"):
        run(tmp_path / "none.parquet")
