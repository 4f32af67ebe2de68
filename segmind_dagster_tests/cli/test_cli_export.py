"""`segmind-dagster export`: whole datasets of what is stored, and nobody's folder overwritten."""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq
import pytest
from lab.cli_project import run
from lab.project import FLUX, REALITY
from PIL import Image
from sqlalchemy import update

from segmind_dagster.data_folder import opened
from segmind_dagster.ledger.schema import GENERATIONS
from segmind_dagster.sandbox import Faults, SandboxServer, SandboxSettings
from segmind_dagster.settings import load_settings

if TYPE_CHECKING:
    from lab.cli_project import Project

LLAMA, WAN = "llama_v3p1_8b_instruct", "wan_t2v_fast"
# what may never leave with a dataset
PRIVATE = ("output_uri", "request_id", "run_id")


@pytest.fixture
def fruit(project: Project) -> Project:
    """A set of three prompts for two models, of which one prompt was asked for earlier only."""
    project.generate(
        project.write("fruit", ["a pear", "a plum", "an old fig"], models={FLUX: {"steps": 3}, REALITY: {}})
    )
    project.generate(
        project.write("fruit", ["a pear", "a plum", "a 'new' | fig"], models={FLUX: {"steps": 3}, REALITY: {}})
    )
    return project


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def stored(generation_id: str) -> Path:
    found = Path(load_settings().outputs_url).glob(f"*/{generation_id}.*")
    (path,) = (path for path in found if not path.name.endswith(".facts.json"))
    return path


def change(generation_id: str, **values: Any) -> None:
    with opened(load_settings()) as (ledger, _):
        where = GENERATIONS.c.generation_id == generation_id
        ledger.write(lambda connection: connection.execute(update(GENERATIONS).where(where).values(**values)))


