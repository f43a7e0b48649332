"""Rows added to a manifest: what was there stays, whoever wrote it and however it ends."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import DataError
from engine.manifest import COLUMNS, append_rows, columns_of, read_manifest

ROW = {"path": "b.flac", "label": "hey", "group": 'bo, "the" second', "start_s": "0.400"}
KNOWN = ("take", "start_s", "end_s", "mood")


@given(
    columns=st.permutations(["path", "label", "group"]),
    extra=st.lists(st.sampled_from(KNOWN), unique=True),
    end=st.sampled_from(["\n", "\r\n"]),
    last=st.booleans(),
    mark=st.booleans(),
    count=st.integers(0, 3),
)
def test_rows_join_a_manifest_of_any_columns_and_line_ends(
    tmp_path_factory: pytest.TempPathFactory, columns: list[str], extra: list[str], end: str,
    last: bool, mark: bool, count: int,
) -> None:  # fmt: skip
    manifest = tmp_path_factory.mktemp("m") / "manifest.csv"
    columns = [*columns, *extra]
    there = {"path": "a.flac", "label": "hé", "group": "ann"}
    lines = [",".join(columns), *[",".join(there.get(c, "") for c in columns)] * count]
    text = end.join(lines) + (end if last else "")
    before = text.encode("utf-8-sig" if mark else "utf-8")
    manifest.write_bytes(before)
    append_rows(manifest, [ROW, ROW])
    end = end if end.encode() in before else "\n"  # one line without an end tells of none
    after = manifest.read_bytes()
    assert after.startswith(before)
    assert after.endswith(end.encode())
    assert after.count(b"\r") == (after.count(b"\n") if end == "\r\n" else 0)
    clips = read_manifest(manifest)
    assert [c.path.name for c in clips] == ["a.flac"] * count + ["b.flac"] * 2
    assert (clips[-1].label, clips[-1].group) == ("hey", ROW["group"])
    assert clips[-1].start_s == (0.4 if "start_s" in columns else None)


def test_a_new_manifest_has_all_columns(tmp_path: Path) -> None:
    append_rows(tmp_path / "manifest.csv", [ROW])
    assert columns_of(tmp_path / "manifest.csv") == list(COLUMNS)


@pytest.mark.parametrize(
    "torn", ["b.flac,he", 'b.flac,hey,"bo', "b.fl", 'b.flac,"h,ann\nc.flac,hey,cy']
)
def test_a_torn_last_row_is_refused_and_left_as_it_is(tmp_path: Path, torn: str) -> None:
    manifest = tmp_path / "manifest.csv"
    manifest.write_text(f"path,label,group\na.flac,hey,ann\n{torn}")
    before = manifest.read_bytes()
    with pytest.raises(DataError, match="ends in the middle of row 3"):
        append_rows(manifest, [ROW])
    assert manifest.read_bytes() == before


def test_who_could_read_a_manifest_still_can(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.csv"
    manifest.write_text("path,label,group\n")
    manifest.chmod(0o664)
    append_rows(manifest, [ROW])
    assert manifest.stat().st_mode & 0o777 == 0o664


def test_two_processes_lose_none_of_each_others_rows(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from engine.manifest import append_rows\n"
        "for n in range(25): append_rows(Path(sys.argv[1]), "
        "[{'path': f'{sys.argv[2]}{n}', 'label': 'hey', 'group': 'g'}])"
    )
    manifest = tmp_path / "manifest.csv"
    command = [sys.executable, "-c", code, str(manifest)]
    writers = [subprocess.Popen([*command, name]) for name in "ab"]
    assert [writer.wait() for writer in writers] == [0, 0]
    names = sorted(clip.path.name for clip in read_manifest(manifest))
    assert names == sorted(f"{name}{n}" for name in "ab" for n in range(25))