def test_an_image_folder_has_each_current_picture_with_its_metadata(fruit: Project, tmp_path: Path) -> None:
    answer = run("export", "fruit", "--output", str(tmp_path / "out"), "--format", "imagefolder")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith("6 images, ")
    rows = lines(tmp_path / "out" / "metadata.jsonl")
    assert sorted(row["prompt"] for row in rows) == sorted(["a pear", "a plum", "a 'new' | fig"] * 2)
    for row in rows:
        picture = tmp_path / "out" / row["file_name"]
        content = picture.read_bytes()
        assert content == stored(row["generation_id"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == row["output_sha256"]
        with Image.open(picture) as opened_picture:
            assert opened_picture.size == (row["width"], row["height"])
        assert not set(PRIVATE) & set(row)
        assert row["api_origin"] == fruit.server.url
    flux = [row for row in rows if row["file_name"].startswith(f"{FLUX}/")]
    assert {row["params"] for row in flux} == {'{"steps": 3}'}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(
        ["README.md", "metadata.jsonl", FLUX, REALITY]
    )


def test_parquet_holds_the_pictures_themselves(fruit: Project, tmp_path: Path) -> None:
    assert run("export", "fruit", "--output", str(tmp_path / "out"), "--model", FLUX, "--also-former").code == 0
    (file,) = (tmp_path / "out" / "data").iterdir()
    assert file.name == "train-00000-of-00001.parquet"
    table = pq.read_table(file)
    rows = table.to_pylist()
    assert sorted((row["prompt"], row["is_current"]) for row in rows) == [
        ("a 'new' | fig", True), ("a pear", True), ("a plum", True), ("an old fig", False),
    ]  # fmt: skip
    for row in rows:
        assert row["image"]["bytes"] == stored(row["generation_id"]).read_bytes()
        with Image.open(io.BytesIO(row["image"]["bytes"])) as picture:
            assert picture.size == (row["width"], row["height"])
        assert isinstance(row["cost_usd"], Decimal)
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert set(features) == set(table.column_names)
    assert features["image"] == {"_type": "Image"}


def test_export_sends_no_request_and_needs_no_key(
    fruit: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = fruit.server.account()
    monkeypatch.delenv("SEGMIND_API_KEY")
    assert run("export", "fruit", "--output", str(tmp_path / "out")).code == 0
    assert fruit.server.account() == before


def test_failures_and_damaged_files_are_left_out_and_named(fruit: Project, tmp_path: Path) -> None:
    assert run("export", "fruit", "--output", str(tmp_path / "whole"), "--format", "imagefolder").code == 0
    first, second, third = (row["generation_id"] for row in lines(tmp_path / "whole" / "metadata.jsonl")[:3])
    stored(first).unlink()
    stored(second).write_bytes(stored(second).read_bytes() + b"!")
    change(third, state="failed", failure_kind="job_failed", error="out of | memory <b>")
    answer = run("export", "fruit", "--output", str(tmp_path / "out"), "--format", "imagefolder")
    assert answer.code == 0
    assert answer.out.startswith("3 images, ")
    assert "Left out: 3, listed in its README.md." in answer.err
    assert {first, second, third} & {
        row["generation_id"] for row in lines(tmp_path / "out" / "metadata.jsonl")
    } == set()
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    for generation_id, why in ((first, "the file is gone"), (second, "its digest differs"), (third, "memory")):
        (line,) = [line for line in card.splitlines() if generation_id in line]
        assert why in line
        assert line in [line for line in card.splitlines() if line.count("|") - line.count("\\|") == 5]
    assert r"out of \| memory \<b\>" in card


def test_a_set_without_an_output_is_one_message_and_no_folder(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = run("export", "nosuch", "--output", str(tmp_path / "out")).refusal()
    assert "The ledger holds nothing for a prompt set 'nosuch'" in message
    with SandboxServer(
        SandboxSettings(port=0, picture_mode="tiny", fixed_latency_s=0.02, faults=Faults(script=["invalid", "invalid"]))
    ) as server:
        failing = type(project)(server, tmp_path / "failing")
        monkeypatch.setenv("SEGMIND_PROJECT_DIR", str(failing.folder))
        monkeypatch.setenv("SEGMIND_API_URL", server.url)
        failing.generate(failing.write("fruit", 2))
        message = run("export", "fruit", "--output", str(tmp_path / "out")).refusal()
    assert "2 generations, none of them stored and whole (invalid_request)" in message
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == []


def test_a_foreign_folder_is_never_overwritten(fruit: Project, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "README.md").write_text("# my thesis")
    for extra in ([], ["--overwrite"]):
        message = run("export", "fruit", "--output", str(theirs), *extra).refusal()
        assert "holds files that no export made. Nothing was written" in message
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(theirs)
    for name in ("file", "link"):
        assert "is there already and no folder" in run("export", "fruit", "--output", str(tmp_path / name)).refusal()
    beneath = run("export", "fruit", "--output", str(tmp_path / "file" / "out")).refusal()
    assert "cannot be written" in beneath
    outputs = Path(load_settings().outputs_url)
    assert "inside the outputs folder" in run("export", "fruit", "--output", str(outputs / "x")).refusal()
    assert (theirs / "README.md").read_text() == "# my thesis"
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_an_earlier_export_is_replaced_only_when_asked(fruit: Project, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    assert run("export", "fruit", "--output", str(out)).code == 0
    assert "--overwrite replaces it" in run("export", "fruit", "--output", str(out)).refusal()
    assert run("export", "fruit", "--output", str(out), "--format", "imagefolder", "--overwrite").code == 0
    assert not (out / "data").exists()
    assert len(lines(out / "metadata.jsonl")) == 6
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


@pytest.mark.parametrize("form", ["imagefolder", "parquet"])
def test_several_kinds_of_output_get_a_folder_each(project: Project, tmp_path: Path, form: str) -> None:
    project.generate(project.write("mixed", ["a pear"], models=[FLUX, WAN, LLAMA]))
    out = tmp_path / "out"
    answer = run("export", "mixed", "--output", str(out), "--format", form)
    assert answer.code == 0, answer.err
    assert answer.out.startswith("1 image, 1 text, 1 video, ")
    assert {path.name for path in out.iterdir()} == {"README.md", "image", "text", "video"}
    if form == "imagefolder":
        (text,) = lines(out / "text" / "texts.jsonl")
        (video,) = lines(out / "video" / "metadata.jsonl")
        assert (out / "video" / video["file_name"]).suffix == ".mp4"
    else:
        ((text,), (video,)) = (pq.read_table(out / kind / "data").to_pylist() for kind in ("text", "video"))
        assert video["video"]["path"].endswith(".mp4")
    assert text["text"] == stored(text["generation_id"]).read_text(encoding="utf-8")


def test_outputs_in_a_bucket_are_exported_like_those_in_a_folder(
    project: Project, tmp_path: Path, s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGMIND_OUTPUTS_URL", f"{s3_bucket}/outputs")
    project.generate(project.write("fruit", ["a pear", "a plum"]))
    answer = run("export", "fruit", "--output", str(tmp_path / "out"), "--format", "imagefolder")
    assert answer.code == 0, answer.err
    for row in lines(tmp_path / "out" / "metadata.jsonl"):
        content = (tmp_path / "out" / row["file_name"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == row["output_sha256"]


def test_file_names_use_only_generation_ids_whatever_the_ledger_holds(fruit: Project, tmp_path: Path) -> None:
    assert run("export", "fruit", "--output", str(tmp_path / "whole"), "--format", "imagefolder").code == 0
    first, second = (row["generation_id"] for row in lines(tmp_path / "whole" / "metadata.jsonl")[:2])
    change(first, output_format="/../../evil")
    change(second, output_format=None)
    answer = run("export", "fruit", "--output", str(tmp_path / "out"), "--format", "imagefolder")
    assert answer.out.startswith("4 images, ")
    assert answer.err.count("cannot be a file name") == 2


def test_leftovers_of_a_killed_export_are_removed_after_a_day(project: Project, tmp_path: Path) -> None:
    project.generate(project.write("fruit", 1))
    out = tmp_path / "out"
    names = (".out.0123456789ab.partial", ".out.ab0123456789.former", ".out.abcdef012345.partial", ".out.notes.partial")
    abandoned, former, recent, somebodys = folders = [tmp_path / name for name in names]
    two_days_ago = time.time() - 2 * 86_400
    for folder in folders:
        (folder / "image").mkdir(parents=True)
        (folder / "image" / "a.parquet").write_bytes(b"half")
    for folder in (abandoned, former, somebodys):
        for path in (*folder.rglob("*"), folder):
            os.utime(path, (two_days_ago, two_days_ago))
    answer = run("export", "fruit", "--output", str(out))
    assert answer.code == 0
    assert [folder.exists() for folder in folders] == [False, False, True, True]
    assert f"{recent} belongs to another export, or to one that was killed" in answer.out
    assert str(abandoned) not in answer.out


def test_a_failed_export_keeps_what_a_killed_one_had_moved_away(project: Project, tmp_path: Path) -> None:
    project.write("harvest", 1, models=[FLUX])
    project.submit_and_die("harvest")
    former = tmp_path / ".out.0123456789ab.former"
    former.mkdir()
    os.utime(former, (0, 0))
    assert run("export", "harvest", "--output", str(tmp_path / "out")).code == 1
    assert former.exists()
